"""What a description is asked for with, and the limits that hold for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mirage_core import limits
from mirage_core.errors import Code, MirageError

CAPTIONS_MAX = 16
MAX_TOKENS = 128
MAX_TOKENS_LIMIT = 512
TEMPERATURE_LIMIT = 2.0
SEED_LIMIT = 2**63 - 1
STOPS_MAX = 4
STOP_CHARS = 40


class Match(IntEnum):
    """As mirage.v1.Match."""

    UNSPECIFIED = 0
    GOOD = 1
    WEAK = 2
    NONE = 3


@dataclass(frozen=True)
class Caption:
    """A record's id and what its image shows."""

    id: str
    text: str


@dataclass(frozen=True)
class Writing:
    """How to write. `seed` None: chosen where `temperature` is not 0."""

    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """What is to be explained: the reader's words (may be empty), captions, best first, and how well retrieval answered."""

    query: str
    captions: tuple[Caption, ...]
    match: Match = Match.UNSPECIFIED
    writing: Writing = Writing()

    def check(self) -> None:
        """Raises the catalogue's error for the first limit that is passed; nothing is ever changed in silence."""
        if len(self.query) > limits.TEXT_CHARS:
            raise MirageError(Code.TEXT_TOO_LONG, field="query", max=limits.TEXT_CHARS, given=len(self.query))
        _check_captions(self.captions, needed=self.match not in (Match.NONE, Match.WEAK))
        _check_writing(self.writing)


def _check_captions(captions: Sequence[Caption], *, needed: bool) -> None:
    least = 1 if needed else 0
    if not least <= len(captions) <= CAPTIONS_MAX:
        raise MirageError(Code.TOO_MANY_ITEMS, field="captions", min=least, max=CAPTIONS_MAX, given=len(captions))
    for caption in captions:
        limits.check_id(caption.id)
        if not caption.text.strip():
            raise MirageError(Code.RECORD_INVALID, field="caption")
        if len(caption.text) > limits.CAPTION_CHARS:
            raise MirageError(Code.CAPTION_TOO_LONG, max=limits.CAPTION_CHARS, given=len(caption.text))
    if len({caption.id for caption in captions}) < len(captions):
        raise MirageError(Code.RECORD_INVALID, field="id")


def _check_writing(writing: Writing) -> None:
    if not 1 <= writing.max_tokens <= MAX_TOKENS_LIMIT:
        raise _out_of_range("max_tokens", f"1 to {MAX_TOKENS_LIMIT}", writing.max_tokens)
    if not (math.isfinite(writing.temperature) and 0 <= writing.temperature <= TEMPERATURE_LIMIT):
        raise _out_of_range("temperature", f"0 to {TEMPERATURE_LIMIT:g}", writing.temperature)
    if not (math.isfinite(writing.top_p) and 0 < writing.top_p <= 1):
        raise _out_of_range("top_p", "above 0 and at most 1", writing.top_p)
    if writing.seed is not None and not 0 <= writing.seed <= SEED_LIMIT:
        raise _out_of_range("seed", "0 to 2^63-1", writing.seed)
    if len(writing.stop) > STOPS_MAX:
        raise MirageError(Code.TOO_MANY_ITEMS, field="stop", min=0, max=STOPS_MAX, given=len(writing.stop))
    for stop in writing.stop:
        if not 1 <= len(stop) <= STOP_CHARS:
            raise _out_of_range("stop", f"of 1 to {STOP_CHARS} characters", f"one of {len(stop)}")


def _out_of_range(field: str, allowed: str, given: object) -> MirageError:
    return MirageError(Code.OPTION_OUT_OF_RANGE, field=field, range=allowed, given=given)
