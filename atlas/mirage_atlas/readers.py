"""What a dataset reader is, the readers by name, and which of them fits a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from mirage_atlas.records import AtlasRecord, BadRow

_FILES_LOOKED_AT = 200


class Reader(Protocol):
    """A dataset as a stream: bad rows are yielded where they stand and never stop it."""

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Yield records and bad rows in the source's order, holding one at a time in memory."""


READERS = ("captions", "roco", "rocov2", "parquet", "csv", "dicom", "demo")
"""Names of the readers: a folder with `captions.jsonl`, ROCO's folders, ROCOv2's tables, shards in the Hugging Face layout, a
table with images, a folder of DICOM files, and the demonstration atlas."""


def open_reader(name: str, path: Path | None = None) -> Reader:
    """The reader of that name on a folder or file; `demo` needs none. Raises ValueError, or ModuleNotFoundError for parquet."""
    if name == "demo":
        from mirage_atlas.demo.reader import DemoReader

        return DemoReader()
    if name not in READERS:
        raise ValueError("no such reader")
    if path is None:
        raise ValueError(f"the {name} reader needs a folder")
    return _open(name, path)


def _open(name: str, path: Path) -> Reader:
    folder = path.parent if path.is_file() else path
    match name:
        case "captions":
            from mirage_atlas.jsonl import CaptionsReader

            if not (folder / "captions.jsonl").is_file():
                raise ValueError("there is no captions.jsonl")
            return CaptionsReader(folder)
        case "roco":
            from mirage_atlas.roco import RocoReader, roco_folders

            if not roco_folders(folder):
                raise ValueError("there is no captions.txt in it or in a folder below it")
            return RocoReader(folder)
        case "rocov2":
            from mirage_atlas.tables import RocoV2Reader, captions_files

            if not captions_files(folder):
                raise ValueError("there is no *_captions.csv")
            return RocoV2Reader(folder)
        case "parquet":
            from mirage_atlas.parquet import ParquetReader, parquet_files

            if not parquet_files(path):
                raise ValueError("there is no .parquet file")
            return ParquetReader(path)
        case "csv":
            from mirage_atlas.tables import TableReader

            return TableReader(path)
        case _:
            from mirage_atlas.dicom import DicomReader

            return DicomReader(path)


def detect_reader(path: Path) -> str | None:
    """The name of the reader that fits what lies at a path; None where none does. A special file fits none."""
    from mirage_atlas.dicom import dicom_files, is_dicom
    from mirage_atlas.parquet import parquet_files
    from mirage_atlas.roco import roco_folders
    from mirage_atlas.tables import captions_files, table_file

    if not (path.is_file() or path.is_dir()):
        return None
    folder = path.parent if path.is_file() else path
    if path.name == "captions.jsonl" or (path.is_dir() and (folder / "captions.jsonl").is_file()):
        return "captions"
    if path.is_dir():
        if captions_files(path):
            return "rocov2"
        if roco_folders(path):
            return "roco"
    if parquet_files(path):
        return "parquet"
    if table_file(path) is not None:
        return "csv"
    return "dicom" if any(map(is_dicom, islice(dicom_files(path), _FILES_LOOKED_AT))) else None


def count_rows(name: str, path: Path) -> int | None:
    """About how many rows a dataset has, where that can be told at little cost: for a progress bar."""
    folder = path.parent if path.is_file() else path
    match name:
        case "captions":
            return _lines(folder / "captions.jsonl")
        case "roco":
            from mirage_atlas.roco import roco_folders

            return sum(_lines(file) for each in roco_folders(folder) for file in each.glob("captions*.txt"))
        case "rocov2":
            from mirage_atlas.tables import captions_files

            return sum(max(0, _lines(file) - 1) for file in captions_files(folder))
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


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))
