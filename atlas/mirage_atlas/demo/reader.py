"""The demonstration atlas as a reader: the packaged renderings, then the clinical samples of the installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mirage_atlas.demo.samples import read_samples
from mirage_atlas.jsonl import CaptionsReader
from mirage_atlas.records import AtlasRecord, BadRow, LeftOut

DATA = Path(__file__).parent / "data"


class DemoReader:
    """Renderings of one averaged brain and a few samples; needs neither torch nor nilearn, downloads nothing."""

    def __init__(self, data: Path = DATA) -> None:
        self._captions = CaptionsReader(data)

    @property
    def left_out(self) -> LeftOut:
        """Nothing: the demonstration names no person."""
        return self._captions.left_out

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Yields all records, and a bad row for each sample whose package is missing."""
        yield from self._captions.read()
        yield from read_samples()
