"""Measure a model on each source of real images: `python -m mirage_training.mini_clip.left_out --help`.

For runs of `tune --leave-out`: the gate is fitted to the run, also without the sources that it left out, and reads the dev
images of every source. What it says of those that were left out is how it does on other people's images.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mirage_inference.bundles import ImageGate, load_encoder
from mirage_inference.encoder.picture_statistics import picture_statistics
from mirage_training.mini_clip import gate as gates
from mirage_training.mini_clip.classified import Read, facet_figures, read
from mirage_training.mini_clip.encoders import BundleEncoder, Encoder, OriginalEncoder
from mirage_training.mini_clip.heads import FINDINGS
from mirage_training.mini_clip.items import source_of
from mirage_training.mini_clip.natural import findings
from mirage_training.mini_clip.tune import SETTLED_FILE

NOT_KNOWN = "not known"


def dev_rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The dev rows of `captions.jsonl`, by source."""
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (folder / "captions.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == "dev":
            by_source[source_of(row)].append(row)
    return dict(sorted(by_source.items()))


def said(found: Read, facet: str, truth: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts the answers for the images of each true value; `NOT_KNOWN` is one of the answers."""
    best, _, known = found.best(facet)
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for right, value, sure in zip(truth, best, known, strict=True):
        answers[right][str(value) if sure else NOT_KNOWN] += 1
    return {right: dict(each.most_common()) for right, each in sorted(answers.items())}


def figures_of(encoder: Encoder, gate: ImageGate, folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the images of one source."""
    images = [Image.open(folder / row["file"]).convert("RGB") for row in rows]
    vectors = encoder.images(images)
    found = read(gate, vectors, np.stack([picture_statistics(image) for image in images]))
    figures: dict[str, Any] = {"gate": found.kinds()}
    for facet in ("modality", "body_part"):
        truth = [row["labels"][facet] for row in rows]
        figures[facet] = facet_figures(found, facet, truth) | {"said": said(found, facet, truth)}
    if source_of(rows[0]) in FINDINGS:
        figures["finding"] = facet_figures(found, "finding", [row["labels"]["finding"] for row in rows])
    else:
        figures["finding"] = {"known": round(float(found.best("finding")[2].mean()), 4), "images": len(rows)}
    return figures | findings(encoder, rows, vectors)


def run_of(work: Path) -> list[str]:
    """The sources that a run of `tune` left out. Raises ValueError if there is no run with a checkpoint in the folder."""
    settled = work / SETTLED_FILE
    if not settled.exists() or not (work / "checkpoint").is_dir():
        raise ValueError(f"{work} has no run with a checkpoint")
    return list(json.loads(settled.read_text("utf-8")).get("left_out", []))


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.left_out", description=__doc__)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--work", type=Path, help="folder of a run of `tune`")
    model.add_argument("--bundle", type=Path, help="a bundle, with the gate in its manifest")
    parser.add_argument("--views", type=Path, help="folder of the views, if it is not `views` in the work folder")
    parser.add_argument("--real", type=Path, required=True, help="folder of real images with captions.jsonl")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders of pictures that are not medical")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args(argv)
    encoder: Encoder
    if arguments.bundle:
        left_out: list[str] = []
        encoder = BundleEncoder(arguments.bundle, threads=arguments.threads)
        gate = load_encoder(arguments.bundle).gate or ImageGate()
    else:
        try:
            left_out = run_of(arguments.work)
        except ValueError as error:
            parser.error(str(error))
        checkpoint = arguments.work / "checkpoint"
        encoder = OriginalEncoder(checkpoint, threads=arguments.threads)
        views = arguments.views or arguments.work / "views"
        try:
            gate = gates.fit_to_run(
                encoder, checkpoint, views, arguments.real, others=arguments.others, left_out=left_out
            )
        except ValueError as error:
            parser.error(str(error))
    figures = {name: figures_of(encoder, gate, arguments.real, rows) for name, rows in dev_rows(arguments.real).items()}
    print(json.dumps({"left out": left_out, "sources": figures}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
