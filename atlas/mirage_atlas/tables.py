"""A table with image files next to it: one CSV or TSV with a header, any names of columns that we know; ROCOv2's CSVs too.

ROCOv2 (Rückert et al. 2024) gives `SPLIT_captions.csv` (ID, Caption), `SPLIT_concepts.csv` (ID, CUIs separated by `;`) and
`license_information.csv`; its images are in folders named after the split.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mirage_atlas import case_texts
from mirage_atlas.case_texts import CaseTexts, choose_caption, with_topic
from mirage_atlas.concepts import facets_of
from mirage_atlas.facets import facet_values, map_labels
from mirage_atlas.folder import SUFFIXES, Folder, Ids, RowError, label_text, line_text
from mirage_atlas.licences import licence_name
from mirage_atlas.records import AtlasRecord, BadRow, DatasetError, LeftOut
from mirage_atlas.texts import is_text, read_lines
from mirage_core.people import is_about_person

FIELD_CHARACTERS = 150_000
LINE_CHARACTERS = 2**20
ROW_LINES = 1_000
COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "image_id", "imageid", "img_id", "uid", "figure_id", "fig_id", "roco_id"),
    "file": (
        "file",
        "image",
        "path",
        "filename",
        "file_name",
        "image_path",
        "image_file",
        "image_name",
        "img",
        "image_filename",
    ),
    "caption": ("caption", "text", "description", "captions", "report"),
    "licence": ("licence", "license", "cc", "rights"),
    "source": ("source", "url", "article", "citation", "reference", "doi"),
    "attribution": ("attribution", "author", "authors", "credit", "creator"),
    "pmcid": ("pmcid", "pmc_id", "pmc"),
    "cuis": ("cuis", "cui", "concepts"),
    **case_texts.COLUMNS,
}
"""Names by which columns are known, best first. An id comes from a column that is called so, never from a `name`."""

csv.field_size_limit(FIELD_CHARACTERS)
Row = Mapping[str, str]
_DELIMITERS = (",", "\t", ";", "|")
_SEPARATOR = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE)


class Table:
    """A table's header and rows. The header is read at once: raises DatasetError if it is missing, OSError.

    Names of columns are in lower case; one that comes twice gets a number. `people` are the columns about a person, as they are
    written in the table.
    """

    def __init__(self, path: Path) -> None:
        self._feed = _Feed(read_lines(path, LINE_CHARACTERS))
        self._delimiter = _delimiter(self._feed)
        try:
            names = next(csv.reader(self._feed, delimiter=self._delimiter, strict=True))
        except (StopIteration, csv.Error):
            names = []
        written = [label_text(" ".join(name.split())) for name in names]
        self.header = _distinct([name.lower() for name in written])
        if not any(self.header):
            raise DatasetError("the table is empty: it has no header")
        keys = {name: column_key(name) for name in self.header if name}
        self.known = {
            what: tuple(sorted((n for n, key in keys.items() if key in names), key=lambda n: names.index(keys[n])))
            for what, names in COLUMNS.items()
        }
        named = {name for names in self.known.values() for name in names}
        about = {name: text for name, text in zip(self.header, written, strict=True) if name and is_about_person(text)}
        self.people = tuple(text for name, text in about.items() if name not in named)
        self.others = tuple(name for name in keys if name not in named and name not in about)

    def require(self, *columns: str) -> None:
        """Raises DatasetError unless the table has a column for each of these; for the caption another text will do."""
        for each in columns:
            others = ("title", "impression", "findings") if each == "caption" else ()
            if not any(self.known[name] for name in (each, *others)):
                raise DatasetError(f"the table has no column for the {each}: one of {', '.join(COLUMNS[each])}")

    def value(self, row: Row, column: str) -> str:
        """Returns a row's field by any name of the column, or empty."""
        return next((row[name] for name in self.known[column] if row[name]), "")

    def texts(self, row: Row) -> CaseTexts:
        """Returns a row's text fields other than the caption."""
        texts = case_texts.case_texts(lambda field: self.value(row, field))
        titles = [row[name] for name in self.known["title"] if row[name]]
        return with_topic(texts, titles[-1]) if len(titles) > 1 else texts

    def rows(self) -> Iterator[tuple[int, Row | str]]:
        """Yields the line that a row starts on, and the row or the reason why it is refused. Call it once.

        A quote that does not end spoils its own line alone.
        """
        feed = self._feed
        width = len(self.header)
        while True:
            feed.taken.clear()
            fault = ""
            row: list[str] = []
            try:
                row = next(csv.reader(feed, delimiter=self._delimiter, strict=True))
            except StopIteration:
                return
            except csv.Error as error:
                fault = str(error) if isinstance(error, _LineError) else _NO_CSV
            if not fault and not any(field.strip() for field in row):
                continue
            if not fault and len(row) > width and not any(field.strip() for field in row[width:]):
                del row[width:]
            if not fault and len(row) != width:
                fault = f"the row has {len(row)} fields, the header {width}"
            line = feed.taken[0][0]
            if fault:
                feed.give_back(1)
                yield line, fault
            elif not all(map(is_text, row)):
                yield line, "the row has bytes that are not text"
            else:
                yield line, dict(zip(self.header, (field.strip() for field in row), strict=True))


