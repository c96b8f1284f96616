"""How well the best result answers, by thresholds calibrated with the model."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mirage_retriever.query import Id, Image, Term, Text


class Match(IntEnum):
    """As mirage.v1.Match."""

    UNSPECIFIED = 0
    GOOD = 1
    WEAK = 2
    NONE = 3


@dataclass(frozen=True)
class Thresholds:
    """Cosines: from `good` on a match is good, below `weak` it is none."""

    good: float
    weak: float


def kind_of(terms: Sequence[Term]) -> str | None:
    """`text` where all terms are texts, `image` where all are images or records, `mixed` for both; None with a bare vector."""
    kinds = set()
    for term in terms:
        match term.value:
            case Text():
                kinds.add("text")
            case Image() | Id():
                kinds.add("image")
            case _:
                return None
    return kinds.pop() if len(kinds) == 1 else "mixed"


def read_thresholds(manifest_json: str, *, overrides: Mapping[str, Thresholds] | None = None) -> dict[str, Thresholds]:
    """The thresholds in a bundle's manifest (`match`: kind to `good` and `weak`), with those of the settings before them.

    A manifest without them, or with ones that make no sense, gives none: better no word than a wrong one.
    """
    found: dict[str, Thresholds] = {}
    try:
        block = json.loads(manifest_json).get("match") or {}
    except (ValueError, AttributeError):
        block = {}
    for kind in ("text", "image", "mixed"):
        try:
            thresholds = Thresholds(float(block[kind]["good"]), float(block[kind]["weak"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if -1 <= thresholds.weak <= thresholds.good <= 1 and math.isfinite(thresholds.good):
            found[kind] = thresholds
    return {**found, **(overrides or {})}


def judge(best: float | None, thresholds: Thresholds | None) -> Match:
    """The match of a best cosine; NONE where nothing was found, UNSPECIFIED without thresholds."""
    if thresholds is None:
        return Match.UNSPECIFIED
    if best is None or best < thresholds.weak:
        return Match.NONE
    return Match.GOOD if best >= thresholds.good else Match.WEAK
