"""A table with image files beside it: one CSV or TSV with a header, any names of columns that we know; ROCOv2's CSVs too.

ROCOv2 (Rückert et al. 2024) gives `SPLIT_captions.csv` (ID, Caption), `SPLIT_concepts.csv` (ID, CUIs separated by `;`) and
`license_information.csv`; its images lie in folders named after the split.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from mirage_atlas.concepts import facets_of
from mirage_atlas.facets import map_labels
from mirage_atlas.folder import SUFFIXES, Folder, Ids, RowError, caption_text, line_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow

FIELD_CHARACTERS = 150_000
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "image_id", "imageid", "uid", "name", "figure_id"),
    "file": ("file", "image", "path", "filename", "file_name", "image_path", "image_file", "img"),
    "caption": ("caption", "text", "description", "captions", "report", "title"),
    "licence": ("licence", "license", "cc", "rights"),
    "source": ("source", "url", "article", "citation", "reference", "doi"),
    "attribution": ("attribution", "author", "authors", "credit", "creator"),
    "pmcid": ("pmcid", "pmc_id", "pmc"),
    "cuis": ("cuis", "cui", "concepts"),
}
csv.field_size_limit(FIELD_CHARACTERS)
Row = Mapping[str, str]


def read_rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Line number and row by lower-case column, or the reason why it is none; a row's file may be in UTF-8 or Latin-1.

    Raises ValueError where there is no header.
    """
    with _opened(path) as lines:
        sample = lines.read(8192)
        lines.seek(0)
        first = sample.partition("\n")[0]
        delimiter = max((",", "\t", ";"), key=first.count)
        rows = csv.reader((line.replace("\0", "\ufffd") for line in lines), delimiter=delimiter, strict=True)
        try:
            header = [name.strip().lstrip("\ufeff").lower() for name in next(rows)]
        except (StopIteration, csv.Error):
            header = []
        if not any(header):
            raise ValueError("the table has no header")
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                yield rows.line_num, "the row is no CSV (a quote that does not end, or too long a field)"
                continue
            if not any(field.strip() for field in row):
                continue
            if len(row) != len(header):
                yield rows.line_num, f"the row has {len(row)} fields, the header {len(header)}"
                continue
            if any("\ufffd" in field for field in row):
                yield rows.line_num, "the row holds bytes that are no text"
                continue
            yield rows.line_num, dict(zip(header, (field.strip() for field in row), strict=True))


def _opened(path: Path) -> TextIO:
    with path.open("rb") as file:
        start = file.read(2**20)
    try:
        start.decode("utf-8")
        encoding = "utf-8-sig"
    except UnicodeDecodeError as error:
        # Cut in the middle of a character, or really something else.
        encoding = "utf-8-sig" if error.start > len(start) - 4 else "cp1252"
    return io.TextIOWrapper(path.open("rb"), encoding=encoding, errors="replace", newline="")


def column(row: Row, name: str) -> str:
    """The field of a column by any of its names; empty where there is none."""
    return next((row[alias] for alias in COLUMNS[name] if row.get(alias)), "")


def table_file(path: Path) -> Path | None:
    """The table at a path: the file itself, or the folder's only one."""
    if path.is_file():
        return path if path.suffix.lower() in (".csv", ".tsv") else None
    tables = [each for each in sorted(path.iterdir()) if each.suffix.lower() in (".csv", ".tsv") and each.is_file()]
    return tables[0] if len(tables) == 1 else None


