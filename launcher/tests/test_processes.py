"""Processes are told apart, found again and stopped, whatever state their launcher left them in."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mirage_core.cleaning_progress import Progress
from mirage_launcher import lock, logs, ports, processes
from mirage_launcher.errors import PortTakenError
from mirage_launcher.state import IndexState, Running, ServiceState, State

Spawn = Callable[..., subprocess.Popen[bytes]]
READY = "print('ready', flush=True);"
WAIT = READY + "import signal; signal.pause()"


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    children: list[subprocess.Popen[bytes]] = []

    def start(code: str, **environment: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_a_process_is_the_one_that_was_noted_down(spawn: Spawn) -> None:
    child = spawn(WAIT)
    noted = processes.running(child.pid)
    assert noted is not None
    found = processes.alive(noted)
    assert found is not None
    assert found.pid == child.pid


def test_a_later_process_with_the_same_id_is_another_one(spawn: Spawn) -> None:
    noted = processes.running(spawn(WAIT).pid)
    assert noted is not None
    assert processes.alive(replace(noted, created=noted.created - 60)) is None


def test_a_process_that_ended_is_not_alive_while_its_parent_has_not_asked(spawn: Spawn) -> None:
    child = spawn(READY)
    noted = Running(child.pid, psutil.Process(child.pid).create_time())
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.alive(noted) is None


def test_marked_processes_are_found_by_their_data_directory(spawn: Spawn, tmp_path: Path) -> None:
    mine = spawn(WAIT, **{processes.MARK: str(tmp_path)})
    spawn(WAIT, **{processes.MARK: str(tmp_path / "other")})
    assert [process.pid for process in processes.marked(tmp_path)] == [mine.pid]


def test_what_a_service_leaves_behind_is_found_by_its_session(spawn: Spawn, tmp_path: Path) -> None:
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAIT!r}])"
    parent = spawn(orphan, **{processes.MARK: str(tmp_path)})
    parent.wait()
    left = processes.of_session(tmp_path, parent.pid)
    assert len(left) == 1
    processes.kill(left)
    assert processes.of_session(tmp_path, parent.pid) == []


@pytest.mark.parametrize("then", ["sys.exit(0)", "None"])
def test_a_process_is_asked_to_end_before_it_is_killed(spawn: Spawn, tmp_path: Path, then: str) -> None:
    asked = tmp_path / "asked"
    on_term = f"lambda *_: (pathlib.Path({str(asked)!r}).touch(), {then})"
    child = spawn(
        f"import pathlib, signal, sys; signal.signal(signal.SIGTERM, {on_term}); {READY}\nwhile True: signal.pause()"
    )
    processes.stop([psutil.Process(child.pid)], term_s=1.0)
    assert asked.exists()
    assert not psutil.pid_exists(child.pid)


def test_the_memory_of_a_process_is_counted(spawn: Spawn) -> None:
    child = spawn("held = bytearray(64 * 2**20);" + WAIT)
    assert 64 * 2**20 <= processes.memory_bytes([psutil.Process(child.pid)]) < 128 * 2**20


def test_a_lock_is_let_go_of_when_its_holder_is_killed(spawn: Spawn, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = spawn(
        f"from pathlib import Path; from mirage_launcher import lock; held = lock.held(Path({str(path)!r}));"
        f"assert held.__enter__(); {WAIT}"
    )
    assert lock.is_held(path)
    with lock.held(path) as mine:
        assert not mine
    holder.kill()
    holder.wait()
    assert not lock.is_held(path)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    services = (
        ServiceState("encoder", "127.0.0.1:1", "/log", Running(7, 1.5), restarts=2),
        ServiceState("retriever", "127.0.0.1:2", "/log"),
    )
    state = State(
        Running(1, 2.0),
        "indexing",
        "http://x",
        "x:1",
        "mini",
        services=services,
        index=IndexState(3, 9),
        waiting_for=("a",),
        cleaning=Progress("images", 120, 1140, cleaned=118, removed=2),
        remarks=("b",),
    )
    state.write(tmp_path / "state.json")
    assert State.read(tmp_path / "state.json") == state


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"launcher": 1, "services": 2}'])
def test_a_broken_state_counts_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    assert State.read(path) is None


def test_a_taken_port_is_refused_or_gone_around() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match="--port"):
            ports.require_free(port, option="--port")
        assert ports.free_or_any(port) != port
    assert ports.free_or_any(port) == port
    assert ports.free_or_any(port, taken=frozenset({port})) != port


def test_two_launchers_that_start_together_take_different_ports() -> None:
    port = ports.any_free()
    program = f"from mirage_launcher import ports; print(ports.free_or_any({port}), flush=True); input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert int(first.stdout.readline()) == port
        # Nothing listens on it yet.
        assert ports.is_free(port)
        assert ports.free_or_any(port) != port
        first.stdin.close()
        first.wait(timeout=60)
    assert ports.free_or_any(port) == port


def test_a_log_stays_small_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    with open(logs.open_log(path), "w") as writer:
        writer.write("old\n" * 100)
        writer.flush()
        assert logs.bound(path, limit=100)
        writer.write("new\n")
    assert path.read_text() == "new\n"
    assert (tmp_path / "service.log.1").read_text() == "old\n" * 100
    assert not logs.bound(path, limit=100)


def test_the_tail_of_a_log_begins_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    path.write_text("before\n")
    since = logs.size(path)
    with path.open("a") as log:
        log.write("one\ntwo\nthree\n")
    assert logs.tail(path, 2, since=since) == ["two", "three"]
    assert logs.tail(path, since=since) == ["one", "two", "three"]
    assert logs.tail(tmp_path / "none") == []
