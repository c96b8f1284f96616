"""The arithmetic of queries."""

import math

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_retriever.algebra import combine, cosine

E1, E2, E3 = np.eye(3, dtype=np.float32)


def refused(vectors: list[np.ndarray], weights: list[float]) -> Code:
    with pytest.raises(MirageError) as caught:
        combine(vectors, weights)
    return caught.value.code


def test_one_term_is_itself() -> None:
    result = combine([E2], [0.3])
    np.testing.assert_allclose(result.vector, E2)
    assert result.shift == pytest.approx(1)
    assert result.shares == pytest.approx((1,))


def test_a_sum_is_normalised() -> None:
    result = combine([E1, E2], [3, 4])
    np.testing.assert_allclose(result.vector, [0.6, 0.8, 0], atol=1e-7)
    assert result.shift == pytest.approx(0.6)
    assert result.shares == pytest.approx((0.36, 0.64))


def test_minus_and_plus_turn_one_attribute_into_another() -> None:
    query = (E1 + E2) / np.sqrt(2, dtype=np.float32)
    shifted = combine([query, E2, E3], [math.sqrt(2), -1, 1])
    np.testing.assert_allclose(shifted.vector, (E1 + E3) / np.sqrt(2), atol=1e-6)


def test_a_negative_weight_turns_a_term_around() -> None:
    np.testing.assert_allclose(combine([E1], [-2]).vector, -E1)


@pytest.mark.parametrize("seed", range(20))
def test_shares_add_up_to_one_and_the_query_has_length_one(seed: int) -> None:
    chance = np.random.default_rng(seed)
    vectors = chance.standard_normal((5, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    result = combine(list(vectors), list(chance.uniform(-2, 2, 5)))
    assert sum(result.shares) == pytest.approx(1)
    assert np.linalg.norm(result.vector) == pytest.approx(1, abs=1e-6)
    assert result.vector.dtype == np.float32
    assert result.shift == pytest.approx(cosine(result.vector, vectors[0]), abs=1e-6)


def test_only_the_ratio_of_the_weights_matters() -> None:
    small, huge = (combine([E1, E2], [scale, 2 * scale]).vector for scale in (1e-30, 3e38))
    np.testing.assert_allclose(small, huge)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_is_refused(weight: float) -> None:
    assert refused([E1, E2], [1, weight]) is Code.WEIGHT_NOT_FINITE


def test_weights_that_are_all_zero_are_refused() -> None:
    assert refused([E1, E2], [0, -0.0]) is Code.WEIGHTS_ALL_ZERO


def test_terms_that_cancel_are_refused_also_when_rounding_leaves_a_rest() -> None:
    assert refused([E1, E1], [1, -1]) is Code.QUERY_CANCELS_OUT
    nearly = (E1 + np.float32(1e-5) * E2).astype(np.float32)
    assert refused([E1, nearly], [1, -1]) is Code.QUERY_CANCELS_OUT


def test_terms_that_differ_a_little_are_not_refused() -> None:
    near = (E1 + np.float32(0.02) * E2).astype(np.float32)
    np.testing.assert_allclose(combine([near, E1], [1, -1]).vector, E2, atol=1e-3)
