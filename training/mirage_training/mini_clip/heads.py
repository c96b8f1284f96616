"""Linear heads on an encoder's unit vectors: which facet values an image has, and if it is a medical image at all.

A head is a softmax of rows. A row is a value in a context ("none" of a chest X-ray, "none" of a breast ultrasound), so that
values with one name need not look alike. One row without a value stands for everything else that was seen in training.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mirage_inference.bundles import GateHead, GatePlace, GateRow
from mirage_training.mini_clip.facts import Item

Rows = NDArray[np.float32]
ELSE = ""
PRECISION = 0.95
LEAST = 30
"""Different images of a value that are needed before it may be known."""
_RIDGE = 2e-5
_STEPS = 70

_BODY = ("brain", "head", "teeth", "breast", "skin", "eye", "hand", "blood", "lumbar spine")
_MANY_PARTS = ("abdomen", "chest", "spine", "shoulder", "neck", "heart", "lower leg")
FINDINGS: dict[str, tuple[str, ...]] = {
    "kermany": ("pneumonia", "none"),
    "nih": ("pneumonia", "none"),
    "brain-tumor": ("glioma", "meningioma", "pituitary tumor"),
    "busi": ("malignant breast lesion", "benign breast lesion", "none"),
    "isic": ("melanoma", "melanocytic nevus"),
}
"""Sources that have their findings and the absence of them, or several to tell apart; of others a finding is its source."""


def modality(item: Item) -> str | None:
    """Context and value of an item's modality; None if it is not known."""
    return _only(item.values("modality"), item)


def body_part(item: Item) -> str | None:
    """The part of the body. A section through two of them counts for the smaller one, or not at all."""
    values = item.values("body")
    for value in _BODY:
        if value in values:
            return f"|{value}"
    found = [value for value in _MANY_PARTS if value in values]
    return f"|{found[0]}" if len(found) == 1 else _only([], item)


def plane(item: Item) -> str | None:
    """The plane of a section or the direction of a radiograph."""
    values = item.values("plane")
    if not values and {"modality:x-ray", "modality:ct", "modality:mr", "modality:nm"} & item.facts:
        return None
    return f"{(item.values('modality') or ['?'])[0]}|{values[0]}" if values else ELSE


def finding(item: Item) -> str | None:
    """The finding, where a source has images with and without it."""
    names = FINDINGS.get(item.source)
    if names is None:
        return ELSE
    values = item.values("finding")
    for name in names:
        if name in values:
            context = "chest" if item.source in ("kermany", "nih") else item.source
            return f"{context}|{name}"
    return None


FACETS: dict[str, Callable[[Item], str | None]] = {
    "modality": modality,
    "body_part": body_part,
    "plane": plane,
    "finding": finding,
}


def _only(values: list[str], item: Item) -> str | None:
    if "kind:other" in item.facts:
        return ELSE
    return f"|{values[0]}" if len(values) == 1 else None


def softmax_rows(vectors: Rows, labels: Sequence[str], weights: Rows) -> tuple[list[str], Rows, Rows]:
    """Fits one row for each label by weighted maximum likelihood with a ridge: names, weights [rows, dimension], biases."""
    names = sorted(set(labels))
    truth = np.zeros((len(labels), len(names)), np.float32)
    truth[np.arange(len(labels)), [names.index(label) for label in labels]] = 1
    inputs = np.hstack([vectors, np.ones((len(vectors), 1), np.float32)])
    share = (weights / weights.sum()).astype(np.float32)[:, None]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        matrix = flat.reshape(len(names), -1).astype(np.float32)
        logits = inputs @ matrix.T
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        pulled = _RIDGE * matrix[:, :-1]
        slope = ((np.exp(logs) - truth) * share).T @ inputs
        slope[:, :-1] += 2 * pulled
        value = -(logs * truth * share).sum() + (pulled * matrix[:, :-1]).sum()
        return float(value), slope.astype(np.float64).ravel()

    begin = np.zeros(len(names) * inputs.shape[1])
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
    matrix = found.reshape(len(names), -1).astype(np.float32)
    return names, matrix[:, :-1], matrix[:, -1]


def _packed(weights: Rows) -> dict[str, Any]:
    """Scale and int8 weights as the manifest has them."""
    scale = float(np.abs(weights).max()) / 127 or 1.0
    data = np.round(weights / scale).astype(np.int8).tobytes()
    return {"scale": float(f"{scale:.6g}"), "weights": base64.b64encode(data)}


def row(value: str, weights: Rows, bias: float) -> GateRow:
    """A row as the manifest has it: int8 weights."""
    return GateRow(value=value, bias=round(bias, 5), **_packed(weights))


def head_of(
    names: Sequence[str], matrix: Rows, bias: Rows, temperature: float, known_from: dict[str, float]
) -> GateHead:
    """A head as the manifest has it, its logits divided by a temperature."""
    rows = [
        row(name.partition("|")[2], each / temperature, float(b) / temperature)
        for name, each, b in zip(names, matrix, bias, strict=True)
    ]
    return GateHead(rows=tuple(rows), known_from=known_from)


