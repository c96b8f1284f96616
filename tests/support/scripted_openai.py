"""A server that speaks OpenAI's chat protocol as its script says, rightly or wrongly, over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

EVENTS = "text/event-stream"


@dataclass
class ScriptedOpenAi:
    """Streams `pieces`; `status`, `kind` and `headers` are of its answer, `raw` its body instead.

    `held` waits before the body until the caller is gone or `go` is set; `endless` repeats the pieces; `unfinished`
    closes without an end.
    """

    pieces: tuple[str, ...] = ()
    status: int = 200
    kind: str = EVENTS
    headers: tuple[str, ...] = ()
    raw: bytes | None = None
    held: bool = False
    endless: bool = False
    unfinished: bool = False
    finish: str = "stop"
    asked: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:"))
            self.heads.append(head)
            self.asked.append(json.loads(await reader.readexactly(length)))
            lines = [f"HTTP/1.1 {self.status} X", f"content-type: {self.kind}", *self.headers, "connection: close"]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
            if self.held:
                gone = asyncio.create_task(reader.read())
                await asyncio.wait([gone, asyncio.create_task(self.go.wait())], return_when=asyncio.FIRST_COMPLETED)
            await self._body(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.close()

    async def _body(self, writer: asyncio.StreamWriter) -> None:
        if self.raw is not None:
            writer.write(self.raw)
            await writer.drain()
            return
        while True:
            for piece in self.pieces:
                writer.write(event({"delta": {"content": piece}, "finish_reason": None}))
                await writer.drain()
            if not self.endless:
                break
        if not self.unfinished:
            writer.write(event({"delta": {}, "finish_reason": self.finish}) + b"data: [DONE]\n\n")
            await writer.drain()


def event(choice: dict[str, Any]) -> bytes:
    """An event with one choice."""
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@asynccontextmanager
async def serving(script: ScriptedOpenAi) -> AsyncIterator[ScriptedOpenAi]:
    """Serves on a free port until the block ends."""
    server = await asyncio.start_server(script.answer, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        script.go.set()
        server.close()
