"""The Protocol of a dataset reader, the readers by name, and the choice of one for a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from mirage_atlas.records import AtlasRecord, BadRow, DatasetError, LeftOut
from mirage_atlas.texts import count_lines

_FILES_LOOKED_AT = 200


class Reader(Protocol):
    """A dataset as a stream: bad rows are yielded in their place and never stop it."""

    @property
    def left_out(self) -> LeftOut:
        """Names of columns and labels that no record has; complete once all is read."""

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Yield records and bad rows in the source's order, holding one at a time in memory."""


READERS = ("captions", "roco", "rocov2", "openi", "parquet", "csv", "dicom", "demo")
"""Names of the readers: a folder with `captions.jsonl`, ROCO's folders, ROCOv2's tables, Open-i's chest X-rays, shards in the
Hugging Face layout, a table with images, a folder of DICOM files, and the demonstration atlas."""


def open_reader(name: str, path: Path | None = None, *, follow_links: bool = False) -> Reader:
    """The reader of that name on a folder or file; `demo` needs none.

    `follow_links` also reads links that lead out of the dataset (see folder.py). Raises DatasetError for a path that the reader
    cannot read, ValueError for an unknown name, OSError, and ModuleNotFoundError for parquet.
    """
    if name == "demo":
        from mirage_atlas.demo.reader import DemoReader

        return DemoReader()
    if name not in READERS:
        raise ValueError("no such reader")
    if path is None:
        raise ValueError(f"the {name} reader needs a folder")
    return _open(name, path, follow_links)


def _open(name: str, path: Path, follow_links: bool) -> Reader:
    folder = path.parent if path.is_file() else path
    match name:
        case "captions":
            from mirage_atlas.jsonl import CaptionsReader

            file = path.name if path.is_file() and path.suffix.lower() == ".jsonl" else CAPTIONS
            if not (folder / file).is_file():
                raise DatasetError(f"there is no {CAPTIONS}")
            return CaptionsReader(folder, captions=file, follow_links=follow_links)
        case "roco":
            from mirage_atlas.roco import RocoReader, roco_folders

            if not roco_folders(folder):
                raise DatasetError("there is no captions.txt in it or in a folder below it")
            return RocoReader(folder, follow_links=follow_links)
        case "rocov2":
            from mirage_atlas.tables import RocoV2Reader

            return RocoV2Reader(folder, follow_links=follow_links)
        case "openi":
            from mirage_atlas.openi import OpeniReader

            return OpeniReader(folder, follow_links=follow_links)
        case "parquet":
            from mirage_atlas.parquet import ParquetReader, parquet_files

            if not parquet_files(path, follow_links=follow_links):
                raise DatasetError("there is no .parquet file")
            return ParquetReader(path, follow_links=follow_links)
        case "csv":
            from mirage_atlas.tables import TableReader

            return TableReader(path, follow_links=follow_links)
        case _:
            from mirage_atlas.dicom import DicomReader

            return DicomReader(path, follow_links=follow_links)


CAPTIONS = "captions.jsonl"


def detect_reader(path: Path, *, follow_links: bool = False) -> str | None:
    """The name of the reader that fits what is at a path; None if none does. A special file fits none."""
    from mirage_atlas.dicom import dicom_files, is_dicom
    from mirage_atlas.openi import openi_reports, openi_tables
    from mirage_atlas.parquet import parquet_files
    from mirage_atlas.roco import roco_folders
    from mirage_atlas.tables import captions_files, table_files

    if not (path.is_file() or path.is_dir()):
        return None
    if path.is_file() and path.suffix.lower() == ".jsonl":
        return "captions"
    if path.is_dir():
        if (path / CAPTIONS).is_file():
            return "captions"
        if captions_files(path, follow_links=follow_links):
            return "rocov2"
        if roco_folders(path):
            return "roco"
        if openi_tables(path, follow_links=follow_links) or openi_reports(path):
            return "openi"
    if parquet_files(path, follow_links=follow_links):
        return "parquet"
    tables = table_files(path, follow_links=follow_links)
    if len(tables) == 1:
        return "csv"
    files = (file for _, file in dicom_files(path, follow_links=follow_links))
    if any(map(is_dicom, islice(files, _FILES_LOOKED_AT))):
        return "dicom"
    return "csv" if tables else None


def count_rows(name: str, path: Path) -> int | None:
    """About how many rows a dataset has, if that can be found out at little cost: for a progress bar."""
    folder = path.parent if path.is_file() else path
    match name:
        case "captions":
            return count_lines(path if path.is_file() else folder / CAPTIONS)
        case "roco":
            from mirage_atlas.roco import roco_folders

            return sum(count_lines(file) for each in roco_folders(folder) for file in each.glob("captions*.txt"))
        case "openi":
            from mirage_atlas.openi import openi_reports, openi_tables

            tables = openi_tables(folder)
            return max(0, count_lines(tables[1]) - 1) if tables else 2 * len(openi_reports(folder))
        case "rocov2":
            from mirage_atlas.tables import captions_files

            return sum(max(0, count_lines(file) - 1) for file in captions_files(folder))
        case "csv":
            from mirage_atlas.tables import table_files

            return sum(max(0, count_lines(file) - 1) for file in table_files(path))
        case "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            from mirage_atlas.parquet import parquet_files

            try:
                return sum(int(pq.ParquetFile(file).metadata.num_rows) for file in parquet_files(path))
            except (pa.ArrowException, OSError):
                return None
        case _:
            return None
