"""Settings of the generator: the password of its Redis, from the variable to every connection."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import ValidationError

from mirage_core.errors import Code, MirageError
from mirage_generator.changes import Changes
from mirage_generator.settings import GeneratorSettings
from mirage_generator.store.connection import connect
from mirage_generator.store.jobs import CHANGES, JobStore, StoreLimits
from mirage_generator.ticket_transport import QUEUE
from mirage_generator.tickets import TicketQueue, make_app
from mirage_launcher import queue_server
from tests.support.waiting import PATIENCE_S

PASSWORD = "a:b/c@d#é%"


def settings(**fields: object) -> GeneratorSettings:
    return GeneratorSettings.model_validate({"data": "data", "bundle": "bundle", **fields})


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A Redis that asks for the password."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = queue_server.find_server()
    command = [server, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), "--requirepass", PASSWORD]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                redis.Redis(port=port).ping()
            except redis.AuthenticationError:
                break
            except redis.RedisError:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(tmp_path, ignore_errors=True)


async def test_every_connection_shows_the_password(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_GENERATOR_REDIS_PASSWORD", PASSWORD)
    monkeypatch.setenv("MIRAGE_GENERATOR_REDIS", address)
    given = settings()
    assert PASSWORD not in repr(given)
    store = JobStore(connect(given.redis_url), StoreLimits.of(given))
    store.ping()
    TicketQueue(make_app(given.redis_url, longest_s=60)).issue()
    client = connect(given.redis_url)
    assert client.llen(QUEUE) == 1
    changes = Changes(given.redis_url)
    with changes.of("job1") as changed:
        listening = asyncio.create_task(changes.run())
        async with asyncio.timeout(PATIENCE_S):
            while not client.publish(CHANGES, "step job1"):
                await asyncio.sleep(0.01)
            await changed.wait()
        listening.cancel()


def test_a_wrong_password_is_a_queue_that_is_away(address: str) -> None:
    for password in ("", "another"):
        given = settings(redis=address, redis_password=password)
        with pytest.raises(MirageError) as caught:
            JobStore(connect(given.redis_url), StoreLimits.of(given)).ping()
        assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE


@pytest.mark.parametrize("redis_", ["unix:///run/redis.sock", "redis://:other@localhost:6379/0"])
def test_a_password_that_no_connection_would_show_is_refused(redis_: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(redis=redis_, redis_password=PASSWORD)
    assert PASSWORD not in str(caught.value)
    assert settings(redis=redis_).redis_url == redis_
