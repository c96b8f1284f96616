"""Measures of quality, next to scikit-learn's and to values computed by hand."""

import itertools
import math
import threading
from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel

from mirage.errors import InputError
from mirage_atlas.quality.gallery import ask_all
from mirage_atlas.quality.measures import (
    auroc,
    average_precision,
    chance_of_recall,
    chance_of_reciprocal_rank,
    estimate,
    estimate_distance,
    frechet_distance,
    histogram,
    kernel_distance,
    ndcg,
    share,
    threshold_accuracy,
)

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(("gallery", "right", "k"), [(5, 2, 2), (6, 1, 3), (4, 3, 2), (3, 3, 1), (5, 0, 2), (4, 1, 9)])
def test_chance_is_that_of_all_orders(gallery: int, right: int, k: int) -> None:
    orders = list(itertools.permutations(range(gallery)))
    ranks = [next((rank for rank, item in enumerate(order, 1) if item < right), math.inf) for order in orders]
    assert chance_of_recall(gallery, right, k) == pytest.approx(sum(rank <= k for rank in ranks) / len(orders))
    mean = sum(1 / rank if rank <= k else 0 for rank in ranks) / len(orders)
    assert chance_of_reciprocal_rank(gallery, right, k) == pytest.approx(mean)


@pytest.mark.parametrize("count", [1, 2, 30, 500])
def test_average_precision_is_scikit_learns(count: int) -> None:
    relevant = RNG.random(count) < 0.3
    relevant[count // 2] = True
    assert average_precision(relevant) == pytest.approx(average_precision_score(relevant, -np.arange(count)))
    assert average_precision(np.zeros(count, bool)) == 0.0


@pytest.mark.parametrize("count", [2, 9, 10, 11, 200])
def test_ndcg_is_scikit_learns(count: int) -> None:
    gains = RNG.integers(0, 4, count).astype(np.float64)
    gains[-1] = 1.0
    assert ndcg(gains, 10) == pytest.approx(ndcg_score([gains], [-np.arange(count)], k=10))
    assert ndcg(np.zeros(count), 10) == 0.0


def test_auroc_is_scikit_learns_with_ties() -> None:
    positive, negative = RNG.integers(0, 9, 300) / 9, RNG.integers(0, 7, 200) / 9
    truth = [1] * len(positive) + [0] * len(negative)
    assert auroc(positive, negative) == pytest.approx(roc_auc_score(truth, np.concatenate([positive, negative])))
    assert auroc(np.empty(0), negative) == 0.5


def test_an_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    values = (RNG.random(400) < 0.7).astype(np.float64)
    found = estimate(values)
    assert found == estimate(values)
    assert found.value == pytest.approx(values.mean())
    assert found.count == 400
    # Of a mean of 400 shares, 95 % are within 1.96 standard errors.
    error = values.std() / math.sqrt(len(values))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert estimate([]).count == 0


def test_values_of_one_case_are_drawn_together() -> None:
    values = np.repeat((RNG.random(40) < 0.5).astype(np.float64), 10)
    alone = estimate(values)
    grouped = estimate(values, [str(number // 10) for number in range(400)])
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_share_has_wilsons_interval() -> None:
    # Wilson (1927), as in Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263.
    found = share(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert share(0, 0) == share(0, 0)
    assert (share(0, 10).low, share(10, 10).high) == pytest.approx((0.0, 1.0))


def test_the_best_threshold_is_measured_on_the_other_half() -> None:
    at, right = threshold_accuracy(RNG.normal(0.8, 0.05, 200), RNG.normal(0.2, 0.05, 200))
    assert 0.2 < at < 0.8
    assert right.value == 1.0
    assert right.count == 200
    _, chance = threshold_accuracy(RNG.random(2000), RNG.random(2000))
    assert chance.low < 0.5 < chance.high


def test_a_histogram_has_the_shares_of_all_values() -> None:
    x, y = histogram(np.array([-1.0, 0.0, 0.01, 1.0, 2.0]))
    assert len(x) == len(y) == 40
    assert sum(y) == pytest.approx(1.0)
    assert y[-1] == pytest.approx(0.4)


def unit_vectors(count: int, middle: float, dimension: int = 6) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    rows = RNG.normal(middle, 1.0, (count, dimension))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize(("count", "others"), [(40, 40), (200, 31), (8, 9)])
def test_the_frechet_distance_is_that_of_scipys_matrix_root(count: int, others: int) -> None:
    one, other = unit_vectors(count, 0.0), unit_vectors(others, 0.7)
    first, second = np.cov(one.T), np.cov(other.T)
    expected = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum() + np.trace(first + second)
    expected -= 2 * np.trace(sqrtm(first @ second)).real
    assert frechet_distance(one, other) == pytest.approx(expected, abs=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)


def test_the_kernel_distance_is_that_of_scikit_learns_kernel() -> None:
    one, other = unit_vectors(30, 0.0), unit_vectors(50, 0.5)
    within = []
    for each in (one, other):
        kernel = polynomial_kernel(each, degree=3, gamma=1, coef0=1)
        within.append(kernel[~np.eye(len(each), dtype=bool)].mean())
    expected = sum(within) - 2 * polynomial_kernel(one, other, degree=3, gamma=1, coef0=1).mean()
    assert kernel_distance(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_the_interval_of_a_distance_holds_it_and_tells_far_from_near(distance: Any) -> None:
    one, near, far = unit_vectors(60, 0.0), unit_vectors(60, 0.0), unit_vectors(60, 1.5)
    floor, found = estimate_distance(distance, one, near), estimate_distance(distance, one, far)
    assert floor.low <= floor.value <= floor.high < found.low <= found.value <= found.high
    assert found == estimate_distance(distance, one, far)


def test_questions_are_answered_in_their_order_whichever_reply_comes_first() -> None:
    first_waits = threading.Event()
    seen: list[tuple[int, int]] = []

    def ask(question: str) -> str:
        if question == "a":
            assert first_waits.wait(30)
        else:
            first_waits.set()
        return question.upper()

    replies = ask_all(ask, iter("abc"), lambda done, of: seen.append((done, of)))
    assert list(replies.items()) == [("a", "A"), ("b", "B"), ("c", "C")]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_question_that_fails_ends_the_others() -> None:
    asked: list[int] = []

    def ask(number: int) -> int:
        asked.append(number)
        raise InputError("no")

    with pytest.raises(InputError):
        ask_all(ask, range(1000), lambda *_: None)
    assert len(asked) < 1000
