"""Judges the best result by thresholds that were measured on the collection."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mirage_retriever.query import Given, Term, Text

KINDS = ("text", "image", "arithmetic")


class Match(IntEnum):
    """As mirage.v1.Match."""

    GOOD = 1
    WEAK = 2
    NONE = 3
    NOT_JUDGED = 4


@dataclass(frozen=True)
class Thresholds:
    """Cosines: a match of at least `good` is good, below `weak` it is none."""

    good: float
    weak: float


def kind_of(terms: Sequence[Term]) -> str | None:
    """Returns `text` for one text, `image` for one image or record, `arithmetic` for a sum of them.

    None if a term is a bare vector.

    A sum is further from every image than its terms are, so it has its own thresholds. Terms of weight zero do not
    count.
    """
    values = [term.value for term in terms if term.weight]
    if any(isinstance(value, Given) for value in values):
        return None
    if len(values) != 1:
        return "arithmetic"
    return "text" if isinstance(values[0], Text) else "image"


def judge(best: float | None, thresholds: Thresholds | None) -> Match:
    """Returns the match of a best cosine; NONE if nothing was found, NOT_JUDGED without thresholds."""
    if thresholds is None:
        return Match.NOT_JUDGED
    if best is None or best < thresholds.weak:
        return Match.NONE
    return Match.GOOD if best >= thresholds.good else Match.WEAK
