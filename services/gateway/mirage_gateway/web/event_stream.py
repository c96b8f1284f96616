"""Server-sent events, written while the client is there and not a moment longer."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mirage_api.base import Reply
from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_gateway.web.operations import json_of
from mirage_gateway.web.problems import problem_document

MEDIA_TYPE = "text/event-stream"
# Proxies take a connection without a byte for dead after 30 s or so.
HEARTBEAT_S = 10.0
# A client that takes nothing for so long is as good as gone.
_WRITE_S = 30.0
_HEARTBEAT = b": still here\n\n"
_log = telemetry.get_logger()

T = TypeVar("T")
Events = AsyncGenerator[tuple[str, object]]


class EventStream(Response):
    """Sends events as they come, a comment line every `heartbeat_s` of silence, and an `error` event if they fail.

    The generator is closed when the client goes, before the next event. `last_id` is given to the `done` event: a browser
    that comes again after it says so in Last-Event-ID.
    """

    media_type = MEDIA_TYPE
    charset = "utf-8"

    def __init__(self, events: Events, *, heartbeat_s: float = HEARTBEAT_S, last_id: str = "") -> None:
        # `x-accel-buffering` asks a proxy to pass each event on at once.
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._heartbeat_s = heartbeat_s
        self._last_id = last_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the stream."""
        # None is the end.
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        reading = asyncio.create_task(self._read(queue))
        gone = asyncio.create_task(wait_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while not gone.done() and (chunk := await self._next(queue, gone)) is not None:
                async with asyncio.timeout(_WRITE_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            _log.info("a reader of events takes nothing: given up")
        finally:
            for task in (reading, gone):
                task.cancel()
            await asyncio.wait((reading, gone))

    async def _next(self, queue: asyncio.Queue[bytes | None], gone: asyncio.Task[None]) -> bytes | None:
        """Returns the next event or a heartbeat; None at the end."""
        getting = asyncio.create_task(queue.get())
        try:
            await asyncio.wait((getting, gone), timeout=self._heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return None
            return getting.result() if getting.done() else _HEARTBEAT
        finally:
            getting.cancel()

    async def _read(self, queue: asyncio.Queue[bytes | None]) -> None:
        # One task from the first event to the last: cancelling it is all that closes the calls behind.
        try:
            async with aclosing(self._events) as events:
                async for name, document in events:
                    await queue.put(_frame(name, document, self._last_id if name == "done" else ""))
        except MirageError as error:
            await queue.put(_frame("error", {"problem": problem_document(error)}))
        except Exception:
            _log.exception("stream of events failed")
            await queue.put(_frame("error", {"problem": problem_document(MirageError(Code.INTERNAL))}))
        await queue.put(None)


async def wait_until_gone(receive: Receive) -> None:
    """Returns when the client's connection is closed. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The outcome of `work`, which is cancelled when the client goes; then raises CANCELLED."""
    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(wait_until_gone(receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise MirageError(Code.CANCELLED)
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait((working, gone))


def _frame(name: str, document: object, id_: str = "") -> bytes:
    # JSON has no line break of its own, so one `data` line holds it.
    head = f"id: {id_}\n" if id_ else ""
    return (
        f"{head}event: {name}\n".encode()
        + b"data: "
        + (json_of(document) if isinstance(document, Reply) else to_json(document))
        + b"\n\n"
    )
