"""Recall, rank and chance, on answers that are known."""

import itertools
import math

import pytest

from mirage.evaluation import Item, chance_of_recall, chance_of_reciprocal_rank, evaluate, item_of
from mirage.queries import Query
from mirage_api.search import QueryReport, SearchReply, SearchResult


def reply(*ids: str) -> SearchReply:
    return SearchReply(results=tuple(SearchResult(id=id_, score=0.5) for id_ in ids), query=QueryReport())


class Answers:
    """Answers each caption with a fixed list of ids."""

    def __init__(self, **lists: list[str]) -> None:
        self._lists = lists

    def search(self, query: Query) -> SearchReply:
        return reply(*self._lists[str(query.terms[0].text)])


def test_ranks_become_recall_and_reciprocal_rank() -> None:
    items = [Item("1", "a", "1"), Item("2", "b", "2"), Item("3", "c", "3"), Item("4", "d", "4")]
    others = [f"x{n}" for n in range(20)]
    answers = Answers(a=["1", *others], b=[*others[:2], "2"], c=[*others[:7], "3"], d=others)
    found = evaluate(answers, items, gallery=100)
    assert [found.recall[k].value for k in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert found.mrr.value == pytest.approx((1 + 1 / 3 + 1 / 8) / 4)
    assert found.median_rank == 8
    assert found.recall[10].low <= 0.75 <= found.recall[10].high
    assert found.recall[10].chance == pytest.approx(0.1)


def test_the_same_caption_and_the_same_case_count_as_found() -> None:
    items = [Item("1", "a", "case"), Item("2", "a", "other"), Item("3", "b", "case")]
    found = evaluate(Answers(a=["3"], b=["9", "1"]), items, gallery=10)
    assert found.queries == 2
    assert found.recall[1].value == 0.5
    assert found.recall[5].value == 1.0
    assert found.recall[1].chance == pytest.approx((3 / 10 + 2 / 10) / 2)


@pytest.mark.parametrize(
    ("gallery", "positives", "k"), [(5, 2, 2), (6, 1, 3), (4, 3, 2), (3, 3, 1), (5, 0, 2), (4, 1, 9)]
)
def test_chance_is_that_of_all_orders(gallery: int, positives: int, k: int) -> None:
    orders = list(itertools.permutations(range(gallery)))
    ranks = [next((r for r, item in enumerate(order, 1) if item < positives), math.inf) for order in orders]
    assert chance_of_recall(gallery, positives, k) == pytest.approx(sum(rank <= k for rank in ranks) / len(orders))
    mean = sum(1 / rank if rank <= k else 0 for rank in ranks) / len(orders)
    assert chance_of_reciprocal_rank(gallery, positives, k) == pytest.approx(mean)


def test_a_limit_draws_the_same_captions_each_time() -> None:
    items = [Item(str(n), f"c{n}", str(n)) for n in range(50)]
    answers = Answers(**{f"c{n}": [str(n)] for n in range(50)})
    first, second = (evaluate(answers, items, gallery=50, limit=10) for _ in range(2))
    assert first == second
    assert first.queries == 10


def test_the_case_is_found_among_the_labels() -> None:
    assert item_of("1", "c", {"case_id": "k"}).case == "k"
    assert item_of("1", "c", {"pmcid": "PMC1"}).case == "PMC1"
    assert item_of("1", "c", {}).case == "1"
