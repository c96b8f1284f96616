"""The command that makes a bundle of a checkpoint.

`python -m mirage_models.build --source CHECKPOINT --out BUNDLE [--calibration FOLDER] [--match FILE] ...`
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from mirage_core.cpus import available_cpus
from mirage_models.encoders.builder import BuildOptions, ParityError, build
from mirage_models.encoders.quantise import RECIPES


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and build; 0, or 1 where the bundle misses its bar."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.build", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="checkpoint: open_clip_config.json and weights")
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--replace", action="store_true", help="put the new bundle in the place of an old one")
    parser.add_argument("--name", default="mini-clip", help="short name, lower case")
    parser.add_argument("--origin", default="trained by the MIRAGE project", help="repository@revision of the weights")
    parser.add_argument("--licence", default="Apache-2.0", help="SPDX identifier of the weights' licence")
    parser.add_argument("--variants", nargs="+", choices=("int8", "fp32"), default=["int8"], help="the first: default")
    for role in ("text", "image"):
        parser.add_argument(
            f"--{role}-recipes", nargs="+", choices=tuple(RECIPES), default=list(RECIPES), help="ways to int8 to try"
        )
    parser.add_argument("--calibration", type=Path, help="folder with captions.jsonl and images")
    parser.add_argument("--calibration-items", type=int, default=1024, help="how many of them, evenly spaced")
    parser.add_argument("--match", type=Path, help="JSON file with the match thresholds")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("mirage_models").setLevel(logging.INFO)
    threads = available_cpus()
    torch.set_num_threads(threads)
    options = BuildOptions(
        name=parsed.name,
        source=parsed.origin,
        licence=parsed.licence,
        variants=tuple(parsed.variants),
        text_recipes=tuple(parsed.text_recipes),
        image_recipes=tuple(parsed.image_recipes),
        calibration=parsed.calibration,
        calibration_items=parsed.calibration_items,
        match=parsed.match,
        replace=parsed.replace,
        threads=threads,
    )
    try:
        manifest = build(parsed.source, parsed.out, options)
    except ParityError as error:
        print(f"nothing was written: {error}", file=sys.stderr)
        return 1
    for name, variant in manifest.variants.items():
        print(f"{name}: overlap@10 {variant.overlap_at_10}")
        for role, parity in variant.parity.items():
            print(f"  {role}: {parity}, {variant.quantisation[role]}")
    print(f"fingerprint {manifest.fingerprint}, {sum(file.size for file in manifest.files) / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
