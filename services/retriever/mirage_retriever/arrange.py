"""Results in another arrangement than by score: one a case, and different ones first."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from mirage_retriever.algebra import Array
from mirage_retriever.hybrid import Found
from mirage_retriever.records import case_of

# Images of one case with at least this cosine show the same.
SAME_IMAGE = 0.97
# The weight of a result's own score; the rest is how much it differs from those before it.
_RELEVANCE = 0.5


def grouped(found: Sequence[Found]) -> list[Found]:
    """The first result of each case, with its case; a record without a case is one by itself."""
    seen: set[str] = set()
    kept = []
    for each in found:
        case = case_of(each.record)
        if case in seen:
            continue
        if case:
            seen.add(case)
        kept.append(replace(each, case=(case, 1)))
    return kept


def varied(found: Sequence[Found], vectors: Mapping[str, Array]) -> tuple[list[Found], set[str]]:
    """The results by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) within each tier, without the ids that
    are returned next to them: images of a case that show the same as one before.

    A result whose vector is gone is left out.
    """
    kept: list[Found] = []
    dropped: set[str] = set()
    of_case: dict[str, list[str]] = {}
    for each in found:
        case = case_of(each.record)
        before = of_case.setdefault(case, []) if case else []
        if each.id not in vectors or any(float(vectors[each.id] @ vectors[id_]) >= SAME_IMAGE for id_ in before):
            dropped.add(each.id)
            continue
        before.append(each.id)
        kept.append(each)
    return [
        each for _, tier in groupby(kept, key=lambda each: each.tier) for each in _marginal(list(tier), vectors)
    ], dropped


def _marginal(found: list[Found], vectors: Mapping[str, Array]) -> list[Found]:
    matrix = np.stack([vectors[each.id] for each in found])
    scores = np.array([each.score for each in found])
    spread = float(scores.max() - scores.min())
    relevance = (scores - scores.min()) / spread if spread else np.ones(len(found))
    cosines = matrix @ matrix.T
    # Both count alike: each is divided by how far apart the results are in it.
    width = max(float(1 - cosines.min()), 1e-6)
    closest = np.full(len(found), 1 - width)
    left = np.ones(len(found), bool)
    order = []
    for _ in found:
        novelty = (1 - closest) / width
        value = np.where(left, _RELEVANCE * relevance + (1 - _RELEVANCE) * novelty, -np.inf)
        best = int(value.argmax())
        order.append(found[best])
        left[best] = False
        closest = np.maximum(closest, cosines[best])
    return order