_NO_CSV = "the row is not CSV (a quote that does not end, or too long a field)"


class _LineError(csv.Error):
    """A line that cannot be part of a row."""


class _Feed:
    """Lines for csv.reader. `taken` are those of the row being read, which can be given back."""

    def __init__(self, lines: Iterator[tuple[int, str | None]]) -> None:
        self._lines = lines
        self._back: deque[tuple[int, str | None]] = deque()
        self.taken: list[tuple[int, str | None]] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        each = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(each)
        if each[1] is None:
            raise _LineError("the line is too long")
        if len(self.taken) > ROW_LINES:
            raise _LineError(_NO_CSV)
        return each[1]

    def give_back(self, keep: int) -> None:
        """Puts the row's lines back, without the first `keep`."""
        self._back.extendleft(reversed(self.taken[keep:]))


def _delimiter(feed: _Feed) -> str:
    """The delimiter of a table, from its first line: what `sep=` of Excel says, else the one that is there most often."""
    for line in feed:
        if not line.strip():
            continue
        said = _SEPARATOR.fullmatch(line)
        if said:
            feed.taken.clear()
            return "\t" if said[1] == "\\t" else said[1]
        feed.give_back(len(feed.taken) - 1)
        feed.taken.clear()
        bare = re.sub(r'"[^"]*"', "", line)
        return max(_DELIMITERS, key=bare.count)
    return ","


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before; empty ones stay."""
    found: list[str] = []
    for name in names:
        number = 2
        other = name
        while name and other in found:
            other, number = f"{name}_{number}", number + 1
        found.append(other)
    return found


def column_key(name: str) -> str:
    """A column's name as `COLUMNS` has them: `Image ID` is `image_id`."""
    return "_".join(re.findall(r"[^\W_]+", name.lower()))


def table_files(path: Path, *, follow_links: bool = False) -> list[Path]:
    """The tables at a path: the file itself, or those in the folder."""
    if path.is_file():
        return [path] if path.suffix.lower() in (".csv", ".tsv") else []
    folder = Folder(path, follow_links=follow_links)
    return [each for each in folder.files("*") if each.suffix.lower() in (".csv", ".tsv")]


