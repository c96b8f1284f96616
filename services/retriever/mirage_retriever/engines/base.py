"""The Protocol of a search engine; every engine passes tests/contract/test_retriever_engines.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Facets = Mapping[str, tuple[str, ...]]


# Groups of ways to say something: a point fits that has, for each group, all words (by their ids) of one of its ways.
Condition: TypeAlias = tuple[tuple[tuple[int, ...], ...], ...]

# The sparse vector of a point's words, and the payload fields of their ids and of the words themselves.
WORDS, WORD_IDS, FORMS = "words", "word_ids", "forms"
VOCABULARY_MAX = 200_000
# The payload field of a point's case, and those of the numbers by which points are read in order.
CASE = "case_id"
ORDERS = ("added", "case", "shuffle")
# Payload fields that hold digests: indexed, and countable like facets. Points of older versions have the first only.
DIGESTS = ("image_sha256", "original_sha256", "pixels_sha256", "regions_sha256")


class Space(StrEnum):
    """A named vector of a point."""

    IMAGE = "image"
    CAPTION = "caption"


class CollectionDamagedError(Exception):
    """A collection whose files cannot be opened, now or later; the text says why."""


# Points of older schemas have other words, or no place in an order: they are stored again. Raised with every change of
# to_point.
SCHEMA = 6


@dataclass(frozen=True)
class Collection:
    """A collection's name and model: `fingerprint` is of the bundle that made its vectors, `dimension` their length."""

    name: str
    dimension: int
    fingerprint: str
    schema: int = SCHEMA


