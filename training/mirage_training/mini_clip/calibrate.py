"""Thresholds of `match`: `python -m mirage_training.mini_clip.calibrate --checkpoint DIR --work DIR --samples DIR --out
FILE`.

The top-1 cosine of a query shows how well the atlas answers it. Both thresholds are set on one half of the held-out
queries: about 2 in 100 off-atlas queries reach `good`, and about 1 in 10 reaches `weak` (fewer if the two kinds are far
apart). The other half measures them. Off-atlas texts use words that training never saw; off-atlas pictures are computed
ones and, with `--pictures`, real pictures of other body regions. In-atlas pictures are sections between the atlas's
levels, turned, scaled and noisy.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.demo.render import Renderer
from mirage_atlas.demo.sections import SectionSpec
from mirage_training.mini_clip.batches import negative
from mirage_training.mini_clip.encoders import CheckpointEncoder, Encoder, Vectors
from mirage_training.mini_clip.heldout import atlas_gallery, held_out_gallery, pictures, shift_queries, text_queries
from mirage_training.mini_clip.offatlas import phrase
from mirage_training.mini_clip.queries import attribute_query
from mirage_training.mini_clip.samples import sample_query
from mirage_training.mini_clip.workfolder import cached_template, write_samples

GOOD_FALSE_SHARE = 0.02
WEAK_FALSE_SHARE = 0.10
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """Two thresholds and what they gave on queries that did not set them."""

    good: float
    weak: float
    measured: dict[str, float]


def calibrated(inside: Scores, outside: Scores, seed: int = 5) -> Calibration:
    """Thresholds from one half of the top-1 cosines of in-atlas and off-atlas queries, measured on the other half."""
    rng = np.random.default_rng(seed)
    inside, outside = rng.permutation(inside), rng.permutation(outside)
    half_in, half_out = len(inside) // 2, len(outside) // 2
    good = float(np.quantile(outside[:half_out], 1 - GOOD_FALSE_SHARE))
    weak = float(np.quantile(outside[:half_out], 1 - WEAK_FALSE_SHARE))
    # If the two kinds are far apart, the thresholds rise to what nearly all in-atlas queries reach.
    good = max(good, float(np.quantile(inside[:half_in], 0.02)))
    weak = min(max(weak, float(np.quantile(inside[:half_in], 0.002)) - 0.05), good - 0.01)
    test_in, test_out = inside[half_in:], outside[half_out:]
    measured = {
        "in_atlas_queries": len(test_in),
        "off_atlas_queries": len(test_out),
        "in_atlas_good": float((test_in >= good).mean()),
        "in_atlas_weak_or_good": float((test_in >= weak).mean()),
        "off_atlas_good": float((test_out >= good).mean()),
        "off_atlas_weak_or_good": float((test_out >= weak).mean()),
        "good_precision_at_equal_shares": _precision(test_in, test_out, good),
        "weak_precision_at_equal_shares": _precision(test_in, test_out, weak),
        "in_atlas_median_cosine": float(np.median(test_in)),
        "off_atlas_median_cosine": float(np.median(test_out)),
        "auroc": _auroc(test_in, test_out),
    }
    return Calibration(round(good, 4), round(weak, 4), {name: round(value, 4) for name, value in measured.items()})


def _precision(inside: Scores, outside: Scores, threshold: float) -> float:
    true, false = float((inside >= threshold).mean()), float((outside >= threshold).mean())
    return true / max(true + false, 1e-9)


def _auroc(inside: Scores, outside: Scores) -> float:
    order = np.concatenate([outside, inside]).argsort().argsort() + 1.0
    ranks = float(order[len(outside) :].sum())
    return (ranks - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside))


def top_cosines(queries: Vectors, gallery: Vectors) -> Scores:
    """Cosine of each query's closest picture: float32 [N]."""
    best: Scores = (queries @ gallery.T).max(axis=1)
    return best


