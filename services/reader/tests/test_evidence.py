"""Counts, intervals and lift of the labels of the nearest cases."""

import pytest

from mirage_reader.atlas import Counts, Neighbour, Own
from mirage_reader.evidence import NOT_ENOUGH, of_finding, one_a_case, weigh, wilson
from mirage_reader.findings import vocabulary


def neighbour(id_: str, case: str = "", **labels: tuple[str, ...]) -> Neighbour:
    return Neighbour(id_, case or id_, labels, "A caption.", None)


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


def test_one_record_of_each_case_counts_and_none_of_the_images_own() -> None:
    found = [neighbour("own", "c0"), neighbour("a1", "c1"), neighbour("a2", "c1"), neighbour("b", "c2"), neighbour("x")]
    kept = one_a_case(found, Own(frozenset({"x"}), frozenset({"c0"})), 10)
    assert [each.id for each in kept] == ["a1", "b"]


def test_shares_are_compared_with_the_collections() -> None:
    nearest = [neighbour(str(n), finding=("Pneumonias",) if n < 6 else ("normal",)) for n in range(10)]
    counts = Counts(100, {"finding": {"pneumonia": 20, "cardiomegaly": 5}})
    evidence = weigh(nearest, counts, {}, vocabulary())
    found = of_finding(evidence, "pneumonia")
    assert (found.cases, found.share, found.prior) == (6, 0.6, 0.2)
    assert found.lift == pytest.approx(3.0)
    assert found.stands_out
    # The collection's words for one thing are one thing.
    assert [each.value for each in evidence.facet("finding").values] == ["pneumonia", "none"]
    assert of_finding(evidence, "cardiomegaly").cases == 0


def test_fewer_than_three_cases_say_nothing() -> None:
    nearest = [neighbour(str(n), finding=("pneumonia",)) for n in range(2)]
    evidence = weigh(nearest, Counts(2, {"finding": {"pneumonia": 2}}), {}, vocabulary())
    found = of_finding(evidence, "pneumonia")
    assert (found.share, found.enough, found.stands_out) == (1.0, False, False)
    assert evidence.notice == NOT_ENOUGH
