"""Evaluations as tables in Markdown: `python -m mirage_atlas.quality.tables FILE.json ...`, a column for each file.

The files are those of `mirage eval all --out` and `mirage eval read --out`.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mirage_api.quality import Figure
from mirage_atlas.quality.generation import GENERATED, REAL

Key = tuple[str, str]
_HEADS: tuple[tuple[str, tuple[Key, ...]], ...] = (
    (
        "retrieval",
        tuple(
            (name, group)
            for group, names in (
                ("text to image, likeness", ("recall@1", "recall@10", "mean reciprocal rank", "mAP by labels")),
                ("image to text, likeness", ("recall@1", "recall@10")),
                ("image to image, likeness", ("recall@1", "recall@10", "mAP by labels")),
                ("title to image, words, served", ("recall@1", "recall@10")),
                ("title to image, hybrid, served", ("recall@1", "recall@10")),
                ("title to image, likeness, served", ("recall@1", "recall@10")),
            )
            for name in names
        ),
    ),
    (
        "consistency",
        tuple(
            (name, group)
            for group in (
                "image and its caption",
                "captions of one case",
                "images of one case",
                "caption and its paraphrase",
            )
            for name in ("AUROC", "accuracy of the best threshold")
        ),
    ),
    (
        "arithmetic",
        tuple(
            (name, "all")
            for name in ("first result has the new label", "first result has the new label and the others")
        ),
    ),
    (
        "calibration",
        (
            ("right among the first 5", "hybrid: called good"),
            ("right among the first 5", "hybrid: called weak"),
            ("called good", "hybrid: asked for what it holds"),
            ("called good", "hybrid: asked for what it does not hold"),
        ),
    ),
    (
        "generation",
        tuple(
            (name, f"{of}{group}")
            for of, names in (
                ("", ("prompt margin", "nearer to its own prompt than to another")),
                ("modality: ", ("label guessed by the encoder",)),
                ("body_part: ", ("label guessed by the encoder",)),
                ("plane: ", ("label guessed by the encoder", "nearest real image has the label")),
                ("", ("nearest real image", "diversity: mean distance of two")),
            )
            for name in names
            for group in (GENERATED, REAL)
        )
        + tuple(
            (f"{name} to held-out real images", group)
            for name in ("Fréchet distance", "kernel distance")
            for group in (GENERATED, f"floor: {REAL}")
        ),
    ),
    (
        "descriptions",
        (
            ("answers: model", ""),
            ("answers: extractive", ""),
            ("sentences of the model that were withheld", ""),
            ("words of the model's sentences that stand in the captions named", ""),
        ),
    ),
)


def table(names: Sequence[str], columns: Sequence[Mapping[str, Mapping[Key, Figure]]]) -> str:
    """Returns one table of the figures above, and those of all labels that were read."""
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    read = {key: None for column in columns for key in column.get("read", {})}
    for subject, keys in (*_HEADS, ("read", tuple(read))):
        for key in keys:
            cells = [column.get(subject, {}).get(key) for column in columns]
            if any(cells):
                name = ", ".join(filter(None, (key[1].removesuffix(", served").replace("_", " "), key[0])))
                lines.append(f"| {name} | {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    interval = "" if figure.low is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    chance = "" if figure.chance is None else f"; chance {figure.chance:.3f}"
    return f"{figure.value:.3f}{interval}{chance}"


def read_columns(paths: Sequence[Path]) -> list[dict[str, dict[Key, Figure]]]:
    """Returns the figures of each file by subject, name and group."""
    return [
        {
            each["subject"]: {(one.name, one.group): one for one in map(Figure.model_validate, each["figures"])}
            for each in json.loads(path.read_text("utf-8"))["evaluations"]
        }
        for path in paths
    ]


if __name__ == "__main__":
    files = [Path(each) for each in sys.argv[1:]]
    sys.stdout.write(table([each.stem for each in files], read_columns(files)) + "\n")
