"""Measures of retrieval and classification, with intervals and chance.

Definitions: Manning, Raghavan and Schütze, "Introduction to Information Retrieval" (2008), chapter 8. Intervals hold 95 of 100
samples of a bootstrap over groups (cases), since images of one case are alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mirage_core.intervals import wilson

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
SEED = 20261128
_ROUNDS = 1_000
_REDRAWN = 300


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, over `count` values."""

    value: float
    low: float
    high: float
    count: int


def estimate(values: Sequence[float] | Floats, groups: Sequence[str] | None = None) -> Estimate:
    """The mean of some values; those of one group are drawn together. 0 over no values."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return Estimate(0.0, 0.0, 0.0, 0)
    members = np.arange(len(array)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.bincount(members, weights=array)
    counts = np.bincount(members)
    drawn = np.random.default_rng(SEED).integers(0, len(sums), (_ROUNDS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def share(right: int, of: int) -> Estimate:
    """A share with Wilson's 95 % interval."""
    return Estimate(right / of if of else 0.0, *wilson(right, of), of)


def chance_of_recall(gallery: int, right: int, k: int) -> float:
    """The chance that one of `right` records is among `k` of `gallery` in a random order (hypergeometric)."""
    if right <= 0 or gallery <= 0:
        return 0.0
    drawn = np.arange(min(k, gallery))
    return float(1.0 - np.prod(np.maximum(0.0, (gallery - right - drawn) / (gallery - drawn))))


def chance_of_reciprocal_rank(gallery: int, right: int, depth: int) -> float:
    """The mean reciprocal rank of the first right record in a random order, ranks beyond `depth` counting 0."""
    reached = [chance_of_recall(gallery, right, rank) for rank in range(min(depth, gallery) + 1)]
    return float(sum((now - before) / rank for rank, (before, now) in enumerate(pairwise(reached), 1)))


def average_precision(relevant: Flags) -> float:
    """The average precision of a whole ranking: `relevant` says of each place if its record is. 0 if none is."""
    places = np.flatnonzero(relevant)
    if not len(places):
        return 0.0
    return float(np.mean(np.arange(1, len(places) + 1) / (places + 1)))


def ndcg(gains: Floats, k: int) -> float:
    """Normalised discounted cumulative gain of the first `k` places of a whole ranking; 0 if nothing has a gain."""
    discounts = 1 / np.log2(np.arange(2, min(k, len(gains)) + 2))
    best = np.sort(gains)[::-1][: len(discounts)] @ discounts
    return float(gains[: len(discounts)] @ discounts / best) if best > 0 else 0.0


def auroc(positive: Floats, negative: Floats) -> float:
    """The chance that a positive is above a negative, ties counting half; 0.5 without one of either."""
    if not len(positive) or not len(negative):
        return 0.5
    values = np.concatenate([positive, negative])
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.bincount(inverse, weights=ranks) / counts)[inverse]
    above = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(above / (len(positive) * len(negative)))


def threshold_accuracy(positive: Floats, negative: Floats) -> tuple[float, Estimate]:
    """The threshold that separates one half of the values best, and how much of the other half it sorts rightly.

    Both kinds count equally; halves are drawn by seed.
    """
    rng = np.random.default_rng(SEED)
    halves = [
        (values[order[: len(values) // 2]], values[order[len(values) // 2 :]])
        for values in (positive, negative)
        for order in [rng.permutation(len(values))]
    ]
    (fit_positive, test_positive), (fit_negative, test_negative) = halves
    values = np.unique(np.concatenate([fit_positive, fit_negative]))
    candidates = (values[1:] + values[:-1]) / 2
    if not len(candidates):
        return 0.0, share(0, 0)
    right = [(fit_positive >= at).mean() + (fit_negative < at).mean() for at in candidates]
    # Of several that are as good: the one in the middle.
    at = float(np.median(candidates[np.flatnonzero(np.isclose(right, max(right)))]))
    both = np.concatenate([test_positive >= at, test_negative < at])
    return at, share(int(both.sum()), len(both))


def frechet_distance(one: Floats, other: Floats) -> float:
    """The squared Fréchet distance of normal distributions with the means and covariances of two samples, [rows, dimension].

    Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (2017). The trace of the root of the product of both
    covariances is the nuclear norm of the product of the centred samples, so no matrix of the dimension's size is needed.
    """
    parts = [(each - each.mean(axis=0)) / np.sqrt(len(each) - 1) for each in (one, other)]
    means = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    root = np.linalg.svd(parts[0] @ parts[1].T, compute_uv=False).sum()
    return float(means + sum((each**2).sum() for each in parts) - 2 * root)


def kernel_distance(one: Floats, other: Floats) -> float:
    """The unbiased squared maximum mean discrepancy of two samples of unit vectors, with the kernel (x · y + 1)³.

    Bińkowski et al., "Demystifying MMD GANs" (2018), without their division by the dimension: these are unit vectors.
    """
    within = 0.0
    for each in (one, other):
        kernel = (each @ each.T + 1) ** 3
        within += float((kernel.sum() - np.trace(kernel)) / (len(each) * (len(each) - 1)))
    return within - 2 * float(((one @ other.T + 1) ** 3).mean())


def estimate_distance(distance: Callable[[Floats, Floats], float], one: Floats, other: Floats) -> Estimate:
    """A distance of two samples with its 95 % interval.

    Samples that are drawn again have doubles, which makes such a distance larger: the interval is the spread of the drawn
    distances around their own mean, placed around the distance.
    """
    rng, found = np.random.default_rng(SEED), distance(one, other)
    drawn = np.array(
        [distance(*(each[rng.integers(0, len(each), len(each))] for each in (one, other))) for _ in range(_REDRAWN)]
    )
    low, high = np.quantile(drawn, [0.025, 0.975]) - drawn.mean()
    return Estimate(found, float(found + low), float(found + high), len(one))


def histogram(values: Floats, bins: int = 40) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The share of values in each bin from -1 to 1: middles of the bins, shares."""
    counts, edges = np.histogram(np.clip(values, -1, 1), bins=bins, range=(-1, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    return tuple(np.round(middles, 4).tolist()), tuple(np.round(counts / max(1, len(values)), 5).tolist())