class TableReader:
    """Reads a table (`path` is it, or the folder that holds it) with images in the same folder or in `images/`."""

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        """Reads the header; raises DatasetError if the table, or a column that every record needs, is missing."""
        tables = table_files(path, follow_links=follow_links)
        if not tables:
            raise DatasetError("there is no table (.csv or .tsv)")
        if len(tables) > 1:
            raise DatasetError(f"there are {len(tables)} tables: name the one to read")
        self._folder = Folder(tables[0], follow_links=follow_links)
        self._name = self._folder.relative(tables[0])
        if not self._folder.holds(tables[0]):
            raise DatasetError("the table is a link that leaves the folder")
        self._table = Table(tables[0])
        self._table.require("file", "caption")
        self.left_out = LeftOut()
        for name in self._table.people:
            self.left_out.add(name)

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in the table's order."""
        ids = Ids(self._folder.name)
        for line, row in self._table.rows():
            if isinstance(row, str):
                yield BadRow(line, row, self._name)
                continue
            try:
                yield self._record(row, line, ids)
            except RowError as error:
                yield BadRow(line, str(error), self._name)

    def _record(self, row: Row, line: int, ids: Ids) -> AtlasRecord:
        table = self._table
        path = self._folder.image(table.value(row, "file"))
        texts = table.texts(row)
        caption, replaced = choose_caption(table.value(row, "caption"), texts, path.name)
        if replaced:
            self.left_out.add_placeholder(f"{self._name} line {line}")
        own = table.value(row, "id")
        where = f"line {line}"
        own_id: dict[str, str] = {}
        former: tuple[str, ...] = ()
        if own:
            identity, own_id = ids.take(own, where)
        else:
            identity, former = ids.make(path.relative_to(self._folder.path).as_posix(), where)
        others = {name: row[name] for name in table.others if row[name]}
        labels, original = map_labels(others, None, self.left_out)
        labels = {**facets_of(caption, table.value(row, "cuis").split(";")), **labels}
        licence = licence_name(table.value(row, "licence"))
        labels.setdefault("licence", facet_values([licence]))
        return AtlasRecord(
            id=identity,
            caption=caption,
            labels=labels,
            original_labels={**original, **own_id, "licence": label_text(licence)},
            licence=licence,
            source=line_text(table.value(row, "source") or table.value(row, "pmcid")) or self._folder.name,
            attribution=line_text(table.value(row, "attribution")),
            sha256="",
            image_path=path,
            **texts.items(),
            file=self._name,
            line=line,
            made_id=not own,
            former_ids=former,
        )


