"""The labels of the nearest cases against those of the collection: counts, shares, intervals, lift."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mirage_core.intervals import wilson
from mirage_inference.llm.findings import NONE, Vocabulary
from mirage_reader.atlas import Counts, Neighbour, Own, Where
from mirage_reader.kinds import FacetGuess

FACETS = ("finding", "side", "plane", "sequence")
STRUCTURE = "structure"
ENOUGH = 3
VALUES = 10
IDS = 5
NOT_ENOUGH = "Not enough cases: fewer than three of the same kind were found."


@dataclass(frozen=True)
class LabelEvidence:
    """A label: nearest cases that have it, their share with its 95 % interval, and the share among all records."""

    value: str
    cases: int
    share: float
    low: float
    high: float
    prior: float
    ids: tuple[str, ...] = ()

    @property
    def lift(self) -> float:
        """The share divided by that of the collection; 0 if that is 0."""
        return self.share / self.prior if self.prior else 0.0

    @property
    def enough(self) -> bool:
        """False if too few cases have it to say anything."""
        return self.cases >= ENOUGH

    @property
    def stands_out(self) -> bool:
        """True if it is surely more frequent than in the collection, or surely in more than half of the nearest cases."""
        return self.enough and (self.low > self.prior or self.low > 0.5)


@dataclass(frozen=True)
class FacetEvidence:
    """A facet: nearest cases with any value of it, and its values, the most frequent first."""

    facet: str
    labelled: int
    values: tuple[LabelEvidence, ...]


@dataclass(frozen=True)
class Evidence:
    """All facets. `cases` were counted, of `records` of the same kind; `prior` has the share of every value of `finding`.

    `structures` are those that the nearest cases show, the most frequent first; `outlined` those of the record that is read.
    """

    cases: int
    records: int
    where: Where
    facets: tuple[FacetEvidence, ...]
    prior: Mapping[str, float]
    guesses: tuple[FacetGuess, ...] = ()
    structures: tuple[LabelEvidence, ...] = ()
    outlined: tuple[str, ...] = ()

    @property
    def notice(self) -> str:
        """Says that there are not enough cases; else empty."""
        return "" if self.cases >= ENOUGH else NOT_ENOUGH

    def facet(self, name: str) -> FacetEvidence:
        """Returns the evidence of a facet, an empty one if no case has it."""
        return next((each for each in self.facets if each.facet == name), FacetEvidence(name, 0, ()))


def one_a_case(found: Iterable[Neighbour], own: Own, most: int) -> list[Neighbour]:
    """Returns the nearest record of each case, without the image's own case."""
    kept: dict[str, Neighbour] = {}
    for each in found:
        if not own.holds(each):
            kept.setdefault(each.case, each)
    return list(kept.values())[:most]


def weigh(
    nearest: Sequence[Neighbour],
    counts: Counts,
    where: Where,
    names: Vocabulary,
    guesses: tuple[FacetGuess, ...] = (),
    outlined: tuple[str, ...] = (),
) -> Evidence:
    """Returns the evidence of the nearest cases, one record each. Findings that the vocabulary knows get its name."""
    priors = {facet: _prior(facet, counts, names) for facet in (*FACETS, STRUCTURE)}
    facets = []
    for facet in FACETS:
        values = _labels(facet, nearest, priors[facet], names)[:VALUES]
        if values:
            facets.append(FacetEvidence(facet, sum(bool(each.labels.get(facet)) for each in nearest), values))
    return Evidence(
        len(nearest),
        counts.records,
        where,
        tuple(facets),
        priors["finding"],
        guesses,
        _labels(STRUCTURE, nearest, priors[STRUCTURE], names),
        outlined,
    )


def _labels(
    facet: str, nearest: Sequence[Neighbour], prior: Mapping[str, float], names: Vocabulary
) -> tuple[LabelEvidence, ...]:
    """The values of a facet among the nearest cases, the most frequent first, then the nearest."""
    having: dict[str, list[str]] = {}
    for each in nearest:
        for value in sorted({_named(facet, value, names) for value in each.labels.get(facet, ())}):
            having.setdefault(value, []).append(each.id)
    order = {each.id: rank for rank, each in enumerate(nearest)}
    ranked = sorted(having, key=lambda value: (-len(having[value]), order[having[value][0]], value))
    return tuple(_label(value, having[value], len(nearest), prior.get(value, 0.0)) for value in ranked)


def leading_finding(evidence: Evidence) -> LabelEvidence | None:
    """Returns the finding that stands out in most of the nearest cases; None if none does."""
    return next((each for each in evidence.facet("finding").values if each.stands_out), None)


def of_finding(evidence: Evidence, finding: str) -> LabelEvidence:
    """Returns the evidence of a finding, with no case if none has it."""
    found = next((each for each in evidence.facet("finding").values if each.value == finding), None)
    return found or _label(finding, [], evidence.cases, evidence.prior.get(finding, 0.0))


def _prior(facet: str, counts: Counts, names: Vocabulary) -> dict[str, float]:
    shares: dict[str, float] = {}
    for value, count in counts.values.get(facet, {}).items():
        name = _named(facet, value, names)
        shares[name] = min(1.0, shares.get(name, 0.0) + (count / counts.records if counts.records else 0.0))
    return shares


def _named(facet: str, value: str, names: Vocabulary) -> str:
    return (names.canonical(value) if facet == "finding" else None) or value


def _label(value: str, ids: Sequence[str], total: int, prior: float) -> LabelEvidence:
    low, high = wilson(len(ids), total)
    return LabelEvidence(
        value, len(ids), len(ids) / total if total else 0.0, low, high, prior, tuple(dict.fromkeys(ids))[:IDS]
    )


def is_healthy(label: LabelEvidence) -> bool:
    """True for the label of images without a finding."""
    return label.value == NONE


def figures(label: LabelEvidence, evidence: Evidence) -> str:
    """Returns the figures of a label as the end of a sentence."""
    all_records = f"all {evidence.records:,} records{' of this kind' if evidence.where else ''}"
    often = f", {label.lift:.1f} times as often as among {all_records}" if label.prior else ""
    return (
        f"{label.cases} of the {evidence.cases} nearest cases "
        f"({label.share:.0%}, 95 % interval {label.low:.0%} to {label.high:.0%}{often})"
    )