def varied(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture as another scanner or screenshot might give it: turned up to 5 degrees, scaled, brighter or darker,
    noisy.
    """
    side = image.width
    turned = image.rotate(float(rng.uniform(-5, 5)), Image.Resampling.BICUBIC)
    margin = int(rng.integers(0, side // 20))
    cropped = turned.crop((margin, margin, side - margin, side - margin)).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.asarray(cropped, dtype=np.float32) * rng.uniform(0.85, 1.15)
    noisy = pixels + rng.normal(0, 255 * 0.02, pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def between_levels(spec: SectionSpec, rng: np.random.Generator) -> SectionSpec:
    """The section one millimetre off, at a level that neither the atlas nor the training holds."""
    return replace(spec, level_mm=spec.level_mm + int(rng.choice([-1, 1])))


def sample_pictures(folder: Path) -> list[Image.Image]:
    """The clinical samples, as PNG files in a folder."""
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]


def arithmetic_queries(
    encoder: Encoder, specs: list[SectionSpec], outside: list[str], rng: np.random.Generator
) -> tuple[Vectors, Vectors]:
    """`q - minus + plus` of the atlas and off it: the same shifts applied to queries that belong and to ones that do
    not.
    """
    shifts = [shift for _, shift in shift_queries(specs, len(outside), rng)]
    terms = encoder.texts([text for shift in shifts for text in (shift.base.text, shift.minus, shift.plus)])
    base, minus, plus = terms.reshape(len(shifts), 3, -1).transpose(1, 0, 2)
    sums = (base - minus + plus, encoder.texts(outside) - minus + plus)
    inside_unit, outside_unit = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in sums)
    return inside_unit, outside_unit


def main() -> int:
    """Calibrate one checkpoint against the demonstration atlas with its samples."""
    parser = argparse.ArgumentParser(description="Calibrate the match thresholds of the mini CLIP.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--samples", type=Path, required=True, help="folder of clinical samples as PNG, made where missing"
    )
    parser.add_argument(
        "--pictures", type=Path, nargs="*", default=[], help="folders of real pictures of other body regions"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    encoder: Encoder = CheckpointEncoder(arguments.checkpoint, threads=arguments.threads)
    template = cached_template(arguments.work)
    if not arguments.samples.exists():
        write_samples(arguments.samples)
    renderer = Renderer(template)
    rng = np.random.default_rng(4711)
    atlas = [entry.spec for entry in atlas_gallery(template)]
    gallery = encoder.images(pictures(renderer, atlas) + sample_pictures(arguments.samples))
    asked = [a.query.text for a in text_queries(atlas, 1200, rng)]
    asked += [attribute_query(rng).text for _ in range(250)] + [sample_query(rng).text for _ in range(250)]
    outside = sorted({phrase(rng, held_out=True) for _ in range(2400)})
    text = calibrated(top_cosines(encoder.texts(asked), gallery), top_cosines(encoder.texts(outside), gallery))
    sums = arithmetic_queries(encoder, atlas, outside, rng)
    arithmetic = calibrated(top_cosines(sums[0], gallery), top_cosines(sums[1], gallery))
    others = [between_levels(spec, rng) for spec in held_out_gallery(template, 400)]
    inside_images = encoder.images([varied(picture, rng) for picture in pictures(renderer, others)])
    computed = [Image.fromarray((negative(rng) * 255).astype(np.uint8)).convert("RGB") for _ in range(300)]
    real = [
        Image.open(path).convert("RGB") for folder in arguments.pictures for path in sorted(folder.glob("*.webp"))[:400]
    ]
    image = calibrated(top_cosines(inside_images, gallery), top_cosines(encoder.images(computed + real), gallery))
    kinds = {"text": text, "image": image, "arithmetic": arithmetic}
    report = {name: {"good": c.good, "weak": c.weak} for name, c in kinds.items()} | {
        "measured": {name: c.measured for name, c in kinds.items()}
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
