"""The kind of an image: modality, part of the body and view, and the filter for records of the same kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Medical(IntEnum):
    """As mirage.v1.ImageKind."""

    YES = 1
    UNSURE = 2
    NO = 3
    NOT_JUDGED = 4


class KindSource(IntEnum):
    """As mirage.v1.KindSource."""

    CLASSIFIED = 1
    RECORD = 2
    CALLER = 3


@dataclass(frozen=True)
class ValueGuess:
    """A value that an image may have, with its calibrated probability."""

    value: str
    score: float


@dataclass(frozen=True)
class FacetGuess:
    """Guesses for a facet, best first; `sure` if the best may narrow a search."""

    facet: str
    values: tuple[ValueGuess, ...]
    sure: bool


@dataclass(frozen=True)
class Look:
    """The encoder's classification of an image."""

    medical: Medical
    score: float
    facets: tuple[FacetGuess, ...] = ()


@dataclass(frozen=True)
class KindValue:
    """One property of the kind. `score` is calibrated; 1 if the record or the caller says it."""

    value: str
    score: float
    sure: bool
    source: KindSource
    others: tuple[ValueGuess, ...] = ()


@dataclass(frozen=True)
class Kind:
    """The kind of an image; a property that is not known is None."""

    medical: Medical
    medical_score: float
    modality: KindValue | None = None
    body_part: KindValue | None = None
    view: KindValue | None = None

    def where(self) -> dict[str, tuple[str, ...]]:
        """Returns the filter for records of the same kind: what is sure of modality and part of the body."""
        known = {"modality": self.modality, "body_part": self.body_part}
        return {name: (each.value,) for name, each in known.items() if each is not None and each.sure}


@dataclass(frozen=True)
class Correction:
    """The caller's values; empty ones change nothing."""

    modality: str = ""
    body_part: str = ""
    view: str = ""


def kind_of(look: Look, labels: Mapping[str, Sequence[str]], correction: Correction) -> Kind:
    """Returns the kind: the caller's values come before the record's labels, and those before the classification."""

    def value(facet: str, corrected: str) -> KindValue | None:
        if corrected:
            return KindValue(corrected, 1.0, True, KindSource.CALLER)
        if labels.get(facet):
            return KindValue(labels[facet][0], 1.0, True, KindSource.RECORD)
        for guess in look.facets:
            if guess.facet == facet and guess.values:
                best, *others = guess.values
                return KindValue(best.value, best.score, guess.sure, KindSource.CLASSIFIED, tuple(others))
        return None

    return Kind(
        look.medical,
        look.score,
        value("modality", correction.modality),
        value("body_part", correction.body_part),
        value("plane", correction.view),
    )
