"""The parts of an archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirage_atlas.records import AtlasRecord, BadRow


@dataclass(frozen=True)
class Origin:
    """The origin of images: licence (an SPDX name if it has one), source and attribution as records have them."""

    licence: str
    source: str
    attribution: str


@dataclass(frozen=True)
class Opened:
    """The records of a part: how many, and streams of them that take turns with those of other parts."""

    count: int
    streams: list[Iterator[AtlasRecord | BadRow]]


class Part(Protocol):
    """Something in an archive that gives records."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that it needs."""

    def open(self, data: Sequence[bytes]) -> Opened:
        """Reads the files, given in the order of `files`. Raises ValueError (also ArchiveError) if they cannot be read."""
