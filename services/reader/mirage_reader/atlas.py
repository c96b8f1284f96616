"""The reader's view of the collection and the encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mirage_reader.kinds import Look


@dataclass(frozen=True)
class Subject:
    """The subject of a search: an image by its file or its vector, or a record. `collection` is empty for the active one."""

    image: bytes = field(default=b"", repr=False)
    vector: bytes = field(default=b"", repr=False)
    record_id: str = ""
    collection: str = ""


@dataclass(frozen=True)
class Neighbour:
    """A record that was found. `case` is its own id if its case is not known; `shown` is the result as callers get it."""

    id: str
    case: str
    labels: Mapping[str, Sequence[str]]
    caption: str
    shown: object = field(repr=False, compare=False)


@dataclass(frozen=True)
class Counts:
    """Records of one kind: how many there are, and how many have each value of each facet."""

    records: int
    values: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Own:
    """The image itself as the collection knows it: ids and cases to leave out, labels and outlined structures."""

    ids: frozenset[str] = frozenset()
    cases: frozenset[str] = frozenset()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    structures: tuple[str, ...] = ()

    def holds(self, neighbour: Neighbour) -> bool:
        """True for a record of the image's own case."""
        return neighbour.id in self.ids or neighbour.case in self.cases


Where = Mapping[str, Sequence[str]]


class Atlas(Protocol):
    """The collection and the encoder. Every method raises MirageError."""

    async def image(self, record_id: str, collection: str) -> bytes:
        """Returns the display copy of a record's image."""
        ...

    async def look(self, image: bytes) -> Look:
        """Classifies an image."""
        ...

    async def vector(self, image: bytes) -> bytes:
        """Returns an image's vector, as little-endian float32: searches need no more of it."""
        ...

    async def own(self, subject: Subject) -> Own:
        """Returns the record itself, or the records that were made from the same file."""
        ...

    async def nearest(self, subject: Subject, where: Where, cases: int, *, words: str = "") -> list[Neighbour]:
        """Returns the nearest record of so many cases, to the image or to image and words together, nearest first."""
        ...

    async def about(self, words: str, collection: str) -> list[Neighbour]:
        """Returns up to 10 records for a question in words."""
        ...

    async def counts(self, where: Where, collection: str) -> Counts:
        """Counts the labels of the records that pass a filter."""
        ...
