"""Measure the mini CLIP: `python -m mirage_training.mini_clip.evaluate --checkpoint DIR --work DIR [--out
FILE.json]`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES
from mirage_atlas.demo.lesions import LOBES, SIGNALS
from mirage_atlas.demo.render import Renderer
from mirage_atlas.demo.sections import SectionSpec
from mirage_training.mini_clip.claims import SIDES, Claim, ImageTable, Shown, image_table
from mirage_training.mini_clip.encoders import BundleEncoder, Encoder, OriginalEncoder, Vectors
from mirage_training.mini_clip.heldout import (
    Asked,
    atlas_gallery,
    held_out_gallery,
    pictures,
    shift_queries,
    text_queries,
)
from mirage_training.mini_clip.workfolder import cached_template

LEVEL_MM = 10.0


@dataclass
class Tally:
    """Right answers and what chance would give, by name of a figure."""

    right: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    chance: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, satisfied: np.ndarray, top: int) -> None:
        """Count one query: `satisfied` [N] bool over the gallery, `top` the first result."""
        self.right[name].append(float(satisfied[top]))
        self.chance[name].append(float(satisfied.mean()))

    def figures(self) -> dict[str, dict[str, float]]:
        """Per figure: share right, chance and number of queries."""
        return {
            name: {
                "right": round(float(np.mean(values)), 4),
                "chance": round(float(np.mean(self.chance[name])), 4),
                "queries": len(values),
            }
            for name, values in self.right.items()
        }


def level_near(table: ImageTable, spec: SectionSpec) -> np.ndarray:
    """Returns the images of the spec's plane whose level is within LEVEL_MM of it (|x| for sagittal)."""
    level = abs(spec.level_mm) if spec.plane == "sagittal" else spec.level_mm
    near: np.ndarray = (table.plane == PLANES.index(spec.plane)) & (np.abs(table.level - level) <= LEVEL_MM)
    return near


def satisfied(claim: Claim, table: ImageTable) -> np.ndarray:
    """Images of which all attributes of a claim are true, levels within LEVEL_MM of the claimed range: bool [N]."""
    true = table.plane >= 0
    for value, options, column in (
        (claim.plane, PLANES, table.plane),
        (claim.sequence, SEQUENCES, table.sequence),
        (claim.side, SIDES, table.side),
    ):
        if value is not None:
            true &= column == options.index(value)
    if claim.lesion is not None:
        true &= table.lesion == int(claim.lesion)
    for value, column in ((claim.lobe, table.lobe), (claim.signal, table.signal)):
        if value is not None:
            true &= column == _index(value)
    if claim.levels:
        near = np.zeros_like(true)
        for plane, (low, high) in claim.levels:
            outside = np.maximum(np.maximum(low - table.level, table.level - high), 0)
            near |= (table.plane == PLANES.index(plane)) & (outside <= LEVEL_MM)
        true &= near
    return true


def _index(value: str) -> int:
    return SIGNALS.index(value) if value in SIGNALS else LOBES.index(value)