class TableReader:
    """Reads a table (`path` is it, or the folder that holds it) with images in the same folder or in `images/`."""

    def __init__(self, path: Path) -> None:
        table = table_file(path)
        if table is None:
            raise ValueError("there is no table (.csv or .tsv), or more than one")
        self._table = table
        self._folder = Folder(table.parent)

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in the table's order; raises ValueError where a column is missing that every record needs."""
        ids = Ids()
        checked = False
        for number, row in read_rows(self._table):
            if isinstance(row, str):
                yield BadRow(number, row)
                continue
            if not checked:
                for need in ("file", "caption"):
                    if not any(alias in row for alias in COLUMNS[need]):
                        raise ValueError(f"the table has no column for the {need}: one of {', '.join(COLUMNS[need])}")
                checked = True
            try:
                yield self._record(row, ids)
            except RowError as error:
                yield BadRow(number, str(error))

    def _record(self, row: Row, ids: Ids) -> AtlasRecord:
        file = column(row, "file")
        path = self._image(file)
        caption = caption_text(column(row, "caption"))
        identity, own_id = ids.take(column(row, "id") or file)
        named = {alias for aliases in COLUMNS.values() for alias in aliases}
        others = {name: value for name, value in row.items() if name and value and name not in named}
        labels, original = map_labels(others, None)
        labels = {**facets_of(caption, column(row, "cuis").split(";")), **labels}
        licence = licence_name(column(row, "licence"))
        labels.setdefault("licence", (licence.lower(),))
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels={**original, **own_id, "licence": licence},
            licence=licence,
            source=line_text(column(row, "source") or column(row, "pmcid")) or self._table.parent.name,
            attribution=line_text(column(row, "attribution")),
            sha256="",
            image_path=path,
        )

    def _image(self, file: str) -> Path:
        try:
            return self._folder.image(file)
        except RowError as error:
            if "missing" not in str(error):
                raise
            return self._folder.image(f"images/{file}")


class RocoV2Reader:
    """Reads the CSVs of ROCOv2 in a folder, split after split."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = Folder(path)

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in the order of each split's captions."""
        ids = Ids()
        licences = self._licences()
        for table in captions_files(self._path):
            split = table.name.removesuffix("_captions.csv")
            concepts = self._concepts(split)
            for number, row in read_rows(table):
                if isinstance(row, str):
                    yield BadRow(number, row)
                    continue
                try:
                    yield self._record(row, split, ids, concepts, licences)
                except RowError as error:
                    yield BadRow(number, str(error))

    def _record(
        self, row: Row, split: str, ids: Ids, concepts: dict[str, str], licences: dict[str, Row]
    ) -> AtlasRecord:
        own = column(row, "id")
        caption = caption_text(column(row, "caption"))
        image = self._image(own, split)
        identity, own_id = ids.take(own)
        cuis = concepts.get(own, "")
        about: Row = licences.get(own, {})
        licence = licence_name(column(about, "licence"))
        pmcid = column(about, "pmcid")
        labels = facets_of(caption, cuis.replace(",", ";").split(";"))
        labels["licence"] = (licence.lower(),)
        original = {**own_id, "cuis": cuis[:1000], "split": split, "pmcid": pmcid}
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels={name: value for name, value in original.items() if value},
            licence=licence,
            source=f"PubMed Central {pmcid}, by ROCOv2" if pmcid else "ROCOv2",
            attribution=line_text(column(about, "attribution")),
            sha256="",
            image_path=image,
        )

    def _image(self, own: str, split: str) -> Path:
        if "/" in own:
            raise RowError("the file lies outside the folder")
        for folder in (f"{split}/", f"{split}_images/{split}/", f"{split}_images/", "images/", f"{split}/images/", ""):
            for suffix in sorted(SUFFIXES):
                if (self._path / f"{folder}{own}{suffix}").exists():
                    return self._folder.image(f"{folder}{own}{suffix}")
        raise RowError("the image is missing")

    def _concepts(self, split: str) -> dict[str, str]:
        found: dict[str, str] = {}
        # The manual ones come second: they are the curated modality and region, and are read first by the mapping.
        for name in (f"{split}_concepts_manual.csv", f"{split}_concepts.csv"):
            path = self._path / name
            if path.is_file() and not path.is_symlink():
                for _, row in read_rows(path):
                    if not isinstance(row, str):
                        own = column(row, "id")
                        found[own] = ";".join(filter(None, (found.get(own, ""), column(row, "cuis"))))
        return found

    def _licences(self) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for name in ("license_information.csv", "licence_information.csv", "licenses.csv"):
            path = self._path / name
            if path.is_file() and not path.is_symlink():
                for _, row in read_rows(path):
                    if not isinstance(row, str):
                        found[column(row, "id")] = row
        return found


def captions_files(path: Path) -> list[Path]:
    """The captions tables of ROCOv2 in a folder."""
    return [each for each in sorted(path.glob("*_captions.csv")) if each.is_file() and not each.is_symlink()]
