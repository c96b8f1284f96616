"""The request for a description, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mirage_core import limits
from mirage_core.describe_options import MAX_TOKENS_DEFAULT, check_describe_options
from mirage_core.errors import Code, MirageError

CAPTIONS_MAX = 16
LOOK_ALIKES_MAX = 4
TITLE_CHARS = 500


class Match(IntEnum):
    """As mirage.v1.Match."""

    GOOD = 1
    WEAK = 2
    NONE = 3
    NOT_JUDGED = 4


@dataclass(frozen=True)
class Caption:
    """A record's id and what its image shows; `title` only of a look-alike."""

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class Writing:
    """Options of writing. A `seed` of None is replaced by a random one if `temperature` is not 0."""

    max_tokens: int = MAX_TOKENS_DEFAULT
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """The question: the reader's words (may be empty), captions, best first, and the match of the retrieval.

    `look_alikes` have another title. With `against`, the captions of another side, the question is about the difference.
    """

    query: str
    captions: tuple[Caption, ...]
    match: Match = Match.NOT_JUDGED
    writing: Writing = Writing()
    look_alikes: tuple[Caption, ...] = ()
    against: tuple[Caption, ...] = ()

    def check(self) -> None:
        """Raises the catalogue's error for the first limit that is passed; nothing is ever changed in silence."""
        if len(self.query) > limits.TEXT_CHARS:
            raise MirageError(Code.TEXT_TOO_LONG, field="query", max=limits.TEXT_CHARS, given=len(self.query))
        _check_captions("captions", self.captions, needed=self.match not in (Match.NONE, Match.WEAK))
        _check_captions("against", self.against)
        _check_captions("look_alikes", self.look_alikes, most=LOOK_ALIKES_MAX)
        for record in self.look_alikes:
            if not record.title.strip() or len(record.title) > TITLE_CHARS or not record.title.isprintable():
                raise MirageError(Code.RECORD_INVALID, field="title")
        check_describe_options(
            max_tokens=self.writing.max_tokens,
            temperature=self.writing.temperature,
            top_p=self.writing.top_p,
            seed=self.writing.seed,
            stop=self.writing.stop,
        )


def _check_captions(field: str, captions: Sequence[Caption], *, needed: bool = False, most: int = CAPTIONS_MAX) -> None:
    least = 1 if needed else 0
    if not least <= len(captions) <= most:
        raise MirageError(Code.TOO_MANY_ITEMS, field=field, min=least, max=most, given=len(captions))
    for caption in captions:
        limits.check_id(caption.id)
        if not caption.text.strip():
            raise MirageError(Code.RECORD_INVALID, field="caption")
        if len(caption.text) > limits.CAPTION_CHARS:
            raise MirageError(Code.CAPTION_TOO_LONG, max=limits.CAPTION_CHARS, given=len(caption.text))
    if len({caption.id for caption in captions}) < len(captions):
        raise MirageError(Code.RECORD_INVALID, field="id")
