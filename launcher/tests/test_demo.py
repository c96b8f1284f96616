"""When a demonstration atlas is due: by the mark of what is stored, also one of an earlier version or a damaged one."""

from typing import Any

import pytest

from mirage_atlas.demo.sources import BRAIN, part_names
from mirage_launcher.demo import is_due, parts_done


@pytest.mark.parametrize("name", [BRAIN, "standard"])
def test_it_is_due_until_all_of_its_parts_are_stored(name: str) -> None:
    parts = list(part_names(name))

    assert is_due({}, name)
    assert is_due({"finished": False, "done": parts}, name)
    assert is_due({"finished": True, "done": parts[:-1]}, name)
    assert not is_due({"finished": True, "done": parts}, name)


def test_a_larger_one_is_due_after_a_smaller_one_and_not_the_reverse() -> None:
    assert is_due({"finished": True, "done": list(part_names(BRAIN))}, "standard")
    assert not is_due({"finished": True, "done": list(part_names("standard"))}, BRAIN)


@pytest.mark.parametrize("mark", [{"finished": True}, {"finished": True, "declined": "it held other records"}])
def test_what_an_earlier_version_finished_or_declined_is_left_as_it_is(mark: dict[str, Any]) -> None:
    assert not is_due(mark, "standard")


@pytest.mark.parametrize("done", [None, 7, "brain", {"brain": 1}])
def test_a_mark_with_odd_parts_has_none(done: object) -> None:
    assert parts_done({"finished": True, "done": done}) == []
    assert is_due({"finished": True, "done": done}, BRAIN)