def retrieval(
    encoder: Encoder, asked: list[Asked], gallery: Vectors, table: ImageTable
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of top-1 text retrieval for all queries and for each kind of wording."""
    tops = (encoder.texts([a.query.text for a in asked]) @ gallery.T).argmax(axis=1)
    tallies: dict[str, Tally] = defaultdict(Tally)
    for a, top in zip(asked, tops, strict=True):
        claim = a.query.claim
        for tally in (tallies["all"], tallies[a.kind]):
            if claim.plane and claim.sequence:
                tally.add(
                    "plane and contrast", satisfied(Claim(plane=claim.plane, sequence=claim.sequence), table), top
                )
            if a.names_level:
                tally.add("level within 10 mm", level_near(table, a.source), top)
            if claim.lesion and claim.side:
                tally.add("lesion side", satisfied(Claim(lesion=True, side=claim.side), table), top)
            if claim.lesion:
                tally.add("lesion present", satisfied(Claim(lesion=True), table), top)
            if claim.lobe:
                tally.add("lesion lobe", satisfied(Claim(lesion=True, lobe=claim.lobe), table), top)
            if claim.signal:
                tally.add("lesion signal", satisfied(Claim(lesion=True, signal=claim.signal), table), top)
            tally.add("all that was asked", satisfied(claim, table), top)
    return {kind: tally.figures() for kind, tally in tallies.items()}


def arithmetic(
    encoder: Encoder, specs: list[SectionSpec], gallery: Vectors, table: ImageTable, count: int
) -> dict[str, dict[str, float]]:
    """Figures of `q - minus + plus`: the shifted top result has the new attribute and keeps the others."""
    shifts = shift_queries(specs, count, np.random.default_rng(77))
    words = [[s.base.text, s.minus, s.plus] for _, s in shifts]
    vectors = encoder.texts([text for three in words for text in three]).reshape(len(shifts), 3, -1)
    shifted = vectors[:, 0] - vectors[:, 1] + vectors[:, 2]
    shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
    tops = (shifted @ gallery.T).argmax(axis=1)
    base_tops = (vectors[:, 0] @ gallery.T).argmax(axis=1)
    tally = Tally()
    for (_, shift), top, base_top in zip(shifts, tops, base_tops, strict=True):
        target = satisfied(shift.target.claim, table)
        kind = _changed(shift.base.claim, shift.target.claim)
        for name in ("all", kind):
            tally.add(f"{name}: new attribute and the others kept", target, top)
            tally.add(f"{name}: base query before the shift", satisfied(shift.base.claim, table), base_top)
        if kind in ("plane", "sequence"):
            tally.add("plane or contrast: new attribute and the others kept", target, top)
    return tally.figures()


def _changed(base: Claim, target: Claim) -> str:
    for name in ("plane", "sequence", "signal", "side"):
        if getattr(base, name) != getattr(target, name):
            return name
    return "none"


def measured(encoder: Encoder, specs: list[SectionSpec], renderer: Renderer, *, queries: int) -> dict[str, Any]:
    """All figures of one gallery: top-1 of text queries and of arithmetic, with chance."""
    gallery = encoder.images(pictures(renderer, specs))
    table = image_table([Shown(spec=spec) for spec in specs])
    asked = text_queries(specs, queries, np.random.default_rng(31))
    return {
        "pictures": len(specs),
        "queries": len(asked),
        "retrieval": retrieval(encoder, asked, gallery, table),
        "arithmetic": arithmetic(encoder, specs, gallery, table, 1000),
    }


def markdown(report: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = []
    for name, part in report.items():
        lines += [
            f"### {name[0].upper()}{name[1:]}: {part['pictures']:,} pictures, {part['queries']:,} text queries",
            "",
        ]
        for title, kinds in (("Queries", part["retrieval"]), ("Arithmetic", {"": part["arithmetic"]})):
            lines += [f"| {title} | figure | right | chance | queries |", "|---|---|---|---|---|"]
            for kind, figures in kinds.items():
                for figure, f in figures.items():
                    lines.append(f"| {kind} | {figure} | {f['right']:.1%} | {f['chance']:.1%} | {f['queries']} |")
            lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Evaluate a checkpoint or a bundle and print the figures."""
    parser = argparse.ArgumentParser(description="Measure the mini CLIP on held-out sections.")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--checkpoint", type=Path, help="an open_clip checkpoint folder")
    model.add_argument("--bundle", type=Path, help="a bundle folder, run with ONNX Runtime")
    parser.add_argument("--variant", default="", help="the bundle's precision (default: its own)")
    parser.add_argument("--work", type=Path, required=True, help="folder that caches the template")
    parser.add_argument(
        "--galleries", nargs="+", choices=("held-out", "demo atlas"), default=["held-out", "demo atlas"]
    )
    parser.add_argument("--queries", type=int, default=1800)
    parser.add_argument("--lesions", type=int, default=700)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--markdown", type=Path, help="file for the tables")
    arguments = parser.parse_args()
    template = cached_template(arguments.work)
    renderer = Renderer(template)
    encoder: Encoder
    if arguments.bundle:
        encoder = BundleEncoder(arguments.bundle, variant=arguments.variant, threads=arguments.threads)
    else:
        encoder = OriginalEncoder(arguments.checkpoint, threads=arguments.threads)
    galleries = {
        "held-out": lambda: held_out_gallery(template, arguments.lesions),
        "demo atlas": lambda: [entry.spec for entry in atlas_gallery(template)],
    }
    report = {
        name: measured(encoder, galleries[name](), renderer, queries=arguments.queries) for name in arguments.galleries
    }
    text = json.dumps(report, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(report), encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
