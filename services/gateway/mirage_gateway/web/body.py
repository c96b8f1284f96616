"""Reading what a request carries, with bounds that hold before the bytes are kept."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from mirage_core.errors import Code, MirageError
from mirage_gateway.connections import Pace
from mirage_gateway.request_memory import MemoryShare, RequestMemory
from mirage_gateway.request_places import Place
from mirage_gateway.web.json_bounds import PLAIN, JsonBounds, parse
from mirage_gateway.web.proxies import CLIENT, group_of

UPLOAD_BYTES = 64 * 2**20
# A request's own things are in its ASGI scope: an exit stack, its place among those in progress, its memory.
EXIT = "mirage.exit"
PLACE = "mirage.place"
SHARE = "mirage.share"

# Measured: an image takes at most so many times the bytes of its base64, from the body itself to what gRPC sends
# (docs/benchmarks.md, "Attacks").
_COPIES = 3.6
# The same of the decoded image.
_FILE_COPIES = 4
_LEAST_SHARE = 16 * 2**10
# Memory of a download whose reader takes nothing: a few parts of an image are here at a time. Measured, too. With the least
# share it is still a small request, which waits for no turn.
PASSED_BYTES = 2**20 - _LEAST_SHARE
# Of an upload that is passed on as it arrives.
_STREAM_SHARE = 2 * 2**20
_SHORT = 64 * 2**10
# A longer body is parsed in a thread.
_LONG = 32 * 2**10

Model = TypeVar("Model", bound=BaseModel)


class Intake:
    """Reads bodies. While a body arrives its request takes no place; it holds memory from the first byte to the answer."""

    def __init__(self, memory: RequestMemory, pace: Pace, *, timeout_s: float) -> None:
        self._memory = memory
        self._pace = pace
        self._timeout_s = timeout_s
        # One thread: bodies are parsed in turn, and the event loop has to share the processor with one of them only.
        self._parser = ThreadPoolExecutor(1, "body")

    async def json(self, request: Request, model: type[Model], bounds: JsonBounds = PLAIN) -> Model:
        """Returns the JSON body as a model.

        Raises MEDIA_TYPE_UNSUPPORTED, REQUEST_TOO_LARGE, REQUEST_TOO_SLOW, QUEUE_FULL, and what `parse` does.
        """
        check_media_type(request, "application/json")
        length = check_length(request, bounds.largest)
        place: Place = request.scope[PLACE]
        place.leave()
        # The share of a short body, or of one without a length, grows as it arrives.
        share = await self._share(request.scope, int(_COPIES * length) if length and length > _SHORT else 0)
        body = bytearray()
        async for chunk in self._receive(request, share, bounds.largest):
            body += chunk
            share.grow(_LEAST_SHARE + int(_COPIES * len(body)))
        await place.take()
        if len(body) <= _LONG:
            made, files, rest = parse(model, body, bounds)
        else:
            made, files, rest = await asyncio.get_running_loop().run_in_executor(
                self._parser, parse, model, body, bounds
            )
        share.become(_LEAST_SHARE + _FILE_COPIES * files + rest)
        return made

    async def stream(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """Yields a body of at most `limit` bytes as it arrives; raises as `json` does. It gives up its place."""
        request.scope[PLACE].leave()
        share = await self._share(request.scope, _STREAM_SHARE)
        async for chunk in self._receive(request, share, limit):
            yield chunk

    async def reserve(self, scope: Scope, amount: int) -> MemoryShare:
        """Takes memory for an answer of about `amount` bytes, until it is sent; raises QUEUE_FULL."""
        return await self._share(scope, amount)

    async def _share(self, scope: Scope, amount: int) -> MemoryShare:
        share = await self._memory.take(group_of(scope[CLIENT]), _LEAST_SHARE + amount)
        ending: ExitStack = scope[EXIT]
        ending.callback(share.release)
        scope[SHARE] = share
        return share

    async def _receive(self, request: Request, share: MemoryShare, limit: int) -> AsyncIterator[bytes]:
        receive = PacedReceive(request.receive, self._pace, timeout_s=self._timeout_s)
        self._memory.arrive(share, receive.give_up)
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise MirageError(Code.CANCELLED)
                chunk = message.get("body", b"")
                share.received += len(chunk)
                if share.received > limit:
                    raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=limit)
                if chunk:
                    yield chunk
                if not message.get("more_body"):
                    return
        finally:
            self._memory.arrived(share)


class PacedReceive:
    """Receives the parts of a body; raises REQUEST_TOO_SLOW if they arrive more slowly than `pace` allows.

    Only the time that is spent waiting counts: a sender is not blamed if this side reads slowly.
    """

    def __init__(self, receive: Receive, pace: Pace, *, timeout_s: float) -> None:
        self._receive = receive
        self._pace = pace
        self._left_s = timeout_s
        self._waited_s = 0.0
        self._arrived = 0
        self._given_up = False
        self._waiting: asyncio.Timeout | None = None

    def give_up(self) -> None:
        """Ends the body, as if it were too slow."""
        self._given_up = True
        if self._waiting is not None:
            self._waiting.reschedule(0)

    async def __call__(self) -> Message:
        """Returns the next part."""
        while True:
            if self._given_up or self._left_s <= 0:
                raise MirageError(Code.REQUEST_TOO_SLOW)
            message = await self._wait(min(self._left_s, self._pace.window_s - self._waited_s))
            if message is not None and not message.get("more_body"):
                return message
            self._arrived += len(message["body"]) if message else 0
            if self._waited_s >= self._pace.window_s:
                if self._arrived < self._pace.bytes_per_s * self._pace.window_s:
                    raise MirageError(Code.REQUEST_TOO_SLOW)
                self._waited_s, self._arrived = 0.0, 0
            if message is not None:
                return message

    async def _wait(self, seconds: float) -> Message | None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        message: Message | None = None
        try:
            async with asyncio.timeout(seconds) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            # The event loop may have been busy for that long: what has arrived meanwhile is taken.
            with_grace = asyncio.timeout(0.05)
            if not self._given_up:
                try:
                    async with with_grace:
                        message = await self._receive()
                except TimeoutError:
                    pass
        finally:
            self._waiting = None
        waited = loop.time() - began
        self._waited_s += waited
        self._left_s -= waited
        return message


def check_media_type(request: Request, expected: str) -> str:
    """Returns the whole Content-Type; raises MEDIA_TYPE_UNSUPPORTED unless it is `expected`, whatever its parameters.

    A form of another site's page cannot send application/json, so this also keeps such forms out.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != expected:
        raise MirageError(Code.MEDIA_TYPE_UNSUPPORTED, expected=expected)
    return given


def check_length(request: Request, limit: int) -> int | None:
    """Returns the Content-Length, None if omitted; raises REQUEST_TOO_LARGE or REQUEST_MALFORMED."""
    given = request.headers.get("content-length")
    if given is None:
        return None
    if not given.isascii() or not given.isdigit():
        raise MirageError(Code.REQUEST_MALFORMED, field="content-length")
    if len(given) > 18 or int(given) > limit:
        raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=limit)
    return int(given)
