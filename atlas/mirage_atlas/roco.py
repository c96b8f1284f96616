"""ROCO, version 1: `radiology/` and `non-radiology/` folders with captions, keywords, concepts, licences and images.

Files as in the authors' repository (razorx89/roco-dataset): `captions*.txt`, `keywords*.txt`, `cuis*.txt` and `semtypes*.txt` are
tab-separated, an id first; `licences.txt` is a CSV of ROCO_ID, PMC_ID (the file's name) and CC. Images are `images/` files named
after the id or, as the authors' download script leaves them, after the PMC file. Only captions are needed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from mirage_atlas.case_texts import case_texts, choose_caption
from mirage_atlas.concepts import facets_of
from mirage_atlas.facets import facet_values
from mirage_atlas.folder import Folder, Ids, RowError, is_hidden, label_text, line_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow, LeftOut
from mirage_atlas.texts import read_lines

LINE_CHARACTERS = 100_000
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_DEPTH = 3


def roco_folders(path: Path) -> list[Path]:
    """The folders below a path (itself included) that hold `captions*.txt`; links to folders are not followed."""
    return [
        folder
        for folder in (path, *_below(path, _DEPTH))
        if any(not is_hidden(each.name) for each in folder.glob("captions*.txt"))
    ]


def _below(path: Path, depth: int) -> list[Path]:
    if depth == 0:
        return []
    children = sorted(child for child in path.iterdir() if child.is_dir() and not child.is_symlink())
    return [folder for child in children for folder in (child, *_below(child, depth - 1))]


class RocoReader:
    """Reads every ROCO folder below `path`, in order of their names; memory is that of one folder's tables."""

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        self._root = Folder(path, follow_links=follow_links)
        self.left_out = LeftOut()

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in the order of the captions."""
        ids = Ids(self._root.name)
        for folder in roco_folders(self._root.path):
            yield from self._read(folder, ids)

    def _read(self, path: Path, ids: Ids) -> Iterator[AtlasRecord | BadRow]:
        keywords, concepts, kinds = (self._table(path, name) for name in ("keywords", "cuis", "semtypes"))
        licences = self._licences(path)
        for name, number, fields in self._lines(path, "captions"):
            try:
                if fields is None or len(fields) < 2:
                    raise RowError("the line is too long or has no id and caption")
                words, cuis = keywords.get(fields[0], ()), concepts.get(fields[0], ())
                texts = case_texts({"keywords": list(words)}.get)
                caption, _ = choose_caption(" ".join(fields[1:]), texts)
                file, licence = licences.get(fields[0], ("", ""))
                image = self._image(path, fields[0], file)
                identity, own_id = ids.take(fields[0], f"{name} line {number}")
                labels = facets_of(caption, cuis, words)
                code = licence_name(licence)
                labels["licence"] = facet_values([code])
                pmcid = file.partition("_")[0]
                original = {
                    **own_id,
                    "cuis": " ".join(cuis),
                    "semtypes": "; ".join(kinds.get(fields[0], ())[1::2]),
                    "pmcid": pmcid,
                    "folder": path.name,
                    "split": path.parent.name,
                }
                yield AtlasRecord(
                    id=identity,
                    caption=caption,
                    labels=labels,
                    original_labels={key: text for key, value in original.items() if (text := label_text(value))},
                    licence=code,
                    source=line_text(f"PubMed Central {pmcid}, by ROCO") if pmcid.startswith("PMC") else "ROCO",
                    attribution="",
                    sha256="",
                    image_path=image,
                    **texts.items(),
                    file=name,
                    line=number,
                )
            except RowError as error:
                yield BadRow(number, str(error), name)

    def _image(self, path: Path, identity: str, file: str) -> Path:
        if any(mark in name for mark in "/\\" for name in (identity, file)):
            raise RowError("the file lies outside the folder")
        images = path / "images"
        for name in (*(f"{identity}{suffix}" for suffix in _SUFFIXES), file):
            if name and ((images / name).exists() or (images / name).is_symlink()):
                return self._root.checked(images / name)
        inside = images.relative_to(self._root.path)
        for name in (identity, file):
            try:
                return self._root.image((inside / name).as_posix()) if name else self._missing()
            except RowError as error:
                if "missing" not in str(error):
                    raise
        return self._missing()

    @staticmethod
    def _missing() -> Path:
        raise RowError("the image is missing (the download leaves some out)")

    def _lines(self, path: Path, name: str) -> Iterator[tuple[str, int, list[str] | None]]:
        """File, number and tab-separated fields of each line of the files of a name; None for a line that is too long."""
        for file in sorted(path.glob(f"{name}*.txt")):
            if is_hidden(file.name) or not self._root.holds(file):
                continue
            shown = self._root.relative(file)
            for number, line in read_lines(file, LINE_CHARACTERS):
                if line is None:
                    yield shown, number, None
                elif line.strip():
                    yield shown, number, [field.strip() for field in line.rstrip("\r\n").split("\t")]

    def _table(self, path: Path, name: str) -> dict[str, tuple[str, ...]]:
        return {fields[0]: tuple(filter(None, fields[1:])) for _, _, fields in self._lines(path, name) if fields}

    def _licences(self, path: Path) -> dict[str, tuple[str, str]]:
        """PMC file and licence by id."""
        found: dict[str, tuple[str, str]] = {}
        for file in sorted((*path.glob("licences*.txt"), *path.glob("cc_*.csv"))):
            if is_hidden(file.name) or not self._root.holds(file):
                continue
            for _, line in read_lines(file, LINE_CHARACTERS):
                row = _fields(line or "")
                if len(row) >= 3:
                    found[row[0].strip()] = (row[1].strip(), row[2].strip())
        return found


def _fields(line: str) -> list[str]:
    """The fields of one line of CSV; none if it is not CSV."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []
