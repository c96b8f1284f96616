"""Events of a description: Started, then Piece and Cited in their order, then Ended. A declined one has Ended only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Source(IntEnum):
    """As mirage.v1.DescriptionSource."""

    MODEL = 1
    EXTRACTIVE = 2
    NONE = 3


class Finish(IntEnum):
    """As mirage.v1.DescriptionFinish."""

    STOP = 1
    LENGTH = 2
    NO_MATCH = 3
    NOT_MEDICAL = 4
    TOO_SLOW = 5
    NO_MODEL = 6


@dataclass(frozen=True)
class Started:
    """The captions in use (ids, best first), tokens of the prompt, and the seed in use."""

    used: tuple[str, ...]
    dropped: tuple[str, ...]
    prompt_tokens: int
    cached_tokens: int
    seed: int
    shortened: bool


@dataclass(frozen=True)
class Piece:
    """Text to be appended."""

    text: str


@dataclass(frozen=True)
class Cited:
    """The `sentence`-th sentence (from 0) is text[start:end] (Unicode code points); `ids` support it, best first."""

    sentence: int
    start: int
    end: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """The whole text and its citations; times in milliseconds from the request's arrival."""

    text: str
    source: Source
    finish: Finish
    citations: tuple[Cited, ...] = ()
    tokens: int = 0
    first_token_ms: float = 0.0
    queue_ms: float = 0.0
    inference_ms: float = 0.0
    total_ms: float = 0.0
    notice: str = ""


Event = Started | Piece | Cited | Ended
