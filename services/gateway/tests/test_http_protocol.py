"""What one HTTP connection may cost, whoever it is from."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from starlette.types import Message, Receive, Scope, Send

from mirage_gateway.http_server import HttpServer
from mirage_gateway.settings import GatewaySettings

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
# Long enough for any machine; nothing here waits for it unless it fails.
PATIENCE_S = 30.0
SOON = {"head_timeout_s": 0.2, "keep_alive_s": 0.2, "pace_window_s": 0.2}


# As in the service.
LOOP_FACTORIES = {"uvloop": uvloop.new_event_loop}


class App:
    """Answers with what it was sent; `/wait` waits for `gate`, `/pour` answers without an end."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.poured = 0
        self.ended = asyncio.Event()
        self.seen: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        if scope["path"] == "/pour":
            await self._pour(receive, send)
            return
        body = bytearray()
        if scope["path"] == "/wait":
            self.waiting.set()
            await self.gate.wait()
        elif scope["path"] != "/early":
            while (message := await receive()).get("more_body"):
                body += message["body"]
            if message["type"] == "http.disconnect":
                self.ended.set()
                return
            body += message["body"]
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": bytes(body)})

    async def _pour(self, receive: Receive, send: Send) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        message: Message = {"type": "http.response.body", "body": bytes(2**16), "more_body": True}
        # More than any system's socket buffers.
        while self.poured < 2**30 and not gone.done():
            await send(message)
            self.poured += 2**16
        gone.cancel()
        self.ended.set()


class Peer:
    """One connection, in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        """Sends what the server takes; a connection that it has closed is no error here."""
        with suppress(ConnectionError):
            for part in parts:
                self._writer.write(part)
                await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head)
            body = await self._reader.readexactly(int(found[1]) if found else 0)
        return int(head.split()[1]), body

    async def head(self) -> int:
        """The status of an answer, whose body may never end."""
        async with asyncio.timeout(PATIENCE_S):
            return int((await self._reader.readuntil(b"\r\n\r\n")).split()[1])

    async def problem(self) -> str:
        """The code of an answer that ends the connection."""
        status, body = await self.answer()
        document = json.loads(body)
        assert document["status"] == status
        assert await self.closed()
        return str(document["code"])

    async def closed(self) -> bool:
        """Waits until the server closes the connection; True if nothing more came before."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reader.read() == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self._writer.close()


Connect = Callable[..., Awaitable[Peer]]


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def connect(app: App) -> AsyncIterator[Connect]:
    """Connects to a server that was started with the settings of the first call."""
    servers: list[HttpServer] = []
    peers: list[Peer] = []

    async def build(**settings: Any) -> Peer:
        if not servers:
            servers.append(HttpServer(app, GatewaySettings(http_port=0, drain_s=0, **settings)))
            await servers[0].start()
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", servers[0].port)))
        return peers[-1]

    yield build
    app.gate.set()
    app.ended.set()
    for peer in peers:
        peer.close()
    for server in servers:
        await server.stop()


async def test_requests_follow_each_other_on_a_connection(connect: Connect) -> None:
    peer = await connect()
    for _ in range(3):
        await peer.send(GET + b"\r\n")
        assert await peer.answer() == (200, b"")
        await peer.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n", bytes(100_000))
        assert await peer.answer() == (200, bytes(100_000))


async def test_a_body_in_many_small_chunks_is_read(connect: Connect, app: App) -> None:
    peer = await connect()
    await peer.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
    await peer.send(b"1;a=b\r\nx\r\n" * 20_000, b"0\r\nmore: yes\r\n\r\n")
    assert await peer.answer() == (200, b"x" * 20_000)
    assert b"more" not in dict(app.seen[0]["headers"])


async def test_a_head_up_to_the_limits_is_read(connect: Connect, app: App) -> None:
    peer = await connect()
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(98))
    long = b"x: " + b"y" * (32 * 1024 - len(GET + fields) - 300) + b"\r\n"
    await peer.send(GET + fields + long + b"\r\n")
    assert (await peer.answer())[0] == 200
    assert len(app.seen[0]["headers"]) == 100


