"""Values that were used last stay; the budget holds."""

from mirage_core.kept import Kept


def test_what_was_used_longest_ago_goes_first() -> None:
    kept = Kept[str, int](100)
    for number, key in enumerate("abc"):
        kept.put(key, number, 30)
    assert kept.get("a") == 0
    kept.put("d", 3, 30)
    assert [kept.get(key) for key in "abcd"] == [0, None, 2, 3]
    assert kept.cost == 90


def test_a_key_put_again_costs_what_its_last_value_does() -> None:
    kept = Kept[str, int](100)
    kept.put("a", 1, 90)
    kept.put("a", 2, 10)
    assert (kept.get("a"), kept.cost) == (2, 10)


def test_a_value_beyond_the_budget_is_not_kept_and_pushes_nothing_out() -> None:
    kept = Kept[str, int](100)
    kept.put("a", 1, 50)
    kept.put("b", 2, 101)
    assert (kept.get("a"), kept.get("b"), kept.cost) == (1, None, 50)


def test_a_budget_can_be_a_number_of_values() -> None:
    kept = Kept[str, int](2)
    for number, key in enumerate("abc"):
        kept.put(key, number)
    assert [kept.get(key) for key in "abc"] == [None, 1, 2]
    nothing = Kept[str, int](0)
    nothing.put("a", 1)
    assert nothing.get("a") is None


def test_what_is_dropped_costs_nothing_and_need_not_be_there() -> None:
    kept = Kept[str, int](100)
    kept.put("a", 1, 50)
    kept.drop("a")
    kept.drop("a")
    assert (kept.get("a"), kept.cost) == (None, 0)
