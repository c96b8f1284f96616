"""Measures retrieval by caption: recall, rank and chance, over a dataset that is indexed.

A caption counts as answered by any image of the same caption or the same case. Chance is what a random order of the
same atlas would give, exactly (hypergeometric). Intervals are percentiles of a bootstrap over cases, since images of
one are alike.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from mirage.queries import Query, Term
from mirage_api.search import SearchReply

DEPTH = 100
CUTS = (1, 5, 10)
_ROUNDS = 1_000
_SEED = 20261123


class Searcher(Protocol):
    """The part of a client that evaluation uses."""

    def search(self, query: Query) -> SearchReply:
        """The records closest to a query."""


@dataclass(frozen=True)
class Item:
    """A record of the dataset: its id, caption, and case (its own id without one)."""

    id: str
    caption: str
    case: str


@dataclass(frozen=True)
class Measure:
    """One figure: the measured share, the interval that holds 95 of 100 bootstrap samples, and chance."""

    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Retrieval:
    """Recall at each cut, mean reciprocal rank and median rank (None where half are not among the first 100)."""

    queries: int
    gallery: int
    recall: Mapping[int, Measure]
    mrr: Measure
    median_rank: int | None
    depth: int = DEPTH


def item_of(record_id: str, caption: str, original_labels: Mapping[str, str]) -> Item:
    """Returns an item; its case is the label `case_id` (`case`, `pmcid`), or else the record itself."""
    case = next(
        (original_labels[name] for name in ("case_id", "case", "pmcid") if original_labels.get(name)), record_id
    )
    return Item(record_id, caption, case)


def chance_of_recall(gallery: int, positives: int, k: int) -> float:
    """The chance that one of `positives` is among `k` of `gallery` in a random order."""
    if positives <= 0 or gallery <= 0:
        return 0.0
    missed = 1.0
    for drawn in range(min(k, gallery)):
        missed *= max(0.0, (gallery - positives - drawn) / (gallery - drawn))
    return 1.0 - missed


def chance_of_reciprocal_rank(gallery: int, positives: int, depth: int) -> float:
    """The mean reciprocal rank of the first positive in a random order, ranks beyond `depth` counting 0."""
    reached = [chance_of_recall(gallery, positives, rank) for rank in range(min(depth, gallery) + 1)]
    return sum((now - before) / rank for rank, (before, now) in enumerate(pairwise(reached), start=1))


def evaluate(
    client: Searcher,
    items: Sequence[Item],
    *,
    gallery: int,
    limit: int | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> Retrieval:
    """Asks for the images of each caption (each distinct one once) among the `gallery` records that pass `where`."""
    by_caption: dict[str, list[Item]] = defaultdict(list)
    by_case: dict[str, set[str]] = defaultdict(set)
    for item in items:
        by_caption[item.caption].append(item)
        by_case[item.case].add(item.id)
    captions = list(by_caption)
    if limit is not None and limit < len(captions):
        captions = random.Random(_SEED).sample(captions, limit)  # noqa: S311 -- a sample, no secret
    ranks: list[int] = []
    positives: list[int] = []
    cases: list[str] = []
    for number, caption in enumerate(captions, start=1):
        right = {each.id for each in by_caption[caption]}
        for each in by_caption[caption]:
            right |= by_case[each.case]
        reply = client.search(Query((Term(text=caption[:2000]),), k=DEPTH, where=where or {}))
        found = (rank for rank, result in enumerate(reply.results, start=1) if result.id in right)
        ranks.append(next(found, 0))
        positives.append(len(right))
        cases.append(by_caption[caption][0].case)
        report(number, len(captions))
    return _summary(ranks, positives, cases, gallery)


def _summary(ranks: Sequence[int], positives: Sequence[int], cases: Sequence[str], gallery: int) -> Retrieval:
    recall = {
        k: _measure(
            [float(0 < rank <= k) for rank in ranks], cases, _mean(chance_of_recall(gallery, p, k) for p in positives)
        )
        for k in CUTS
    }
    chances = {p: chance_of_reciprocal_rank(gallery, p, DEPTH) for p in set(positives)}
    mrr = _measure([1 / rank if rank else 0.0 for rank in ranks], cases, _mean(chances[p] for p in positives))
    ordered = sorted(rank or DEPTH + 1 for rank in ranks)
    middle = ordered[len(ordered) // 2] if ordered else DEPTH + 1
    return Retrieval(len(ranks), gallery, recall, mrr, middle if middle <= DEPTH else None)


def _measure(values: Sequence[float], cases: Sequence[str], chance: float) -> Measure:
    groups: dict[str, list[float]] = defaultdict(list)
    for value, case in zip(values, cases, strict=True):
        groups[case].append(value)
    sums = [(sum(group), len(group)) for group in groups.values()]
    rng = random.Random(_SEED)  # noqa: S311 -- as above
    means = []
    for _ in range(_ROUNDS):
        drawn = rng.choices(sums, k=len(sums)) if sums else []
        total = sum(count for _, count in drawn)
        means.append(sum(value for value, _ in drawn) / total if total else 0.0)
    means.sort()
    low, high = means[math.floor(0.025 * _ROUNDS)], means[math.ceil(0.975 * _ROUNDS) - 1]
    return Measure(_mean(values), low, high, chance)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
