"""Classification of an image: medical or not by pixels and model, facets by fitted heads or zero-shot."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from mirage_inference.bundles import GateFacet, GateHead, ImageGate
from mirage_inference.encoder.picture_statistics import NAMES, squared

Array = npt.NDArray[np.float32]
_SHOWN = 5


class Kind(IntEnum):
    """As mirage.v1.ImageKind."""

    MEDICAL = 1
    UNSURE = 2
    NOT_MEDICAL = 3


@dataclass(frozen=True)
class FacetGuess:
    """Values of one facet with their probabilities, best first, at most five; `known` if the best is reliable.

    `stated` if the header of a DICOM file states the value, which is then the only one.
    """

    facet: str
    values: tuple[tuple[str, float], ...]
    known: bool
    stated: bool = False


@dataclass(frozen=True)
class Guess:
    """A guess about an image; `medical` is the calibrated probability that it is a medical image."""

    kind: Kind
    medical: float
    facets: tuple[FacetGuess, ...]


class PictureGate:
    """Logistic regression on picture statistics and their squares. `mirage_training.picture_gate` makes
    `picture_gate.json`.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        if tuple(content["statistics"]) != NAMES:
            raise ValueError("the picture gate was made for other statistics")
        self._mean, self._scale, self._weights = (
            np.asarray(content[name], dtype=np.float64) for name in ("mean", "scale", "weights")
        )
        self._bias, self._decline_below, self._medical_from = (
            float(content[name]) for name in ("bias", "decline_below", "medical_from")
        )

    @classmethod
    def load(cls) -> "PictureGate":
        """The one that comes with the encoder."""
        return cls(json.loads(resources.files("mirage_encoder").joinpath("picture_gate.json").read_text("utf-8")))

    def judge(self, statistics: Array) -> tuple[Kind, float]:
        """The kind and the probability of a medical image, for statistics as `picture_statistics` gives them."""
        logit = float(((squared(statistics) - self._mean) / self._scale) @ self._weights + self._bias)
        return _judge(logit, self._decline_below, self._medical_from)


def _judge(logit: float, decline_below: float, medical_from: float) -> tuple[Kind, float]:
    medical = float(1.0 / (1.0 + np.exp(-np.clip(logit, -30, 30))))
    if medical < decline_below:
        return Kind.NOT_MEDICAL, medical
    return (Kind.MEDICAL if medical >= medical_from else Kind.UNSURE), medical


class Gate:
    """The guesses of one bundle. `embed` gives unit vectors [N, dimension] of texts; it is called once, here."""

    def __init__(self, gate: ImageGate | None, embed: Callable[[Sequence[str]], Array]) -> None:
        self._pictures = PictureGate.load()
        gate = gate or ImageGate()
        self._medical = gate.medical
        self._facets = {name: (facet, _prototypes(facet, embed)) for name, facet in gate.facets.items()}
        self._heads = {name: (head, np.stack([row.matrix() for row in head.rows])) for name, head in gate.heads.items()}

    def guess(self, statistics: Array, vector: Array, stated: Mapping[str, str] | None = None) -> Guess:
        """The guess for an image of these statistics and this unit vector.

        `stated` has the facets that a DICOM header states: they are taken as they are, and such a file is medical.
        """
        kind, medical = self._judge(statistics, vector)
        if stated and "modality" in stated:
            kind, medical = Kind.MEDICAL, 1.0
        if kind is Kind.NOT_MEDICAL:
            return Guess(kind, medical, ())
        facets = {name: _guess(name, facet, rows @ vector) for name, (facet, rows) in self._facets.items()}
        for name, (head, rows) in self._heads.items():
            found = read_head(name, head, rows @ vector, certain=kind is Kind.MEDICAL)
            near = not found.known or head.is_near(found.values[0][0], vector)
            facets[name] = replace(found, known=found.known and near)
        for name, value in (stated or {}).items():
            facets[name] = FacetGuess(name, ((value, 1.0),), known=True, stated=True)
        return Guess(kind, medical, tuple(facets.values()))

    def _judge(self, statistics: Array, vector: Array) -> tuple[Kind, float]:
        if self._medical is None:
            return self._pictures.judge(statistics)
        row = self._medical.row
        logit = float(row.matrix() @ vector + squared(statistics) @ np.array(self._medical.statistics)) + row.bias
        return _judge(logit, self._medical.decline_below, self._medical.medical_from)


def read_head(name: str, head: GateHead, products: Array, *, certain: bool) -> FacetGuess:
    """The guess of a fitted head, for the products of its rows with a vector; nothing is known unless `certain`.

    The probabilities do not add up to 1: the rest is that of an image that the head was not made for.
    """
    logits = products + np.array([row.bias for row in head.rows], np.float32)
    shares = np.exp(logits - logits.max())
    shares = shares / shares.sum()
    values: dict[str, float] = {}
    for row, share in zip(head.rows, shares, strict=True):
        if row.value:
            values[row.value] = values.get(row.value, 0.0) + float(share)
    best = sorted(values.items(), key=lambda each: -each[1])[:_SHOWN]
    value, probability = best[0]
    return FacetGuess(name, tuple(best), certain and probability >= head.known_from.get(value, 2.0))


def _prototypes(facet: GateFacet, embed: Callable[[Sequence[str]], Array]) -> Array:
    """The mean embedding of each value's prompts, normalised: float32 [values, dimension]."""
    means = np.stack([embed(value.prompts).mean(axis=0) for value in facet.values.values()])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def _guess(name: str, facet: GateFacet, cosines: Array) -> FacetGuess:
    scaled = facet.temperature * (cosines - cosines.max())
    shares = np.exp(scaled) / np.exp(scaled).sum()
    names = list(facet.values)
    order = np.argsort(-shares, kind="stable")[:_SHOWN]
    best = int(order[0])
    bar = facet.values[names[best]].sure_from
    return FacetGuess(
        name,
        tuple((names[i], float(shares[i])) for i in order),
        bar is not None and float(cosines[best]) >= bar,
    )
