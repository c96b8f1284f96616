"""Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): rankings into one, by ranks alone."""

from collections import defaultdict
from collections.abc import Sequence

# The constant of the paper.
K = 60


def reciprocal_rank(rankings: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns, for each id, the sum of 1 / (60 + rank) over the rankings that hold it (ranks from 1)."""
    scores: dict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, id_ in enumerate(ranking, start=1):
            scores[id_] += 1.0 / (K + rank)
    return scores


def fused(rankings: Sequence[Sequence[str]]) -> list[tuple[str, float]]:
    """Returns the ids with their scores, best first, a tie by id."""
    return sorted(reciprocal_rank(rankings).items(), key=lambda item: (-item[1], item[0]))