CHUNKED = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
FLOOD = b"y" * 2**14


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([GET, b"x: ", *[FLOOD] * 3], id="field"),
        pytest.param([GET, *[FLOOD] * 3], id="name"),
        pytest.param([b"GET /", *[FLOOD] * 3], id="address"),
        pytest.param([GET, b"".join(b"x%d: y\r\n" % number for number in range(101))], id="fields"),
        pytest.param([GET, *[b"x: " + b"y" * 1000 + b"\r\n"] * 33], id="bytes"),
        pytest.param([b"\r\n" * 2**15], id="empty lines"),
        pytest.param([CHUNKED, b"1;", *[FLOOD] * 3], id="extension"),
        pytest.param([CHUNKED, b"1\r\nx\r\n0\r\nx: ", *[FLOOD] * 3], id="trailer"),
        pytest.param([CHUNKED, b"1\r\nx\r\n0\r\n", b"x: y\r\n" * 102], id="trailers"),
        pytest.param([CHUNKED, *[b"1;" + b"y" * 1000 + b"\r\nx\r\n"] * 60], id="extensions"),
        pytest.param([GET + b"\r\n", GET, b"x: ", *[FLOOD] * 3], id="second request"),
    ],
)
async def test_a_head_is_refused_as_soon_as_it_is_too_large(connect: Connect, app: App, parts: list[bytes]) -> None:
    peer = await connect()
    if parts[0].endswith(b"\r\n\r\n") and parts[0].startswith(b"GET"):
        await peer.send(parts.pop(0))
        assert (await peer.answer())[0] == 200
    await peer.send(*parts)
    assert await peer.problem() == "REQUEST_HEAD_TOO_LARGE"


async def test_an_endless_head_is_not_buffered(connect: Connect) -> None:
    peer = await connect()
    await peer.send(GET, b"x: ", *[b"y" * 2**20] * 70)
    assert await peer.closed() in (True, False)
    await (other := await connect()).send(GET + b"\r\n")
    assert (await other.answer())[0] == 200


@pytest.mark.parametrize(
    "sent",
    [b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", CHUNKED + b"z\r\n", b"\0" * 100],
)
async def test_what_is_not_http_is_refused(connect: Connect, sent: bytes) -> None:
    peer = await connect()
    await peer.send(sent)
    assert await peer.problem() == "REQUEST_MALFORMED"


async def test_pipelined_requests_are_answered_up_to_a_bound(connect: Connect, app: App) -> None:
    peer = await connect()
    await peer.send((GET + b"\r\n") * 1000)
    answered = 0
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while (await peer.answer())[0] == 200:
            answered += 1
    assert answered == len(app.seen) == 9


@pytest.mark.parametrize("sent", [b"G", GET, b"GET /a-long-address"])
async def test_half_a_head_is_given_up(connect: Connect, sent: bytes) -> None:
    peer = await connect(**SOON)
    await peer.send(sent)
    assert await peer.problem() == "REQUEST_TOO_SLOW"


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_without_a_request_is_closed(connect: Connect, sent: bytes) -> None:
    peer = await connect(**SOON)
    await peer.send(sent)
    assert await peer.closed()


async def test_a_connection_that_waits_for_its_next_request_is_closed(connect: Connect) -> None:
    peer = await connect(**SOON)
    await peer.send(GET + b"\r\n")
    assert (await peer.answer())[0] == 200
    await peer.send(b"\r\n")
    assert await peer.closed()


async def test_a_reader_that_takes_nothing_is_given_up(connect: Connect, app: App) -> None:
    peer = await connect(**SOON)
    await peer.send(b"GET /pour HTTP/1.1\r\nhost: localhost\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await app.ended.wait()
    assert app.poured < 2**30


async def test_the_rest_of_a_body_that_was_answered_early_is_read(connect: Connect) -> None:
    peer = await connect()
    await peer.send(b"POST /early HTTP/1.1\r\nhost: localhost\r\ncontent-length: 300000\r\n\r\n", bytes(100_000))
    assert (await peer.answer())[0] == 200
    await peer.send(bytes(200_000), GET + b"\r\n")
    assert (await peer.answer())[0] == 200


async def test_a_client_that_opens_too_many_connections_takes_them_from_itself(connect: Connect) -> None:
    peers = [await connect(max_connections_per_client=4) for _ in range(4)]
    await peers[0].send(b"GET /wait HTTP/1.1\r\n", b"host: localhost\r\n\r\n")
    await (await connect()).send(GET + b"\r\n")
    assert await peers[1].closed()
    for peer in peers[2:]:
        await peer.send(GET + b"\r\n")
        assert (await peer.answer())[0] == 200


async def test_a_probe_is_answered_when_every_connection_is_in_use(connect: Connect, app: App) -> None:
    peer = await connect(max_connections_per_client=1)
    await peer.send(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await app.waiting.wait()
    await (probe := await connect()).send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert await probe.answer() == (200, b"")
    assert await probe.closed()
    await (other := await connect()).send(GET + b"\r\n")
    assert await other.problem() == "QUEUE_FULL"
    app.gate.set()
    assert (await peer.answer())[0] == 200


async def test_a_server_that_stops_lets_an_answer_end(app: App) -> None:
    server = HttpServer(app, GatewaySettings(http_port=0, drain_s=5))
    await server.start()
    peer = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
    idle = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
    await peer.send(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await app.waiting.wait()
    stopping = asyncio.create_task(server.stop())
    assert await idle.closed()
    app.gate.set()
    assert (await peer.answer())[0] == 200
    await stopping
    peer.close()
    idle.close()
