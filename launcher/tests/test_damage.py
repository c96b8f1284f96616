"""Damaged files in a data directory: none keeps a start from succeeding, none is lost, each is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirage_core.files import MARK, put_aside
from mirage_launcher import damage, lock, processes
from mirage_launcher.demo import read_mark
from mirage_launcher.folders import Folders
from mirage_launcher.launch import leftovers
from mirage_launcher.operations import down, running_state
from mirage_launcher.state import Running, State
from mirage_launcher.status import read_status

RUBBISH: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"launcher": {"pid": 1, "cre',
    "noise": bytes(range(256)),
    "deep": b"[" * 100_000,
    "another document": b'{"finished": [1], "launcher": 7}',
    "a list": b"[1, 2]",
    "a text": b'"text"',
}


def folders(tmp_path: Path) -> Folders:
    made = Folders.at(tmp_path / "data")
    made.create()
    return made


def state(**changes: object) -> bytes:
    whole = {
        **{"launcher": {"pid": os.getpid(), "created": 1.0}, "phase": "ready", "url": "http://localhost:1", "grpc": ""},
        **{"models": "mini", "services": [], "index": None, "waiting_for": [], "problem": "", "remarks": []},
        **changes,
    }
    return json.dumps(whole).encode()


ODD_STATES: dict[str, bytes] = {
    **RUBBISH,
    "a process that cannot be": state(launcher={"pid": -1, "created": 1.0}),
    "a process beyond all": state(launcher={"pid": 10**30, "created": 1e400}),
    "a process that is text": state(launcher={"pid": "x", "created": 1.0}),
    "services that are none": state(services=[1]),
    "services of other fields": state(services=[{"name": "queue", "process": None, "other": 1}]),
    "an address that is none": state(url=7),
    "remarks that are none": state(remarks=7),
}


@pytest.mark.parametrize("kind", ODD_STATES)
def test_a_damaged_note_of_what_runs_is_as_none(kind: str, tmp_path: Path) -> None:
    made = folders(tmp_path)
    made.state.write_bytes(ODD_STATES[kind])
    assert leftovers(made) == []
    assert running_state(made.root) is None
    assert read_status(made.root).phase == "down"
    assert down(made.root) is False
    with lock.held(made.lock):
        assert read_status(made.root).phase in ("down", "ready")


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_damaged_mark_of_the_demonstration_is_as_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    path.write_bytes(RUBBISH[kind])
    assert read_mark(path).get("finished") in (None, [1])


@pytest.mark.parametrize("pid", [-1, 0, 10**30])
def test_a_number_that_no_process_has_is_no_process(pid: int) -> None:
    assert processes.alive(Running(pid, 1.0)) is None


@pytest.mark.parametrize("name", ["atlas", "queue", "images", "logs", "run"])
@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_what_is_in_the_place_of_a_folder_is_put_aside(name: str, kind: str, tmp_path: Path) -> None:
    made = Folders.at(tmp_path / "data")
    made.root.mkdir()
    path = made.root / name
    if kind == "file":
        path.write_bytes(b"what was there")
    else:
        path.symlink_to("nowhere")
    damage.clear_the_way(made)
    made.create()
    assert path.is_dir() or name == "images"
    (kept,) = (each for each in made.root.iterdir() if MARK in each.name)
    assert kept.is_symlink() or kept.read_bytes() == b"what was there"
    assert [str(kept) in remark for remark in damage.remarks(made)] == [True]
    assert read_status(made.root).remarks == damage.remarks(made)


@pytest.mark.parametrize(
    "file",
    [
        *(lambda made: made.state, lambda made: made.lock, lambda made: made.demo_mark),
        lambda made: made.log("queue"),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_put_aside(file: Callable[[Folders], Path], tmp_path: Path) -> None:
    made = folders(tmp_path)
    path = file(made)
    path.mkdir()
    (path / "within").write_bytes(b"kept")
    assert lock.is_held(made.lock) is False
    damage.clear_the_way(made)
    assert not path.exists()
    (remark,) = damage.remarks(made)
    (kept,) = (each for each in path.parent.iterdir() if MARK in each.name)
    assert str(kept) in remark
    assert (kept / "within").read_bytes() == b"kept"


def test_what_is_in_order_is_left_alone(tmp_path: Path) -> None:
    made = folders(tmp_path)
    made.state.write_bytes(state())
    made.demo_mark.write_bytes(b"{}")
    before = sorted(made.root.rglob("*"))
    damage.clear_the_way(made)
    assert sorted(made.root.rglob("*")) == before
    assert damage.remarks(made) == ()


def test_many_damaged_files_are_counted(tmp_path: Path) -> None:
    made = folders(tmp_path)
    for _ in range(25):
        (made.atlas / "flags.jsonl").touch()
        put_aside(made.atlas / "flags.jsonl")
    remarks = damage.remarks(made)
    assert len(remarks) == 21
    assert remarks[-1].startswith("5 ")


def test_two_states_are_told_apart_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    whole = State(Running(1, 2.0), "ready", "http://localhost:1", "localhost:2", "mini", remarks=("one",))
    whole.write(path)
    assert State.read(path) == whole
