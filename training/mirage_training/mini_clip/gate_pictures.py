"""The pictures from which the gate learns what is a medical image and what is not."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mirage_training import picture_gate
from mirage_training.mini_clip.facts import Item
from mirage_training.mini_clip.items import real_item, source_of
from mirage_training.mini_clip.prepare import photographs

OF_A_FOLDER = 160
LEAST_PX = 150
SCREENS = 2
"""Screens of each medical picture."""
_MOST_PX = 512
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_EVERY = 10
_GROUNDS = (0, 0, 0, 20, 255)
_INKS = ((255, 255, 255), (255, 255, 0), (120, 255, 120), (200, 200, 200))


def medical_pictures(folder: Path, each: int = 14, left_out: Collection[str] = ()) -> list[Image.Image]:
    """Whole pictures of the train split of `real`, as many of each source, spread over it."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    by_source: dict[str, list[str]] = {}
    for found in rows:
        if found["split"] == "train" and source_of(found) not in left_out:
            by_source.setdefault(source_of(found), []).append(found["file"])
    chosen = [
        files[i] for _, files in sorted(by_source.items()) for i in np.linspace(0, len(files) - 1, each).astype(int)
    ]
    return [Image.open(folder / file).convert("RGB") for file in chosen]


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder and its subfolders whose shorter side has 150 px or more."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    return [path for path in files if _shorter_side(path) >= LEAST_PX]


def _shorter_side(path: Path) -> int:
    with Image.open(path) as picture:
        return min(picture.size)


def folder_pictures(folder: Path) -> list[Image.Image]:
    """At most 160 pictures of a folder, spread over it, each at most 512 px; what is transparent becomes white."""
    files = picture_files(folder)
    return [_on_white(files[n]) for n in np.unique(np.linspace(0, len(files) - 1, OF_A_FOLDER).astype(int))]


def _on_white(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.draft("RGB", (_MOST_PX, _MOST_PX))
        shown = picture.convert("RGBA")
    shown.thumbnail((_MOST_PX, _MOST_PX))
    return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")


def other_pictures(rng: np.random.Generator, folders: Sequence[Path] = ()) -> list[Image.Image]:
    """The photographs of `prepare` and the pictures of folders with crops, in colour and grey, and computed pages, charts and
    drawings.
    """
    whole = photographs()
    for picture in whole:
        picture.thumbnail((_MOST_PX, _MOST_PX))
    coloured = [picture for each in whole for picture in (each, *picture_gate.crops(each, 3, rng))]
    more = [picture for folder in sorted(folders) for picture in folder_pictures(folder)]
    coloured += [picture for each in more for picture in (each, *picture_gate.crops(each, 1, rng))]
    grey = [picture.convert("L").convert("RGB") for picture in coloured]
    makers = (picture_gate.page, picture_gate.chart, picture_gate.drawing)
    return coloured + grey + [make(rng) for make in makers for _ in range(20)]


def whole_pictures(folder: Path, left_out: Collection[str] = ()) -> tuple[list[Image.Image], list[Item]]:
    """Every tenth picture of the train split of `real`, without the sources in `left_out`, and what it shows."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    chosen = [row for row in rows if row["split"] == "train"][::_EVERY]
    chosen = [row for row in chosen if source_of(row) not in left_out]
    return [Image.open(folder / row["file"]).convert("RGB") for row in chosen], [real_item(row) for row in chosen]


def dev_pictures(
    folder: Path, sources: Collection[str], left_out: Collection[str] = ()
) -> tuple[list[Image.Image], list[Item], list[str]]:
    """The pictures of the dev split of `real` that are of these sources, without those in `left_out`, what they show, and their
    cases.
    """
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text("utf-8").splitlines()]
    chosen = [row for row in rows if row["split"] == "dev" and source_of(row) in set(sources) - set(left_out)]
    pictures = [Image.open(folder / row["file"]).convert("RGB") for row in chosen]
    return pictures, [real_item(row) for row in chosen], [str(row.get("case_id", row["id"])) for row in chosen]


def screened(pictures: Sequence[Image.Image], rng: np.random.Generator) -> list[Image.Image]:
    """The pictures, each also as screens show it: on a dark or light ground, with words next to it and on it.

    Without them the gate takes many ultrasound screens and panoramic radiographs of sources that it has not seen for other
    pictures (docs/evaluation.md).
    """
    return [shown for each in pictures for shown in (each, *(_screen(each, rng) for _ in range(SCREENS)))]


def _screen(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    shown = picture.copy()
    shown.thumbnail((_MOST_PX, _MOST_PX))
    width, height = int(shown.width * rng.uniform(1.1, 1.7)), int(shown.height * rng.uniform(1.1, 1.5))
    screen = Image.new("RGB", (width, height), (int(rng.choice(_GROUNDS)),) * 3)
    screen.paste(
        shown, (int(rng.integers(0, width - shown.width + 1)), int(rng.integers(0, height - shown.height + 1)))
    )
    draw = ImageDraw.Draw(screen)
    for _ in range(int(rng.integers(2, 12))):
        place = (int(rng.integers(0, int(width * 0.8))), int(rng.integers(0, max(1, height - 10))))
        letters = rng.integers(ord("A"), ord("Z") + 1, int(rng.integers(3, 16)))
        draw.text(place, "".join(map(chr, letters)), fill=_INKS[int(rng.integers(len(_INKS)))])
    screen.thumbnail((_MOST_PX, _MOST_PX))
    return screen