@dataclass(frozen=True, eq=False)
class Words:
    """The words of a point: a sparse vector of word ids (uint32, ascending) and weights (float32), and the words as written.

    Filters compare the ids; `forms` are the words of the vocabulary. The engine multiplies each weight with how rare the word
    is in the collection.
    """

    ids: npt.NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    weights: Array = field(default_factory=lambda: np.empty(0, np.float32))
    forms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Parameters of the HNSW graph: edges of a node, candidates at building and at searching.

    `indexing_threshold_kb` is the size of one space's vectors from which a graph is built; a smaller space is searched exactly.
    """

    m: int = 16
    ef_construct: int = 100
    ef: int = 64
    indexing_threshold_kb: int = 10_000


@dataclass(frozen=True, eq=False)
class Point:
    """One record as an engine stores it: unit vectors of shape (dimension,), float32.

    `record` is the record as JSON, `facets` are the fields that can be filtered and counted. The digests name its image
    file, the file that came in, its 16-bit image and its label map (or ""). `order` has a number below 2^53 for
    each of ORDERS.
    """

    id: str
    image: Array
    caption: Array
    record: str
    facets: Facets
    image_sha256: str
    original_sha256: str = ""
    pixels_sha256: str = ""
    regions_sha256: str = ""
    words: Words = field(default_factory=Words)
    case_id: str = ""
    order: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Stored:
    """A point read back; the vectors are None unless they were requested."""

    id: str
    record: str
    image: Array | None = None
    caption: Array | None = None


@dataclass(frozen=True)
class Placed:
    """A point in an order: its number there, its id and its record as JSON."""

    number: int
    id: str
    record: str


@dataclass(frozen=True, eq=False)
class Walked:
    """One page of a walk over all points: each point with its own position, from which a walk meets it first.

    `position` is the start of the next page, "" at the end.
    """

    points: tuple[Stored, ...]
    positions: tuple[str, ...]
    position: str


@dataclass(frozen=True)
class Filter:
    """Points that carry one of the values of every facet in `where` and none of those in `where_not`, are in `only` (if
    given) and not in `exclude`, and belong to one of `cases` (if given).

    `says` is a condition that points fit, each of `silent` one that they do not.
    """

    where: Facets = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    says: Condition = ()
    silent: tuple[Condition, ...] = ()
    where_not: Facets = field(default_factory=dict)
    cases: tuple[str, ...] | None = None


EVERYTHING = Filter()


@dataclass(frozen=True, eq=False)
class Nearest:
    """A search for the `limit` points closest to a unit vector, by cosine; `exact` skips the HNSW graph.

    `min_score` is the least cosine that counts.
    """

    vector: Array
    space: Space
    limit: int
    filter: Filter = field(default_factory=Filter)
    min_score: float | None = None
    exact: bool = False

    @property
    def threshold(self) -> float | None:
        """The threshold for Qdrant: it leaves out a score equal to its threshold, so this is the float32 before `min_score`."""
        if self.min_score is None:
            return None
        return float(np.nextafter(np.float32(self.min_score), np.float32(-np.inf)))


@dataclass(frozen=True, eq=False)
class Saying:
    """A search for the `limit` points that say most of some words, by BM25; ids and weights as in Words."""

    ids: npt.NDArray[np.uint32]
    weights: Array
    limit: int
    filter: Filter = field(default_factory=Filter)


@dataclass(frozen=True, eq=False)
class Like:
    """A search for the `limit` points that are like some vectors and unlike others, by Qdrant's best score.

    A point that is closer to a positive than to any negative comes before all others, the closer the sooner. At least one is
    positive.
    """

    positives: tuple[Array, ...]
    negatives: tuple[Array, ...]
    space: Space
    limit: int
    filter: Filter = field(default_factory=Filter)


Search: TypeAlias = Nearest | Saying | Like


@dataclass(frozen=True)
class Hit:
    """A point found, with its cosine (or BM25 score, or best score) and its record as JSON."""

    id: str
    score: float
    record: str


@dataclass(frozen=True)
class Status:
    """The number of points, and how many of them the HNSW graph covers."""

    records: int
    indexed: int


class Engine(Protocol):
    """Keeps points and finds the nearest.

    Each call raises MirageError: DEPENDENCY_UNAVAILABLE while the engine behind it is away, QUEUE_FULL when too much
    waits. What `upsert` and `delete` return from is kept through the death of any process.
    """

    @property
    def version(self) -> str:
        """Its name and version, such as "edge 0.9.0"."""
        ...

    @property
    def exclusive(self) -> bool:
        """True if nothing else can write to the collection while this engine has it."""
        ...

    @property
    def answers(self) -> bool:
        """True while what is behind the engine answers. Kept up to date in the background: asking costs nothing."""
        ...

    @property
    def has_words(self) -> bool:
        """False if it cannot store words: a collection of an older version on an older server."""
        ...

    async def open(self) -> Collection | None:
        """Opens the collection; returns None before it is made."""
        ...

    async def create(self, collection: Collection) -> None:
        """Makes the collection if it is missing. An existing one stays, with its records, if it has the same model.

        Raises COLLECTION_EXISTS if the existing one has another model, and STORAGE_FULL.
        """
        ...

    async def rebind(self, collection: Collection) -> None:
        """Replaces what the collection says of itself, by the same with another schema."""
        ...

    async def drop(self) -> None:
        """Removes the collection with its records; one that is not there is not an error."""
        ...

    async def search(self, requests: Sequence[Search]) -> list[list[Hit]]:
        """One list of hits a request, best first, a tie in order of ids."""
        ...

    async def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Stored]:
        """The points that are there, by id."""
        ...

    async def upsert(self, points: Sequence[Point]) -> None:
        """Stores points, each in place of the whole point of the same id. The ids of one call differ."""
        ...

    async def delete(self, ids: Sequence[str]) -> int:
        """Removes points; how many were there."""
        ...

    async def count(self, *, facet: str, value: str) -> int:
        """Points that carry the value; also for the facets of DIGESTS."""
        ...

    async def total(self, among: Filter) -> int:
        """The number of points that pass."""
        ...

    async def cases(self, ids: Sequence[str], among: Filter) -> dict[str, int]:
        """The number of points of each of these cases that pass; a case without any is left out."""
        ...

    async def facets(self, names: Sequence[str], among: Filter, limit: int) -> dict[str, list[tuple[str, int]]]:
        """Values of each facet with the number of points that carry them, most first, a tie in order of values."""
        ...

    async def vocabulary(self) -> dict[str, int]:
        """Words of points, with about the number of points that have each; of more than VOCABULARY_MAX the most frequent."""
        ...

    async def kept(self, name: str) -> str:
        """The text that `keep` stored with the collection under a name (a-z and _), or ""."""
        ...

    async def keep(self, name: str, text: str) -> None:
        """Stores a text with the collection, in place of the one before of that name; raises STORAGE_FULL."""
        ...

    async def ordered(
        self, name: str, start: int | None, limit: int, among: Filter, *, descending: bool = False
    ) -> "list[Placed]":
        """Up to `limit` points by their number `name` (of ORDERS), from the number `start` on; a tie is in any order."""
        ...

    async def walk(self, position: str, limit: int, *, vectors: bool = False, among: Filter = EVERYTHING) -> "Walked":
        """Up to `limit` points in a stable order from a position on ("" is the start), and where to go on.

        Points that come or go meanwhile may be missed; every other is met once. Raises PAGE_TOKEN_INVALID for a position
        that no walk gave.
        """
        ...

    async def showing(self, images: Sequence[str], limit: int) -> dict[str, list[str]]:
        """Ids of the points that came from a file with one of these SHA-256, or whose image is one, by SHA-256, at most
        `limit` each.
        """
        ...

    async def status(self) -> Status:
        """Returns the number of points."""
        ...

    async def rewrite(self) -> bool:
        """Writes everything again, so that the disk holds nothing of what was replaced or removed.

        False if the engine cannot: a server drops it in its own time.
        """
        ...

    async def close(self) -> None:
        """Writes out what is not yet and lets go."""
        ...


class CollectionStore(Protocol):
    """The collections of an engine, and the name of the active one."""

    async def names(self) -> list[str]:
        """The collections there are, in order."""
        ...

    async def without_words(self) -> list[str]:
        """Collections of versions that stored no words."""
        ...

    async def active(self) -> str:
        """The name that was marked active last, whether or not it is there."""
        ...

    async def mark_active(self, name: str) -> None:
        """Marks a collection active; lasts through the death of any process once it returns."""
        ...

    def engine(self, name: str) -> Engine:
        """An engine for the collection of that name, not opened yet; it need not be there."""
        ...

    async def remove(self, name: str) -> None:
        """Removes a collection that is not open; a missing one is not an error."""
        ...

    async def put_aside(self, name: str) -> None:
        """Renames a damaged collection, which is not open, so that its name is free; its files are kept."""
        ...

    async def close(self) -> None:
        """Lets go."""
        ...