def probabilities(head: GateHead, vectors: Rows) -> tuple[list[str], Rows]:
    """Values and their probabilities [N, values]; what is missing to 1 is that of anything else."""
    logits = vectors @ np.stack([each.matrix() for each in head.rows]).T + np.array([each.bias for each in head.rows])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    values = sorted({each.value for each in head.rows} - {ELSE})
    columns = [[i for i, each in enumerate(head.rows) if each.value == value] for value in values]
    return values, np.stack([shares[:, column].sum(axis=1) for column in columns], axis=1).astype(np.float32)


def cooled(head: GateHead, temperature: float, least: float = 0.0) -> GateHead:
    """The head with its logits divided by a temperature, and values known from `least` at the earliest.

    The limits of known values are moved with the same temperature, as if there were two choices.
    """
    rows = tuple(
        each.model_copy(
            update={"scale": float(f"{each.scale / temperature:.6g}"), "bias": round(each.bias / temperature, 5)}
        )
        for each in head.rows
    )
    known = {}
    for value, bar in head.known_from.items():
        odds = (max(bar, 1e-6) / max(1 - bar, 1e-6)) ** (1 / temperature)
        known[value] = round(max(odds / (1 + odds), least), 4)
    return head.model_copy(update={"rows": rows, "known_from": known})


def calibrated(head: GateHead, vectors: Rows, truth: NDArray[np.str_]) -> GateHead:
    """The head with the temperature that makes the truth of these images likeliest, and values known only from where 95 of 100
    answers to them are right. They are images that the encoder has not learnt from: of those it is too sure.
    """

    def loss(temperature: float) -> float:
        values, shares = probabilities(cooled(head, temperature), vectors)
        return -float(np.log(np.maximum(shares[np.arange(len(truth)), np.searchsorted(values, truth)], 1e-6)).mean())

    temperature = min((round(1.06**step, 4) for step in range(-12, 41)), key=loss)
    values, shares = probabilities(cooled(head, temperature), vectors)
    sure = shares.max(axis=1)
    right = np.array(values)[shares.argmax(axis=1)] == truth
    enough = (bar for bar in np.sort(sure) if (sure >= bar).sum() >= LEAST and right[sure >= bar].mean() >= PRECISION)
    least = next(enough, None)
    if least is None:
        return cooled(head, temperature).model_copy(update={"known_from": {}})
    return cooled(head, temperature, float(least))


def calibrated_crosswise(
    head: GateHead, vectors: Rows, truth: NDArray[np.str_], halves: NDArray[np.int64]
) -> dict[str, float]:
    """What the calibration reaches: of each half, calibrated on the other one."""
    best, sure, known = np.empty_like(truth), np.empty(len(truth), np.float32), np.empty(len(truth), bool)
    for half in (0, 1):
        mine = halves == half
        found = calibrated(head, vectors[~mine], truth[~mine])
        best[mine], known[mine] = best_known(found, vectors[mine])
        sure[mine] = probabilities(found, vectors[mine])[1].max(axis=1)
    right = best == truth
    return {
        "images": len(truth),
        "right": round(float(right.mean()), 4),
        "calibration_error": round(calibration_error(sure, right), 4),
        "known": round(float(known.mean()), 4),
        "right_of_known": round(float(right[known].mean()), 4) if known.any() else 0.0,
    }


def best_known(head: GateHead, vectors: Rows) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """The likeliest value of each vector, and if it is likely enough to be known, wherever the vector lies."""
    values, shares = probabilities(head, vectors)
    best = np.array(values)[shares.argmax(axis=1)]
    bars = np.array([head.known_from.get(value, 2.0) for value in best])
    return best, shares.max(axis=1) >= bars


def means(vectors: Rows, groups: Sequence[tuple[str, str] | None], least: int = 5) -> list[tuple[str, Rows]]:
    """Value and mean direction of each group (a name and a value) of at least `least` vectors; values of "" have none."""
    members: dict[tuple[str, str], list[int]] = {}
    for n, group in enumerate(groups):
        if group is not None and group[1] != ELSE:
            members.setdefault(group, []).append(n)
    found = [(group[1], vectors[ns].mean(axis=0)) for group, ns in sorted(members.items()) if len(ns) >= least]
    return [(value, mean / np.linalg.norm(mean)) for value, mean in found]


def places_of(centres: Sequence[tuple[str, Rows]], near_from: float) -> tuple[GatePlace, ...]:
    """Places as the manifest has them, with one limit."""
    limit = round(near_from, 4)
    return tuple(GatePlace(value=value, bias=0.0, near_from=limit, **_packed(mean)) for value, mean in centres)


def cosine_to(centres: Sequence[tuple[str, Rows]], vectors: Rows, values: NDArray[np.str_]) -> Rows:
    """Each vector's cosine with the nearest centre of its value; -1 if there is none."""
    cosines = vectors @ np.stack([mean for _, mean in centres]).T
    other = values[:, None] != np.array([value for value, _ in centres])[None]
    return np.asarray(np.where(other, -1.0, cosines).max(axis=1), np.float32)


def is_near(head: GateHead, vectors: Rows, values: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Which vectors lie near a place of their value, as `GateHead.is_near` says it of one."""
    return np.array([head.is_near(str(value), vector) for value, vector in zip(values, vectors, strict=True)], bool)


def calibration_error(sure: Rows, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error of the best value's probability."""
    place = np.minimum((sure * bins).astype(int), bins - 1)
    return float(sum(abs(sure[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in set(place)))
