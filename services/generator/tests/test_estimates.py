"""Places and times out of the queue's order and measured steps."""

from typing import Any

from mirage_generator.estimates import Outlook, Snapshot, Work

SMALL, LARGE = Work("64x64/1", 4, 1), Work("128x64/1", 4, 1)
TIMES = {"64x64/1:step": 1.0, "64x64/1:rest": 2.0}


def snapshot(**changes: Any) -> Snapshot:
    fields: dict[str, Any] = {"now": 100.0, "workers": 1, "pending": (), "running": (), "times": TIMES, **changes}
    return Snapshot(**fields)


def test_jobs_are_finished_one_after_the_other() -> None:
    found = snapshot(running=(("a", SMALL, 1, 100.0),), pending=(("b", SMALL), ("c", SMALL))).outlooks
    assert found == {"a": Outlook(0, 5.0), "b": Outlook(0, 11.0), "c": Outlook(1, 17.0)}


def test_two_workers_take_turns() -> None:
    found = snapshot(workers=2, pending=(("a", SMALL), ("b", SMALL), ("c", SMALL))).outlooks
    assert [found[name].eta_s for name in "abc"] == [6.0, 6.0, 12.0]


def test_time_since_the_last_step_counts() -> None:
    assert snapshot(now=100.5, running=(("a", SMALL, 4, 100.0),)).outlooks["a"] == Outlook(0, 1.5)
    assert snapshot(now=900.0, running=(("a", SMALL, 4, 100.0),)).outlooks["a"] == Outlook(0, 0.0)


def test_a_size_that_was_not_measured_goes_by_its_pixels_and_passes() -> None:
    assert snapshot(pending=(("a", LARGE),)).outlooks["a"].eta_s == 12.0
    assert snapshot(pending=(("a", Work("64x64/2", 4, 1)),)).outlooks["a"].eta_s == 10.0


def test_nobody_promises_what_nobody_knows() -> None:
    waiting = (("a", SMALL),)
    assert snapshot(pending=waiting, workers=0).outlooks["a"] == Outlook(0, None)
    assert snapshot(pending=waiting, times={}).outlooks["a"] == Outlook(0, None)
    assert snapshot(times={}, running=(("b", SMALL, 1, 100.0),)).wait_s() is None
