from typing import Any

import pytest

from mirage_core.fusion import fused, reciprocal_rank


def test_reciprocal_rank_adds_over_the_rankings() -> None:
    rankings = [["a", "b"], ["b", "c"]]
    expected = {"b": 1 / 62 + 1 / 61, "a": 1 / 61, "c": 1 / 62}
    assert reciprocal_rank(rankings) == pytest.approx(expected)
    in_order: list[tuple[str, Any]] = [(id_, pytest.approx(score)) for id_, score in expected.items()]
    assert fused(rankings) == in_order


def test_a_tie_goes_to_the_first_id() -> None:
    assert [id_ for id_, _ in fused([["b", "c"], ["a", "d"]])] == ["a", "b", "c", "d"]
