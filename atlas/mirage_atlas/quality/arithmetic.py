"""Arithmetic: whether `q - minus + plus` changes one label of what is found, and keeps the others."""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mirage.client import Client
from mirage.queries import Query
from mirage_api.records import Shown
from mirage_api.search import CompareReply
from mirage_atlas.quality.gallery import Gallery, Report, ask_all
from mirage_atlas.quality.measures import SEED, estimate
from mirage_atlas.quality.report import Findings

# The facets that a query may exchange, and those that it names besides.
EXCHANGED = ("plane", "sequence", "window", "contrast", "laterality", "modality", "body_part")
_NAMED = ("plane", "modality", "sequence", "body_part")
_LEAST = 5
_FIRST = 10


@dataclass(frozen=True)
class Exchange:
    """A query that exchanges one value of a facet for another, and names the labels that stay."""

    facet: str
    old: str
    new: str
    kept: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The query before the exchange."""
        return " ".join(_words(value) for value in [*dict(self.kept).values(), self.old])

    def keeps(self, record: Shown) -> bool:
        """True for a record with the labels that stay."""
        return all(value in record.labels.get(facet, ()) for facet, value in self.kept)


@dataclass(frozen=True)
class Outcome:
    """The outcome of an exchange: shares from 0 to 1, and the chance of the first two."""

    new: float
    whole: float
    kept: float
    chance_new: float
    chance_whole: float


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Measures single exchanges, such as axial for sagittal: at most `limit`, drawn by seed."""
    findings = Findings("arithmetic")
    tasks = exchanges(gallery)
    random.Random(SEED).shuffle(tasks)
    outcomes: dict[str, list[Outcome]] = defaultdict(list)

    def reply_to(task: Exchange) -> CompareReply:
        like = Query((), k=_FIRST, collection=collection)
        return client.compare(task.text, minus=_words(task.old), plus=_words(task.new), like=like)

    for task, reply in ask_all(reply_to, tasks[:limit], report).items():
        if reply.shifted.results:
            outcomes[task.facet].append(_outcome(gallery, task, reply.shifted.results))
    for facet, found in outcomes.items():
        _add(findings, f"{facet} exchanged", found)
    if outcomes:
        _add(findings, "all", [each for found in outcomes.values() for each in found])
    else:
        findings.notes.append("Not measured: no two groups of records differ in one label alone.")
    findings.notes.append(
        "A query is made of labels that records have, one of them exchanged for another that records have."
    )
    return findings


def exchanges(gallery: Gallery) -> list[Exchange]:
    """All exchanges before and after which the collection has records, in a stable order."""
    known: Counter[frozenset[tuple[str, str]]] = Counter()
    for record in gallery.records:
        known.update({frozenset(_single(record.labels, {*_NAMED, facet}).items()) for facet in EXCHANGED})
    found = set()
    for labels in (dict(each) for each, count in known.items() if count >= _LEAST):
        for facet in EXCHANGED:
            if facet not in labels or len(labels) < 2:
                continue
            kept = tuple(sorted((name, value) for name, value in labels.items() if name != facet))
            for new in gallery.values(facet, at_least=_LEAST):
                if new != labels[facet] and known[frozenset([*kept, (facet, new)])] >= _LEAST:
                    found.add(Exchange(facet, labels[facet], new, kept))
    return sorted(found, key=str)


def _outcome(gallery: Gallery, task: Exchange, results: Sequence[Shown]) -> Outcome:
    new = [task.new in each.labels.get(task.facet, ()) for each in results]
    kept = [task.keeps(each) for each in results]
    having = gallery.having(task.facet, task.new)
    whole = np.logical_and.reduce([having, *(gallery.having(facet, value) for facet, value in task.kept)])
    return Outcome(new[0], new[0] and kept[0], float(np.mean(kept)), float(having.mean()), float(whole.mean()))


def _add(findings: Findings, group: str, found: Sequence[Outcome]) -> None:
    for name, values, chances in (
        ("first result has the new label", [each.new for each in found], [each.chance_new for each in found]),
        (
            "first result has the new label and the others",
            [each.whole for each in found],
            [each.chance_whole for each in found],
        ),
    ):
        findings.add(name, estimate(values), group=group, chance=float(np.mean(chances)))
    findings.add("first ten that keep the other labels", estimate([each.kept for each in found]), group=group)


def _single(labels: Mapping[str, Sequence[str]], facets: set[str]) -> dict[str, str]:
    return {facet: labels[facet][0] for facet in facets if len(labels.get(facet, ())) == 1}


def _words(value: str) -> str:
    return value.replace("_", " ")
