"""Counts, intervals and lift of the labels of the nearest cases."""

import pytest

from mirage_inference.llm.findings import vocabulary
from mirage_reader.atlas import Counts, Neighbour, Own
from mirage_reader.evidence import NOT_ENOUGH, of_finding, one_a_case, weigh


def neighbour(id_: str, case: str = "", **labels: tuple[str, ...]) -> Neighbour:
    return Neighbour(id_, case or id_, labels, "A caption.", None)


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