class RocoV2Reader:
    """Reads the CSVs of ROCOv2 in a folder, split after split."""

    def __init__(self, path: Path, *, follow_links: bool = False) -> None:
        """Reads the headers; raises DatasetError without a table of captions, or if one of its columns is missing."""
        self._folder = Folder(path, follow_links=follow_links)
        self.left_out = LeftOut()
        self._tables = captions_files(path, follow_links=follow_links)
        if not self._tables:
            raise DatasetError("there is no *_captions.csv")
        for file in self._tables:
            self._table(file, "id", "caption")

    def _table(self, file: Path, *columns: str) -> Table:
        """A table with these columns; raises DatasetError with the file's name."""
        try:
            table = Table(file)
            table.require(*columns)
        except DatasetError as error:
            raise DatasetError(f"{self._folder.relative(file)}: {error}") from None
        for name in table.people:
            self.left_out.add(name)
        return table

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records in the order of each split's captions."""
        ids = Ids(self._folder.name)
        licences, named = self._licences(), self._concept_names()
        for file in self._tables:
            table, name = self._table(file), self._folder.relative(file)
            split = file.name.removesuffix("_captions.csv")
            concepts = self._concepts(split)
            for line, row in table.rows():
                if isinstance(row, str):
                    yield BadRow(line, row, name)
                    continue
                try:
                    own, cuis = table.value(row, "id"), concepts.get(table.value(row, "id"), "")
                    texts = self._texts(cuis, named)
                    caption, _ = choose_caption(table.value(row, "caption"), texts)
                    image = self._image(own, split)
                    identity, own_id = ids.take(own, f"{name} line {line}")
                    about = licences.get(own, {})
                    yield _rocov2_record(identity, caption, image, own_id, split, cuis, about, texts, name, line)
                except RowError as error:
                    yield BadRow(line, str(error), name)

    def _image(self, own: str, split: str) -> Path:
        if "/" in own or "\\" in own or not own:
            raise RowError("the file lies outside the folder" if own else "the id is missing")
        for folder in (f"{split}/", f"{split}_images/{split}/", f"{split}_images/", "images/", f"{split}/images/", ""):
            for suffix in sorted(SUFFIXES):
                path = self._folder.path / f"{folder}{own}{suffix}"
                if path.exists() or path.is_symlink():
                    return self._folder.checked(path)
        for folder in (f"{split}/", f"{split}_images/{split}/", f"{split}_images/", f"{split}/images/", ""):
            try:
                return self._folder.image(f"{folder}{own}")
            except RowError as error:
                if "missing" not in str(error):
                    raise
        raise RowError("the image is missing")

    def _concepts(self, split: str) -> dict[str, str]:
        found: dict[str, str] = {}
        # The manual ones come second: they are the curated modality and region, and are read first by the mapping.
        for name in (f"{split}_concepts_manual.csv", f"{split}_concepts.csv"):
            path = self._folder.path / name
            if self._folder.holds(path):
                table = self._table(path)
                for _, row in table.rows():
                    if not isinstance(row, str):
                        own = table.value(row, "id")
                        found[own] = ";".join(filter(None, (found.get(own, ""), table.value(row, "cuis"))))
        return found

    def _concept_names(self) -> dict[str, str]:
        """Names of the concepts (`cui_mapping.csv`: CUI and name); empty without the file."""
        path = self._folder.path / "cui_mapping.csv"
        if not self._folder.holds(path):
            return {}
        table = self._table(path)
        rows = (list(row.values()) for _, row in table.rows() if not isinstance(row, str))
        return {values[0]: values[1] for values in rows if len(values) > 1}

    @staticmethod
    def _texts(cuis: str, named: Row) -> CaseTexts:
        names = [named[cui] for cui in re.split(r"[;,]", cuis) if cui in named]
        return case_texts.case_texts({"keywords": names}.get)

    def _licences(self) -> dict[str, dict[str, str]]:
        """Licence, PMC id and attribution by id."""
        found: dict[str, dict[str, str]] = {}
        for name in ("license_information.csv", "licence_information.csv", "licenses.csv"):
            path = self._folder.path / name
            if self._folder.holds(path):
                table = self._table(path)
                for _, row in table.rows():
                    if not isinstance(row, str):
                        found[table.value(row, "id")] = {
                            what: table.value(row, what) for what in ("licence", "pmcid", "attribution")
                        }
        return found


def _rocov2_record(
    identity: str,
    caption: str,
    image: Path,
    own_id: dict[str, str],
    split: str,
    cuis: str,
    about: Row,
    texts: CaseTexts,
    file: str,
    line: int,
) -> AtlasRecord:
    licence = licence_name(about.get("licence"))
    pmcid = line_text(about.get("pmcid"))
    labels = facets_of(caption, cuis.replace(",", ";").split(";"))
    labels["licence"] = facet_values([licence])
    original = {**own_id, "cuis": label_text(cuis), "split": label_text(split), "pmcid": label_text(pmcid)}
    return AtlasRecord(
        id=identity,
        caption=caption,
        labels=labels,
        original_labels={name: value for name, value in original.items() if value},
        licence=licence,
        source=line_text(f"PubMed Central {pmcid}, by ROCOv2") if pmcid else "ROCOv2",
        attribution=line_text(about.get("attribution")),
        sha256="",
        image_path=image,
        **texts.items(),
        file=file,
        line=line,
    )


def captions_files(path: Path, *, follow_links: bool = False) -> list[Path]:
    """The captions tables of ROCOv2 in a folder."""
    return Folder(path, follow_links=follow_links).files("*_captions.csv")
