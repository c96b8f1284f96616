"""Measures readings on held-out images: for each label precision, recall and AUROC, next to chance.

An image that the atlas has is read by its record, so that its own case is left out of the evidence; any other one by its
file. Labels are compared by the names of the reader's vocabulary. Intervals are percentiles of a bootstrap over cases,
since images of one are alike.
"""

import math
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mirage_api.quality import FIGURES_MAX
from mirage_api.readings import ReadDone, ReadEvent, ReadEvidence, ReadKind, ReadLabel
from mirage_atlas.quality import measures
from mirage_atlas.quality.report import Findings, shortened
from mirage_inference.llm.findings import NONE, vocabulary

FIRST = 3
POSITIVES_MIN = 10
_ROUNDS = 500


class ReadingClient(Protocol):
    """The part of a client that evaluation uses."""

    def read(self, image: bytes | None = None, *, record_id: str = "", collection: str = "") -> Generator[ReadEvent]:
        """The events of a reading."""


@dataclass(frozen=True)
class Measure:
    """One figure: the measured share, the interval that holds 95 of 100 bootstrap samples, and chance."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class HeldOut:
    """An image to read: by `record_id`, or else by the file that `read_image` gives. `labels` are its facets."""

    case: str
    labels: Mapping[str, Sequence[str]]
    read_image: Callable[[], bytes]
    record_id: str = ""


@dataclass(frozen=True)
class Outcome:
    """The reading of one image: the label, the share of the nearest cases with each finding, in order, and the kind."""

    case: str
    findings: frozenset[str]
    label: str
    shares: Mapping[str, float]
    kind_right: bool | None = None


@dataclass(frozen=True)
class LabelMeasures:
    """One label: images that have it, and how well it is given. `beyond_chance` is False if the AUROC may be chance."""

    images: int
    named: int
    precision: Measure
    recall: Measure
    auroc: Measure

    @property
    def beyond_chance(self) -> bool:
        """True if the interval of the AUROC is above one half."""
        return self.auroc.low > 0.5


@dataclass(frozen=True)
class ReadingQuality:
    """All of it. `first` is the share of the `with_finding` images that have a finding whose label is among the evidence's
    first three.

    `kind` is the share of images, read by their file, whose modality and part of the body were right; None without any.
    """

    images: int
    declined: int
    kind: Measure | None
    first: Measure
    with_finding: int = 0
    labels: Mapping[str, LabelMeasures] = field(default_factory=dict)


def evaluate_readings(
    client: ReadingClient,
    items: Sequence[HeldOut],
    *,
    limit: int | None = None,
    collection: str = "",
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> ReadingQuality:
    """Reads each image (a sample of `limit`, always the same) and measures the labels that ten images or more have."""
    if limit is not None and limit < len(items):
        items = random.Random(measures.SEED).sample(items, limit)
    outcomes = []
    for number, item in enumerate(items, start=1):
        outcomes.append(_read(client, item, collection))
        report(number, len(items))
    read = [each for each in outcomes if each is not None]
    return summarise(read, declined=len(outcomes) - len(read))


def _read(client: ReadingClient, item: HeldOut, collection: str) -> Outcome | None:
    """Reads up to the label; None if the image was declined."""
    image = None if item.record_id else item.read_image()
    kind_right, shares = None, dict[str, float]()
    with closing(client.read(image, record_id=item.record_id, collection=collection)) as events:
        for event in events:
            match event:
                case ReadKind() if not item.record_id:
                    said = {"modality": event.modality, "body_part": event.body_part}
                    known = {name: each.value if each else "" for name, each in said.items()}
                    kind_right = all(known[name] in item.labels.get(name, (known[name],)) for name in known)
                case ReadEvidence():
                    found = next((each for each in event.facets if each.facet == "finding"), None)
                    shares = {each.value: each.share for each in (found.values if found else ())}
                case ReadLabel():
                    label = event.finding or (NONE if event.state == "none" else "")
                    return Outcome(item.case, _findings(item.labels), label, shares, kind_right)
                case ReadDone():
                    return None
    return None


def _findings(labels: Mapping[str, Sequence[str]]) -> frozenset[str]:
    return frozenset(vocabulary().canonical(each) or each for each in labels.get("finding", ()))


def summarise(outcomes: Sequence[Outcome], *, declined: int = 0) -> ReadingQuality:
    """Measures readings that were made."""
    count: dict[str, int] = {}
    for each in outcomes:
        for finding in each.findings:
            count[finding] = count.get(finding, 0) + 1
    frequent = sorted((name for name in count if name != NONE), key=lambda name: (-count[name], name))[:FIRST]
    kinds = [each for each in outcomes if each.kind_right is not None]
    with_finding = [each for each in outcomes if each.findings - {NONE}]
    first = _measure(
        with_finding,
        lambda some: _share(some, lambda each: bool(set(list(each.shares)[:FIRST]) & (each.findings - {NONE}))),
        # The share if the three most frequent findings were named each time.
        _share(with_finding, lambda each: bool(set(frequent) & each.findings)),
    )
    labels = {name: _label(name, outcomes) for name in sorted(count) if count[name] >= POSITIVES_MIN}
    kind = _measure(kinds, lambda some: _share(some, lambda each: bool(each.kind_right)), 0.0) if kinds else None
    return ReadingQuality(len(outcomes), declined, kind, first, len(with_finding), labels)


def _label(name: str, outcomes: Sequence[Outcome]) -> LabelMeasures:
    having = [each for each in outcomes if name in each.findings]
    named = [each for each in outcomes if each.label == name]
    prevalence = len(having) / len(outcomes)
    return LabelMeasures(
        len(having),
        len(named),
        _measure(named, lambda some: _share(some, lambda each: name in each.findings), prevalence),
        _measure(having, lambda some: _share(some, lambda each: each.label == name), len(named) / len(outcomes)),
        _measure(outcomes, lambda some: auroc(some, name), 0.5),
    )


def to_findings(quality: ReadingQuality) -> Findings:
    """Returns the figures as an evaluation, those of the most frequent labels if there are many."""
    findings = Findings("read")
    _add(findings, "label among the first three", "", quality.first, quality.with_finding)
    if quality.kind is not None:
        _add(findings, "modality and part of the body", "", quality.kind, quality.images)
    labels = sorted(quality.labels.items(), key=lambda each: -each[1].images)[: FIGURES_MAX // 3 - 1]
    for name, each in labels:
        _add(findings, "AUROC", f"finding {name}", each.auroc, each.images)
        _add(findings, "precision", f"finding {name}", each.precision, each.named)
        _add(findings, "recall", f"finding {name}", each.recall, each.images)
    findings.notes.append(f"{quality.images:,} images read, {quality.declined:,} declined.")
    if doubtful := [name for name, each in labels if not each.beyond_chance]:
        findings.notes.append(shortened(f"The AUROC of these may be chance: {', '.join(doubtful)}."))
    return findings


def _add(findings: Findings, name: str, group: str, found: Measure, count: int) -> None:
    estimate = measures.Estimate(found.value, found.low, found.high, count)
    findings.add(name, estimate, group=group, chance=found.chance)


def auroc(outcomes: Sequence[Outcome], name: str) -> float:
    """The chance that an image with the label has a higher share than one without; 0.5 if all images have it, or none."""
    shares = np.array([each.shares.get(name, 0.0) for each in outcomes])
    having = np.array([name in each.findings for each in outcomes], bool)
    return measures.auroc(shares[having], shares[~having])


def _share(outcomes: Sequence[Outcome], right: Callable[[Outcome], bool]) -> float:
    return sum(map(right, outcomes)) / len(outcomes) if outcomes else 0.0


def _measure(outcomes: Sequence[Outcome], figure: Callable[[Sequence[Outcome]], float], chance: float) -> Measure:
    """The figure with its interval; 0 to 1 without data."""
    cases: dict[str, list[Outcome]] = {}
    for each in outcomes:
        cases.setdefault(each.case, []).append(each)
    if not cases:
        return Measure(0.0, 0.0, 1.0, chance)
    rng, groups = random.Random(measures.SEED), list(cases.values())
    drawn = sorted(
        figure([each for group in rng.choices(groups, k=len(groups)) for each in group]) for _ in range(_ROUNDS)
    )
    low, high = drawn[math.floor(0.025 * _ROUNDS)], drawn[math.ceil(0.975 * _ROUNDS) - 1]
    return Measure(figure(outcomes), low, high, chance)
