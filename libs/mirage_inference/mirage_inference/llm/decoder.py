"""The Protocol of an engine, which loads a decoder and continues texts with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_inference.bundles import LlmManifest

FloatArray: TypeAlias = npt.NDArray[np.float32]
AnyArray: TypeAlias = npt.NDArray[Any]
Cancelled: TypeAlias = Callable[[], bool]


class ContextFullError(Exception):
    """Raised for more tokens than the context holds. Prompts are kept short enough, so a client never sees this."""

    def __init__(self, asked: int, capacity: int) -> None:
        super().__init__(f"{asked} tokens do not fit into a context of {capacity}")
        self.asked, self.capacity = asked, capacity


class CancelledError(Exception):
    """The caller no longer wants the answer."""


@dataclass(frozen=True)
class DecoderShape:
    """Shapes of a decoder's inputs and outputs; `context_length` is the largest number of tokens of a text."""

    vocabulary: int
    layers: int
    heads: int
    head_size: int
    context_length: int

    @classmethod
    def of(cls, manifest: LlmManifest) -> "DecoderShape":
        """As a manifest states it."""
        return cls(manifest.vocabulary, manifest.layers, manifest.heads, manifest.head_size, manifest.context_length)


@dataclass(frozen=True)
class Prefix:
    """The cache after some tokens, to begin texts with that begin so. Belongs to the decoder that made it.

    `cache` is the engine's own: arrays [heads, tokens, head size] of each layer's keys and values.
    """

    ids: tuple[int, ...]
    cache: tuple[FloatArray, ...]

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return sum(array.nbytes for array in self.cache)


class TextSession(Protocol):
    """One text that is being continued, with its key-value cache. Used by one thread at a time."""

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        ...

    def prefill(self, ids: Sequence[int], *, cancelled: Cancelled | None = None) -> FloatArray:
        """Append tokens (at least one); the logits float32 [V] of what follows the last.

        `cancelled` is asked between pieces, and CancelledError raised: the session then holds the pieces before. Raises
        ContextFullError before anything is appended, and MODEL_FAILED.
        """
        ...

    def step(self, token: int) -> FloatArray:
        """Append one token; the logits float32 [V] of what follows, valid until the next call. Raises as `prefill`."""
        ...

    def score(self, ids: Sequence[int]) -> FloatArray:
        """Append tokens; the logits float32 [len(ids), V] of what follows each of them. Raises as `prefill`."""
        ...

    def rewind(self, length: int) -> None:
        """Drops all tokens after the first `length`; raises ValueError if there are fewer."""
        ...

    def keep(self) -> Prefix:
        """A copy of the cache as it is."""
        ...


class Decoder(Protocol):
    """A loaded decoder. Safe to use from several threads, each with sessions of its own."""

    @property
    def context_length(self) -> int:
        """The most tokens of a text."""
        ...

    @property
    def vocabulary(self) -> int:
        """V, the length of the logits."""
        ...

    def open(self, *, prefix: Prefix | None = None, capacity: int | None = None) -> TextSession:
        """Starts a new text of at most `capacity` tokens (default: the context), which begins with `prefix` if given.

        Raises ContextFullError if the prefix is longer, ValueError for a prefix of another decoder or a capacity
        beyond the context.
        """
        ...

    def close(self) -> None:
        """Frees what it holds; sessions must not be used again."""
        ...


class Engine(Protocol):
    """Loads decoders."""

    @property
    def description(self) -> str:
        """Name and version, such as "onnxruntime 1.32.0"."""
        ...

    def load(
        self, directory: Path, manifest: LlmManifest, variant: str, *, threads: int, prompt_graph: bool = True
    ) -> Decoder:
        """Loads the decoder of a bundle, and with `prompt_graph` the graph that reads prompts for it if there is one.

        Raises BUNDLE_INVALID if one cannot be loaded or differs from the manifest.
        """
        ...
