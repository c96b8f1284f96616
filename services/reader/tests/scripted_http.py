"""An HTTP server that sends what a test tells it to, byte for byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """A request as it came."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpScript:
    """Answers each request with what `routes` has for its path, else with `answer`; then keeps the connection until `hold` is
    set, if there is one.
    """

    answer: bytes = b""
    routes: Mapping[str, bytes] = field(default_factory=dict)
    forever: Callable[[], bytes] | None = None
    hold: asyncio.Event | None = None
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.asked.append(Asked(line, headers, body))
            self.arrived.set()
            path = line.split()[1].partition("?")[0]
            writer.write(self.routes.get(path, self.answer))
            await writer.drain()
            while self.forever:
                writer.write(self.forever())
                await writer.drain()
            if self.hold:
                # Either the test ends it, or the caller goes.
                gone, held = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(self.hold.wait())
                await asyncio.wait((gone, held), return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                held.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()


@asynccontextmanager
async def http_server(script: HttpScript) -> AsyncIterator[HttpScript]:
    """Serves a script on a free port of this machine; `script.url` is its address."""
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield script
    server.close()


def response(body: bytes, kind: str = "application/json", status: str = "200 OK", **headers: str) -> bytes:
    """A whole answer."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
    )
    return head.encode() + body


def stream(*texts: str, done: bool = True) -> bytes:
    """The answer of an OpenAI-compatible server that streams these pieces."""
    chunks = [json.dumps({"choices": [{"delta": {"content": text}}]}) for text in texts]
    events = "".join(f"data: {each}\n\n" for each in [*chunks, *(["[DONE]"] if done else [])])
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + events.encode()
