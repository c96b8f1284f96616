"""Server-sent events, with an ASGI server's side played by the test."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from mirage_core.errors import Code, MirageError
from mirage_gateway.web.event_stream import EventStream, while_connected
from tests.support.waiting import PATIENCE_S

Messages = list[dict[str, Any]]


class Connection:
    """A client's connection: what was sent to it, and when it goes."""

    def __init__(self) -> None:
        self.sent: Messages = []
        self.gone = asyncio.Event()
        self.got = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self.got.set()

    @property
    def body(self) -> str:
        return b"".join(each.get("body", b"") for each in self.sent).decode()

    async def serve(self, events: AsyncGenerator[tuple[str, object]], **options: Any) -> None:
        await asyncio.wait_for(
            EventStream(events, **options)({"type": "http"}, self.receive, self.send), timeout=PATIENCE_S
        )


async def test_events_are_framed_and_the_stream_ends() -> None:
    async def events() -> AsyncGenerator[tuple[str, object]]:
        yield "token", {"text": "a\nb\u2028 ä"}
        yield "done", {}

    connection = Connection()
    await connection.serve(events())
    first, second, rest = connection.body.split("\n\n")
    name, data = first.splitlines()[0], first.removeprefix("event: token\n")
    assert (name, json.loads(data.removeprefix("data: "))) == ("event: token", {"text": "a\nb\u2028 ä"})
    assert (second, rest) == ("event: done\ndata: {}", "")
    assert connection.sent[-1]["more_body"] is False


async def test_a_silence_is_filled_with_comments() -> None:
    async def events() -> AsyncGenerator[tuple[str, object]]:
        await enough.wait()
        yield "done", {}

    connection, enough = Connection(), asyncio.Event()
    serving = asyncio.create_task(connection.serve(events(), heartbeat_s=0.02))
    async with asyncio.timeout(PATIENCE_S):
        while connection.body.count(": still here\n\n") < 3:
            connection.got.clear()
            await connection.got.wait()
    enough.set()
    await serving
    assert connection.body.endswith("event: done\ndata: {}\n\n")


@pytest.mark.parametrize("silent", [True, False])
async def test_a_client_that_goes_closes_the_events(silent: bool) -> None:
    async def events() -> AsyncGenerator[tuple[str, object]]:
        try:
            while True:
                yield "token", {}
                await (asyncio.Event().wait() if silent else asyncio.sleep(0))
        finally:
            closed.set()

    connection, closed = Connection(), asyncio.Event()
    serving = asyncio.create_task(connection.serve(events()))
    await connection.got.wait()
    connection.gone.set()
    await serving
    assert closed.is_set()


@pytest.mark.parametrize(
    ("error", "code"), [(MirageError(Code.QUEUE_FULL, retry_after_s=2.0), "QUEUE_FULL"), (ValueError("x"), "INTERNAL")]
)
async def test_a_failure_is_the_last_event(error: Exception, code: str) -> None:
    async def events() -> AsyncGenerator[tuple[str, object]]:
        yield "token", {}
        raise error

    connection = Connection()
    await connection.serve(events())
    last = connection.body.strip().split("\n\n")[-1].splitlines()
    problem = json.loads(last[1].removeprefix("data: "))["problem"]
    assert (last[0], problem["code"]) == ("event: error", code)
    assert connection.sent[-1]["more_body"] is False


async def test_work_for_a_client_that_went_is_cancelled() -> None:
    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    connection, begun, ended = Connection(), asyncio.Event(), asyncio.Event()
    doing = asyncio.create_task(while_connected(connection.receive, work()))
    await begun.wait()
    connection.gone.set()
    with pytest.raises(MirageError, match="CANCELLED"):
        await doing
    assert ended.is_set()
