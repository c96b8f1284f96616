"""The mini CLIP's gate: what `POST /v1/classify` may be asked, with which probabilities, and what counts as known.

`python -m mirage_training.mini_clip.gate fit` makes `models/mini/clip/gate.json` from the views that the model was trained on;
`... write` puts it into a bundle's manifest, which changes no number of the model and not its fingerprint.
Each head is fitted on one half of the images and read on the other half, both ways: that sets its temperature by the likelihood
of the truth, and from which probability a value is known: where at least 95 of 100 such values are right, above the lowest
twentieth of the right ones. A value that fewer than 30 different images show is never known.

A body part is known only near a place of it: the mean vector of a source's views that show it. The limit leaves out
the lowest twentieth of the known and right whole pictures of training. Renderings have their own places and limit, because each
lies where its plane, contrast and level are. Findings are calibrated once more on the dev images, from which the encoder learnt
nothing. `... near` fits the places again, `... medical` what is a medical image at all, and `... findings` calibrates findings;
each keeps all else of a gate. Pictures that are not medical come from packages, from drawing code, and from the folders of
`--others` (gate_pictures.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_inference.bundles import (
    MANIFEST_FILE,
    EncoderManifest,
    GateHead,
    GatePlace,
    ImageGate,
    MedicalHead,
    load_encoder,
)
from mirage_inference.encoder.picture_statistics import picture_statistics, squared
from mirage_training.mini_clip.encoders import Encoder, OriginalEncoder
from mirage_training.mini_clip.facts import Item
from mirage_training.mini_clip.gate_pictures import (
    LEAST_PX,
    dev_pictures,
    medical_pictures,
    other_pictures,
    picture_files,
    screened,
    whole_pictures,
)
from mirage_training.mini_clip.heads import (
    ELSE,
    FACETS,
    FINDINGS,
    LEAST,
    PRECISION,
    Rows,
    best_known,
    calibrated,
    calibrated_crosswise,
    calibration_error,
    cosine_to,
    finding,
    head_of,
    means,
    places_of,
    probabilities,
    row,
    softmax_rows,
)
from mirage_training.mini_clip.views import read_shard

_TEMPERATURES = tuple(round(1.12**step, 4) for step in range(-4, 16))
_LOWEST_RIGHT = 0.05
SHARDS = 6
"""Shards of which all views are read, not only those that show findings."""
DECLINE_BELOW = 0.05
MEDICAL_FROM = 0.2
PLACED = ("body_part",)
"""Facets that are known only near a place. Modality is not one: of unseen sources it is right in 94 % by its probability alone,
and places would take more right ones away than wrong ones (docs/evaluation.md)."""
_LEVEL_MM = 20


def fitted_head(vectors: Rows, items: Sequence[Item], labels: Sequence[str]) -> tuple[GateHead, dict[str, Any]]:
    """A calibrated head for labelled vectors, and what was measured on the half that did not fit it."""
    halves = np.array([zlib.crc32(item.key.encode()) % 2 for item in items])
    truth = np.array([label.partition("|")[2] for label in labels])
    values = sorted(set(truth) - {ELSE})
    ones = np.ones(len(items), np.float32)
    parts = []
    for half in (0, 1):
        rest = halves != half
        parts.append(
            softmax_rows(vectors[rest], [label for label, fits in zip(labels, rest, strict=True) if fits], ones[rest])
        )

    def read(temperature: float) -> Rows:
        shares = np.zeros((len(items), len(values)), np.float32)
        for half, part in enumerate(parts):
            found, read = probabilities(head_of(*part, temperature, {}), vectors[halves == half])
            shares[np.ix_(halves == half, [values.index(value) for value in found])] = read
        return shares

    def loss(shares: Rows) -> float:
        whole = np.column_stack([shares, 1 - shares.sum(axis=1)])
        right = [values.index(each) if each else len(values) for each in truth]
        return -float(np.log(np.maximum(whole[np.arange(len(truth)), right], 1e-6)).mean())

    temperature = min(_TEMPERATURES, key=lambda each: loss(read(each)))
    shares = read(temperature)
    best = np.array(values)[shares.argmax(axis=1)]
    sure = shares.max(axis=1)
    known_from = {}
    for value in values:
        mine = best == value
        images = len({item.key for item, each in zip(items, truth, strict=True) if each == value})
        bar = _bar(sure[mine], truth[mine] == value) if images >= LEAST else None
        if bar is not None:
            known_from[value] = bar
    inside = truth != ELSE
    names, matrix, bias = softmax_rows(vectors, labels, ones)
    return head_of(names, matrix, bias, temperature, known_from), {
        "views": len(items),
        "right": round(float((best == truth)[inside].mean()), 4),
        "calibration_error": round(calibration_error(sure[inside], (best == truth)[inside]), 4),
    }


def _bar(sure: Rows, right: NDArray[np.bool_]) -> float | None:
    """The lowest probability from which values are right often enough, above the lowest twentieth of the right ones."""
    for bar in np.sort(sure[right])[int(right.sum() * _LOWEST_RIGHT) :]:
        above = right[sure >= bar]
        if len(above) >= LEAST and above.mean() >= PRECISION:
            return round(float(bar), 4)
    return None


def fitted_medical(
    views: Rows, items: Sequence[Item], pictures: Sequence[Image.Image], vectors: Rows, medical: NDArray[np.bool_]
) -> MedicalHead:
    """Reads from unit vector and picture statistics if an image is medical.

    Fitted on views, without statistics, and on whole pictures; both kinds weigh the same.
    """
    statistics = np.stack([squared(picture_statistics(each)) for each in pictures])
    middle = (statistics[medical].mean(axis=0) + statistics[~medical].mean(axis=0)) / 2
    unknown = np.zeros((len(views), statistics.shape[1]), np.float32)
    inputs = np.vstack([np.hstack([views, unknown]), np.hstack([vectors, statistics - middle])])
    truth = np.concatenate([["kind:other" not in item.facts for item in items], medical])
    weights = np.where(truth, 1 / truth.sum(), 1 / (~truth).sum()).astype(np.float32)
    _, matrix, bias = softmax_rows(
        inputs.astype(np.float32), ["medical" if each else "else" for each in truth], weights
    )
    slope, offset, width = matrix[1] - matrix[0], float(bias[1] - bias[0]), vectors.shape[1]
    return MedicalHead(
        row=row(ELSE, slope[:width], offset - float(slope[width:] @ middle)),
        statistics=tuple(round(float(each), 5) for each in slope[width:]),
        decline_below=DECLINE_BELOW,
        medical_from=MEDICAL_FROM,
    )


def _group(facet: str, item: Item) -> tuple[str, str] | None:
    """Whose mean an image belongs to, and its value."""
    label = FACETS[facet](item)
    if label is None:
        return None
    spec = item.spec
    place = f"{spec.plane} {spec.sequence} {round(spec.level_mm / _LEVEL_MM)}" if spec else ""
    return f"{item.source} {place}", label.partition("|")[2]


def placed_head(
    facet: str, head: GateHead, vectors: Rows, items: Sequence[Item], whole: Rows, shown: Sequence[Item]
) -> GateHead:
    """The head with places of views.

    Their limits are set by whole pictures (`whole`, which show `shown`), and by views of renderings.
    """
    rendered = np.array([item.spec is not None for item in items], bool)
    groups = [_group(facet, item) for item in items]
    places: list[GatePlace] = []
    for mine, cases, cased in (
        (~rendered, whole, shown),
        (rendered, vectors[rendered], [item for item in items if item.spec is not None]),
    ):
        centres = means(vectors[mine], [group for group, each in zip(groups, mine, strict=True) if each])
        if not centres or not len(cases):
            continue
        best, known = best_known(head, cases)
        truth = np.array([(_group(facet, item) or ("", ELSE))[1] for item in cased])
        known &= best == truth
        if known.any():
            places += places_of(centres, float(np.quantile(cosine_to(centres, cases, best)[known], _LOWEST_RIGHT)))
    return head.model_copy(update={"places": tuple(places)})


def with_places(gate: ImageGate, vectors: Rows, items: Sequence[Item], whole: Rows, shown: Sequence[Item]) -> ImageGate:
    """The gate with the places of views, in place of those that it has."""
    heads = {
        name: placed_head(name, head, vectors, items, whole, shown) if name in PLACED else head
        for name, head in gate.heads.items()
    }
    return gate.model_copy(update={"heads": heads})


def read_views(folder: Path, checkpoint: Path, shards: int, left_out: Collection[str] = ()) -> tuple[Rows, list[Item]]:
    """Unit vectors of views and their items: of the first shards all that show no rendering and every sixth of the others,
    of the rest those that have findings to distinguish; none of the sources in `left_out`.
    """
    import torch

    from mirage_models.encoder.checkpoint import load_checkpoint
    from mirage_training.mini_clip.joint import encode_features

    model = load_checkpoint(checkpoint).model.float().eval()
    vectors, items = [], []
    for number, path in enumerate(sorted(folder.glob("*.npy"))):
        features, found = read_shard(path)
        chosen = [
            n
            for n, item in enumerate(found)
            if item.source not in left_out
            and (item.source in FINDINGS or (number < shards and (item.spec is None or n % 6 == 0)))
        ]
        items += [found[n] for n in chosen]
        with torch.inference_mode():
            for start in range(0, len(chosen), 256):
                part = torch.from_numpy(features[chosen[start : start + 256]].astype(np.float32))
                vectors.append(torch.nn.functional.normalize(encode_features(model, part), dim=1).numpy())
    return np.concatenate(vectors), items


def fit(vectors: Rows, items: Sequence[Item], medical: MedicalHead) -> ImageGate:
    """The gate: a head for each facet."""
    heads, measured = {}, {}
    for name, label in FACETS.items():
        labels = [label(item) for item in items]
        chosen = [n for n, each in enumerate(labels) if each is not None]
        heads[name], measured[name] = fitted_head(
            vectors[chosen], [items[n] for n in chosen], [str(labels[n]) for n in chosen]
        )
    return ImageGate(heads=heads, medical=medical, measured=measured)


def medical_head(
    encoder: Encoder,
    vectors: Rows,
    items: Sequence[Item],
    real: Path,
    *,
    others: Sequence[Path] = (),
    left_out: Collection[str] = (),
) -> MedicalHead:
    """Reads if an image is medical, fitted on views and on whole pictures; none of the sources in `left_out`."""
    medical = screened(medical_pictures(real, left_out=left_out), np.random.default_rng(20261130))
    pictures = medical + other_pictures(np.random.default_rng(20261129), others)
    kinds = np.arange(len(pictures)) < len(medical)
    return fitted_medical(vectors, items, pictures, encoder.images(pictures), kinds)


def fit_to_run(
    encoder: Encoder,
    checkpoint: Path,
    views: Path,
    real: Path,
    *,
    shards: int = SHARDS,
    others: Sequence[Path] = (),
    left_out: Collection[str] = (),
) -> ImageGate:
    """The gate of a run, from the views that it was trained on and whole pictures; none of the sources in `left_out`.

    `others`: folders of pictures that are not medical.
    """
    vectors, items = read_views(views, checkpoint, shards, left_out)
    gate = fit(vectors, items, medical_head(encoder, vectors, items, real, others=others, left_out=left_out))
    pictures, shown = whole_pictures(real, left_out)
    gate = with_places(gate, vectors, items, encoder.images(pictures) if pictures else vectors[:0], shown)
    return with_calibrated_findings(gate, encoder, real, left_out)


def with_calibrated_findings(
    gate: ImageGate, encoder: Encoder, real: Path, left_out: Collection[str] = ()
) -> ImageGate:
    """The gate with findings that are calibrated on dev images; as it is, if none of them has findings to distinguish."""
    pictures, items, cases = dev_pictures(real, FINDINGS, left_out)
    labels = [finding(item) for item in items]
    chosen = [n for n, label in enumerate(labels) if label is not None]
    truth = np.array([str(labels[n]).partition("|")[2] for n in chosen])
    head = gate.heads["finding"]
    if not chosen or not set(truth) <= {each.value for each in head.rows}:
        return gate
    vectors = encoder.images([pictures[n] for n in chosen])
    halves = np.array([zlib.crc32(cases[n].encode()) % 2 for n in chosen])
    measured = calibrated_crosswise(head, vectors, truth, halves) if len(set(halves)) > 1 else {}
    return gate.model_copy(
        update={
            "heads": {**gate.heads, "finding": calibrated(head, vectors, truth)},
            "measured": {**gate.measured, "finding, dev": measured},
        }
    )


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="the model, as open_clip's checkpoint folder")
    parser.add_argument("--work", type=Path, required=True, help="folder with the views of `prepare`")
    parser.add_argument("--real", type=Path, required=True, help="folder of real images with captions.jsonl")
    parser.add_argument("--shards", type=int, default=SHARDS, help="shards of views to read")
    parser.add_argument("--out", type=Path, required=True)


def _read_gate(path: Path) -> ImageGate:
    return ImageGate.model_validate_json(path.read_text("utf-8"))


def _write_gate(gate: ImageGate, path: Path) -> int:
    path.write_text(json.dumps(gate.model_dump(mode="json"), indent=1) + "\n", "utf-8")
    print(json.dumps(gate.measured, indent=2))
    return 0


def _fitted(parsed: argparse.Namespace, encoder: Encoder) -> ImageGate:
    views = parsed.work / "views"
    if parsed.command == "near":
        pictures, shown = whole_pictures(parsed.real)
        vectors, items = read_views(views, parsed.checkpoint, parsed.shards)
        return with_places(_read_gate(parsed.gate), vectors, items, encoder.images(pictures), shown)
    if parsed.command == "medical":
        vectors, items = read_views(views, parsed.checkpoint, parsed.shards)
        head = medical_head(encoder, vectors, items, parsed.real, others=parsed.others)
        return _read_gate(parsed.gate).model_copy(update={"medical": head})
    return fit_to_run(encoder, parsed.checkpoint, views, parsed.real, shards=parsed.shards, others=parsed.others)


def main(arguments: list[str] | None = None) -> int:
    """Fit or write."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.gate", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fit the gate")
    placing = commands.add_parser("near", help="fit the places of a fitted gate again, and nothing else")
    judging = commands.add_parser("medical", help="fit again what is a medical image, and nothing else")
    settling = commands.add_parser("findings", help="calibrate findings on dev images, and change nothing else")
    for each in (placing, judging, settling):
        each.add_argument("--gate", type=Path, required=True, help="a fitted gate")
    for each in (fitting, judging):
        each.add_argument("--others", type=Path, nargs="*", default=[], help="folders of pictures that are not medical")
    settling.add_argument("--checkpoint", type=Path, required=True, help="the model, as open_clip's checkpoint folder")
    settling.add_argument("--real", type=Path, required=True, help="folder of real images with captions.jsonl")
    settling.add_argument("--out", type=Path, required=True)
    for each in (fitting, placing, judging):
        _add_inputs(each)
    writing = commands.add_parser("write", help="write a fitted gate into a bundle's manifest")
    writing.add_argument("--gate", type=Path, required=True)
    writing.add_argument("--bundle", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    if parsed.command == "write":
        gate = _read_gate(parsed.gate)
        content = load_encoder(parsed.bundle).model_dump(mode="json") | {"gate": gate.model_dump(mode="json")}
        (parsed.bundle / MANIFEST_FILE).write_text(EncoderManifest.model_validate(content).to_json(), "utf-8")
        return 0
    for folder in parsed.others if "others" in parsed else []:
        if not picture_files(folder):
            parser.error(f"{folder} has no pictures of {LEAST_PX} px or more")
    encoder = OriginalEncoder(parsed.checkpoint)
    if parsed.command == "findings":
        before = _read_gate(parsed.gate)
        gate = with_calibrated_findings(before, encoder, parsed.real)
        if gate is before:
            parser.error(f"{parsed.real} has no dev images with findings of this gate")
        return _write_gate(gate, parsed.out)
    try:
        gate = _fitted(parsed, encoder)
    except ValueError as error:
        parser.error(str(error))
    return _write_gate(gate, parsed.out)


if __name__ == "__main__":
    sys.exit(main())
