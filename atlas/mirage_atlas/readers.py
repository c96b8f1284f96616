"""What a dataset reader is, and the readers by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mirage_atlas.records import AtlasRecord, BadRow


class Reader(Protocol):
    """A dataset as a stream: bad rows are yielded where they stand and never stop it."""

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Yield records and bad rows in the source's order, holding one at a time in memory."""


READERS = ("captions", "demo")
"""Names of the readers: a folder with `captions.jsonl`, and the demonstration atlas."""


def open_reader(name: str, folder: Path | None = None) -> Reader:
    """The reader of that name; `captions` needs the dataset's folder. Raises ValueError for another name or a missing folder."""
    if name == "demo":
        from mirage_atlas.demo.reader import DemoReader

        return DemoReader()
    if name == "captions":
        from mirage_atlas.jsonl import CaptionsReader

        if folder is None:
            raise ValueError("the captions reader needs a folder")
        return CaptionsReader(folder)
    raise ValueError("no such reader")
