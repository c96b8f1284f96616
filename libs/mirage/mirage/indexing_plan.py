"""The input of an indexing run: the atlas, vectors that are there already, and the run's options."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mirage.uploads import Upload
from mirage_api.records import RecordPresence, UpsertOutcome


class Atlas(Protocol):
    """The part of a client that indexing uses; `mirage.client.Client` has it."""

    def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
        """Stores records."""

    def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[RecordPresence, ...]:
        """Returns what is stored of some records, given as (id, SHA-256)."""


class Vectors(Protocol):
    """Embeddings that the caller has already; `mirage.embeddings.Embeddings` is one."""

    @property
    def fingerprint(self) -> str:
        """Of the model that made them."""
        ...

    def of(self, record_id: str) -> "tuple[bytes, bytes | None] | None":
        """Returns image vector and optionally caption vector of a record, little-endian float32.

        None for an unknown id.
        """


@dataclass(frozen=True)
class Plan:
    """Options of a run: the collection to fill ("" for the active one), and the vectors that need not be computed.

    With `resume`, records that the atlas already has are not sent. With `skip_duplicates` an image that another record
    of the run or of the atlas shows is refused. With `strict` a record without a given vector is refused rather than
    encoded.
    """

    collection: str = ""
    resume: bool = True
    skip_duplicates: bool = True
    vectors: Vectors | None = None
    strict: bool = False


@dataclass(frozen=True)
class Pace:
    """Pace of sending: records per batch, batches at a time, and how long to retry while the server is unreachable."""

    batch: int = 32
    parallel: int = 2
    patience_s: float = 60.0
