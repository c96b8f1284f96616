"""Flags on disk."""

import json
from pathlib import Path

import pytest

from mirage_core.errors import Code, MirageError
from mirage_retriever.flags import FlagStore


def test_flags_are_listed_newest_first_and_survive_a_restart(tmp_path: Path) -> None:
    store = FlagStore(tmp_path / "flags.jsonl")
    made = [store.add(id_, reason="other", comment="é\n") for id_ in ("a", "b", "a")]
    for each in (store, FlagStore(tmp_path / "flags.jsonl")):
        assert each.page() == (made[::-1], "")
        assert each.page(record_id="a", size=1) == ([made[2]], "1")
        assert each.page(record_id="a", size=1, token="1") == ([made[0]], "")
        assert (each.count("a"), each.count("b"), each.count("c")) == (2, 1, 0)


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "flags.jsonl"
    kept = FlagStore(path).add("a", reason="other", comment="")
    with path.open("ab") as file:
        file.write(b'{"id": "torn')
    store = FlagStore(path)
    assert store.page() == ([kept], "")
    after = store.add("b", reason="privacy", comment="")
    assert FlagStore(path).page() == ([after, kept], "")
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_flag_that_is_added_between_pages_does_not_move_the_later_ones(tmp_path: Path) -> None:
    store = FlagStore(tmp_path / "flags.jsonl")
    made = [store.add("a", reason="other", comment=str(number)) for number in range(5)]
    first, token = store.page(size=2)
    store.add("a", reason="other", comment="late")
    second, token = store.page(size=2, token=token)
    third, token = store.page(size=2, token=token)
    assert (first + second + third, token) == (made[::-1], "")


@pytest.mark.parametrize("token", ["x", "-1", "1e3", "9" * 10, "\N{SUPERSCRIPT TWO}"])
def test_a_page_token_that_is_not_a_position_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(MirageError) as caught:
        FlagStore(tmp_path / "flags.jsonl").page(token=token)
    assert caught.value.code is Code.PAGE_TOKEN_INVALID


def test_a_line_without_a_time_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "flags.jsonl"
    kept = FlagStore(path).add("a", reason="other", comment="")
    with path.open("a") as file:
        file.write(json.dumps({**vars(kept), "id": "bad", "create_time": "yesterday"}) + "\n")
    assert FlagStore(path).page() == ([kept], "")


@pytest.mark.parametrize(
    ("reason", "comment", "field"), [("", "", "reason"), ("spam", "", "reason"), ("other", "a" * 1_001, "comment")]
)
def test_a_flag_needs_a_known_reason_and_a_short_comment(tmp_path: Path, reason: str, comment: str, field: str) -> None:
    with pytest.raises(MirageError) as caught:
        FlagStore(tmp_path / "flags.jsonl").add("a", reason=reason, comment=comment)
    assert caught.value.code is Code.FLAG_INVALID
    assert caught.value.metadata["field"] == field


def test_a_record_takes_only_so_many_flags(tmp_path: Path) -> None:
    store = FlagStore(tmp_path / "flags.jsonl")
    for _ in range(100):
        store.add("a", reason="other", comment="")
    with pytest.raises(MirageError) as caught:
        store.add("a", reason="other", comment="")
    assert caught.value.code is Code.TOO_MANY_ITEMS
