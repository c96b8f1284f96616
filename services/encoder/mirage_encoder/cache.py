"""Vectors kept for texts and images that come again."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from mirage_inference.engines.base import FloatArray

Key = TypeVar("Key", bound=Hashable)


class VectorCache(Generic[Key]):
    """At most `entries` vectors by what they are of (token ids, a file's digest), the least recently used dropped first.

    For one event loop only.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._vectors: OrderedDict[Key, FloatArray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: Key) -> FloatArray | None:
        """The vector, read-only, or None."""
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector

    def put(self, key: Key, vector: FloatArray) -> None:
        """Keeps a copy of the vector."""
        if self._entries == 0:
            return
        kept = vector.copy()  # a row of a batch would keep the whole batch alive
        kept.flags.writeable = False
        self._vectors[key] = kept
        self._vectors.move_to_end(key)
        while len(self._vectors) > self._entries:
            self._vectors.popitem(last=False)
