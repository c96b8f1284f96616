"""ROCO, version 1: `radiology/` and `non-radiology/` folders with captions, keywords, concepts, licences and images.

Files as in the authors' repository (razorx89/roco-dataset): `captions*.txt`, `keywords*.txt`, `cuis*.txt` and `semtypes*.txt` are
tab-separated, an id first; `licences.txt` is a CSV of ROCO_ID, PMC_ID (the file's name) and CC. Images are `images/` files named
after the id or, as the authors' download script leaves them, after the PMC file. Only captions are needed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mirage_atlas.concepts import facets_of
from mirage_atlas.folder import Folder, Ids, RowError, caption_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow

LINE_CHARACTERS = 100_000
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_DEPTH = 3


def roco_folders(path: Path) -> list[Path]:
    """The folders below a path (itself included) that hold `captions*.txt`; links are not followed."""
    return [folder for folder in (path, *_below(path, _DEPTH)) if any(folder.glob("captions*.txt"))]


def _below(path: Path, depth: int) -> list[Path]:
    if depth == 0:
        return []
    children = sorted(child for child in path.iterdir() if child.is_dir() and not child.is_symlink())
    return [folder for child in children for folder in (child, *_below(child, depth - 1))]


class RocoReader:
    """Reads every ROCO folder below `path`, in order of their names; memory is that of one folder's tables."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in the order of the captions."""
        ids = Ids()
        for folder in roco_folders(self._path):
            yield from self._read(folder, ids)

    def _read(self, path: Path, ids: Ids) -> Iterator[AtlasRecord | BadRow]:
        folder = Folder(path)
        keywords, concepts, kinds = (_table(path, name) for name in ("keywords", "cuis", "semtypes"))
        licences = _licences(path)
        for number, fields in _lines(path, "captions"):
            try:
                if fields is None or len(fields) < 2:
                    raise RowError("the line is too long or no id and caption")
                caption = caption_text(" ".join(fields[1:]))
                file, licence = licences.get(fields[0], ("", ""))
                image = _image(folder, fields[0], file)
                identity, own_id = ids.take(fields[0])
                words, cuis = keywords.get(fields[0], ()), concepts.get(fields[0], ())
                labels = facets_of(caption, cuis, words)
                name = licence_name(licence)
                labels["licence"] = (name.lower(),)
                pmcid = file.partition("_")[0]
                original = {
                    **own_id,
                    "keywords": " ".join(words)[:1000],
                    "cuis": " ".join(cuis)[:1000],
                    "semtypes": "; ".join(kinds.get(fields[0], ())[1::2])[:1000],
                    "pmcid": pmcid,
                    "folder": path.name,
                    "split": path.parent.name,
                }
                yield AtlasRecord(
                    id=identity,
                    caption=caption,
                    labels=labels,
                    original_labels={key: value for key, value in original.items() if value},
                    licence=name,
                    source=f"PubMed Central {pmcid}, by ROCO" if pmcid.startswith("PMC") else "ROCO",
                    attribution="",
                    sha256="",
                    image_path=image,
                )
            except RowError as error:
                yield BadRow(number, str(error))


def _image(folder: Folder, identity: str, file: str) -> Path:
    if "/" in identity or "/" in file:
        raise RowError("the file lies outside the folder")
    for name in (*(f"{identity}{suffix}" for suffix in _SUFFIXES), file):
        if name and (folder.path / "images" / name).exists():
            return folder.image(f"images/{name}")
    raise RowError("the image is missing (the download leaves some out)")


def _lines(path: Path, name: str) -> Iterator[tuple[int, list[str] | None]]:
    """Number and tab-separated fields of each line of the files of a name; None for a line that is too long."""
    for file in sorted(path.glob(f"{name}*.txt")):
        if file.is_symlink() or not file.is_file():
            continue
        with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            number = 0
            while line := lines.readline(LINE_CHARACTERS + 1):
                number += 1
                if len(line) > LINE_CHARACTERS and not line.endswith("\n"):
                    while (rest := lines.readline(LINE_CHARACTERS)) and not rest.endswith("\n"):
                        pass
                    yield number, None
                elif line.strip():
                    yield number, [field.strip() for field in line.rstrip("\r\n").split("\t")]


def _table(path: Path, name: str) -> dict[str, tuple[str, ...]]:
    return {fields[0]: tuple(filter(None, fields[1:])) for _, fields in _lines(path, name) if fields}


def _licences(path: Path) -> dict[str, tuple[str, str]]:
    """PMC file and licence by id."""
    found: dict[str, tuple[str, str]] = {}
    for file in sorted((*path.glob("licences*.txt"), *path.glob("cc_*.csv"))):
        if file.is_symlink() or not file.is_file():
            continue
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            for row in csv.reader(line[:LINE_CHARACTERS].replace("\0", "") for line in lines):
                if len(row) >= 3:
                    found[row[0].strip()] = (row[1].strip(), row[2].strip())
    return found
