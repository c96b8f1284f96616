"""Intervals of shares."""

import pytest

from mirage_core.intervals import wilson


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (12, 20), (1, 3)])
def test_the_ends_of_the_interval_are_1_96_standard_errors_from_the_share(hits: int, total: int) -> None:
    # Wilson's interval holds the shares p for which the one that was seen is within z standard errors of p.
    low, high = wilson(hits, total)
    share = hits / total
    assert 0 <= low < high <= 1
    assert low - 1e-9 <= share <= high + 1e-9
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / total, abs=1e-6)


def test_without_a_case_the_share_can_be_anything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
