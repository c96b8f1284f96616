"""A record on its way into a collection, and what became of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

from mirage_core.errors import MirageError
from mirage_core.image_store import StagedImage
from mirage_core.imaging import PixelInfo
from mirage_core.regions import RegionMap
from mirage_retriever.engines.base import Array, Stored
from mirage_retriever.records import Record

# Two vectors count as the same: given again they differ by rounding only.
_SAME_VECTOR = 1e-5


@dataclass(frozen=True, eq=False)
class Head:
    """Starts a record of the stream. Vectors, pixels as JSON and the label map are as the caller gave them, unchecked."""

    record: Record
    image_vector: Array | None = None
    caption_vector: Array | None = None
    fingerprint: str = ""
    pixels: Mapping[str, Any] | None = None
    regions: RegionMap | None = None


class State(IntEnum):
    """As mirage.v1.UpsertState."""

    CREATED = 1
    UPDATED = 2
    UNCHANGED = 3
    REJECTED = 4


@dataclass(frozen=True)
class Outcome:
    """The outcome of one record. `left_out` names original labels about a person, which were not stored."""

    id: str
    state: State
    error: MirageError | None = None
    left_out: tuple[str, ...] = ()


@dataclass(eq=False)
class Incoming:
    """A record that is being put together. Once `error` is set it is only carried to its outcome.

    `size` bytes of its image came in; the bytes themselves are dropped once the image is cleaned, and `staged` is the result.
    `label_map` is the PNG of its label map as it will be stored.
    """

    head: Head
    record: Record
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    pixels: PixelInfo | None = None
    error: MirageError | None = None
    left_out: tuple[str, ...] = ()
    stored: Stored | None = None
    staged: StagedImage | None = None
    label_map: bytes = b""
    image: Array | None = None
    caption: Array | None = None

    @property
    def map_size(self) -> int:
        """Bytes of the label map that came in."""
        return len(self.head.regions.png) if self.head.regions else 0

    @property
    def is_given(self) -> bool:
        """True if the caller has both vectors: a bulk, whose thumbnails are made when they are first asked for."""
        return self.head.image_vector is not None and self.head.caption_vector is not None

    @property
    def before(self) -> Record | None:
        """The record as it is stored."""
        return Record.from_json(self.stored.record) if self.stored else None

    @property
    def changed(self) -> bool:
        """False if the stored record and vectors are already the same."""
        if self.stored is None or self.stored.record != self.record.to_json():
            return True
        pairs = ((self.head.image_vector, self.stored.image), (self.head.caption_vector, self.stored.caption))
        return any(given is not None and not _same(given, kept) for given, kept in pairs)


def _same(first: Array, second: Array | None) -> bool:
    return second is not None and bool(np.abs(first - second).max() < _SAME_VECTOR)
