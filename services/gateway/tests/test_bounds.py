"""The gateway while clients take all that they can: who is refused, and who is still served."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message

from mirage_gateway.compose import Composer
from mirage_gateway.dependencies import Dependencies
from mirage_gateway.http_server import HttpServer
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.app import build_app

from .conftest import Gateway, Peer
from .test_http_protocol import Peer as Connection

IMAGE = base64.b64encode(bytes(3 * 2**20)).decode()
HEAD = "POST /v1/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
JSON = {"content-type": "application/json"}


@pytest.fixture
async def serve(peer: Peer) -> AsyncIterator[Any]:
    """Starts the whole HTTP side with some settings; returns its port."""
    running: list[Any] = []

    async def start(**settings: Any) -> int:
        chosen = GatewaySettings(
            http_port=0,
            drain_s=0,
            retriever=peer.address,
            encoder=peer.address,
            llm="",
            generator="",
            reader="",
            **settings,
        )
        parts = Dependencies(retriever=chosen.retriever, encoder=chosen.encoder, patience_s=chosen.patience_s)
        server = HttpServer(build_app(Composer(parts, chosen), chosen), chosen)
        await server.start()
        running.extend((server.stop, parts.close))
        return server.port

    yield start
    if peer.script.gate:
        peer.script.gate.set()
    for stop in running:
        await stop()


async def open_connection(port: int) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port))


async def test_bodies_that_do_not_arrive_take_no_place_from_others(serve: Any) -> None:
    port = await serve(max_requests=2)
    slow = [await open_connection(port) for _ in range(20)]
    for each in slow:
        await each.send(HEAD.format(1000).encode(), b'{"text"')
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        for path in ("/healthz", "/readyz", "/v1/records/r1"):
            assert (await http.get(path)).status_code == 200
        assert (await http.post("/v1/search", json={"text": "x"})).status_code == 200
    for each in slow:
        each.close()


async def test_a_body_that_does_not_arrive_is_answered_with_a_problem(serve: Any) -> None:
    port = await serve(pace_window_s=0.2)
    slow = await open_connection(port)
    await slow.send(HEAD.format(1000).encode(), b'{"text"')
    assert await slow.problem() == "REQUEST_TOO_SLOW"
    slow.close()


async def test_large_bodies_that_do_not_arrive_leave_room_for_others(serve: Any, peer: Peer) -> None:
    port = await serve(memory_mb=64, trusted_proxies="127.0.0.1")
    slow = [await open_connection(port) for _ in range(8)]
    for each in slow:
        await each.send(HEAD.format(20 * 2**20).encode(), b'{"text"')
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        body = {"image": IMAGE[: 2**20], "accept_any_image": True}
        other = await http.post("/v1/search", json=body, headers={"x-forwarded-for": "192.0.2.9"})
        assert other.status_code == 200
        own = await http.post("/v1/search", json=body)
        assert (own.status_code, own.json()["code"]) == (429, "QUEUE_FULL")
        assert int(own.headers["retry-after"]) >= 1
    for each in slow:
        each.close()


async def test_images_that_do_not_fit_into_memory_are_told_to_come_back(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(memory_mb=32)
    peer.script.gate = asyncio.Event()
    first = asyncio.create_task(http.post("/v1/search", json={"image": IMAGE}))
    await asyncio.wait_for(peer.script.arrived.wait(), timeout=30)
    second = await http.post("/v1/search", json={"image": IMAGE})
    assert (second.status_code, second.json()["code"]) == (429, "QUEUE_FULL")
    small = asyncio.create_task(http.post("/v1/search", json={"text": "x"}))
    peer.script.gate.set()
    assert (await small).status_code == 200
    assert (await first).status_code == 200
    assert (await http.post("/v1/search", json={"image": IMAGE})).status_code == 200


async def test_probes_are_answered_when_every_place_is_taken(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(max_requests=1)
    peer.script.gate = asyncio.Event()
    first = asyncio.create_task(http.get("/v1/records/r1"))
    await asyncio.wait_for(peer.script.arrived.wait(), timeout=30)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await http.get(path)).status_code == 200
    assert (await http.get("/v1/facets")).status_code == 429
    peer.script.gate.set()
    assert (await first).status_code == 200


async def test_one_address_cannot_take_every_place(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(max_requests=2, max_requests_per_client=1, trusted_proxies="127.0.0.1")
    peer.script.gate = asyncio.Event()
    first = asyncio.create_task(http.get("/v1/records/r1", headers={"x-forwarded-for": "2001:db8::1"}))
    await asyncio.wait_for(peer.script.arrived.wait(), timeout=30)
    neighbour = await http.get("/v1/records/r1", headers={"x-forwarded-for": "2001:db8::2"})
    assert (neighbour.status_code, neighbour.json()["code"]) == (429, "QUEUE_FULL")
    other = asyncio.create_task(http.get("/v1/records/r1", headers={"x-forwarded-for": "2001:db8:0:1::1"}))
    peer.script.gate.set()
    assert [(await each).status_code for each in (first, other)] == [200, 200]


async def test_a_large_answer_is_sent_in_pieces(peer: Peer) -> None:
    settings = GatewaySettings(retriever=peer.address, encoder=peer.address)
    parts = Dependencies(retriever=peer.address, encoder=peer.address, patience_s=1.0)
    app = build_app(Composer(parts, settings), settings)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/openapi.json",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 5000),
    }
    await app(scope, receive, send)
    await parts.close()
    bodies = [message["body"] for message in sent[1:]]
    assert len(bodies) > 1
    assert max(map(len, bodies)) <= 64 * 1024
    assert json.loads(b"".join(bodies))["openapi"]
    assert [message["more_body"] for message in sent[1:]] == [*[True] * (len(bodies) - 1), False]


@pytest.mark.parametrize("query", ["where=" + "&where=".join(["plane=x"] * 2000), "where=" + "a" * 2000 + "=x"])
@pytest.mark.parametrize("path", ["/v1/facets", "/v1/records/r1/similar"])
async def test_a_filter_in_an_address_is_bounded(http: httpx.AsyncClient, peer: Peer, path: str, query: str) -> None:
    response = await http.get(f"{path}?{query}")
    assert response.json()["code"] in ("TOO_MANY_ITEMS", "REQUEST_MALFORMED")
    assert not peer.script.asked


async def test_an_upload_s_part_heads_are_bounded(http: httpx.AsyncClient, peer: Peer) -> None:
    body = b"--b\r\ncontent-disposition: form-data; name=record; x=" + b"y" * 100_000
    response = await http.post("/v1/records", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert response.json()["code"] in ("REQUEST_TOO_LARGE", "REQUEST_MALFORMED")
    assert not peer.script.asked


async def test_an_image_that_looks_like_boundaries_is_passed_on_in_few_pieces(
    http: httpx.AsyncClient, peer: Peer
) -> None:
    image = b"\r\n--\r\n--b\r\n-" * 20_000
    files: list[tuple[str, Any]] = [
        ("record", (None, b'{"id": "a", "caption": "c"}', "application/json")),
        ("image", ("i", image)),
    ]
    assert (await http.post("/v1/records", files=files)).status_code == 200
    parts = [part.image_chunk for part in peer.script.asked[0] if part.WhichOneof("part") == "image_chunk"]
    assert b"".join(parts) == image
    assert len(parts) < 20


async def test_an_answer_on_its_way_takes_no_place(serve: Any, peer: Peer) -> None:
    port = await serve(max_requests=2)
    peer.script.image_gate = asyncio.Event()
    readers = [await open_connection(port) for _ in range(4)]
    for each in readers:
        await each.send(b"GET /v1/images/r1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await each.head()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        assert (await http.get("/v1/records/r1")).status_code == 200
    peer.script.image_gate.set()
    for each in readers:
        each.close()


async def test_an_answer_that_is_still_made_keeps_its_place(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(max_requests=1)
    peer.llm.gate = asyncio.Event()
    describing = asyncio.create_task(http.post("/v1/describe", json={"text": "x"}))
    await asyncio.wait_for(peer.llm.arrived.wait(), timeout=30)
    refused = await http.get("/v1/records/r1")
    assert (refused.status_code, refused.json()["code"]) == (429, "QUEUE_FULL")
    peer.llm.gate.set()
    assert (await describing).status_code == 200
    assert (await http.get("/v1/records/r1")).status_code == 200


async def test_a_download_may_take_longer_than_another_read(serve: Any, peer: Peer) -> None:
    peer.script.image_parts = (bytes(2**18),) * 64
    # Other reads must be answered within it, also on a busy machine.
    timeout_s = 3.0
    port = await serve(read_timeout_s=timeout_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/images/r1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    begun = asyncio.get_running_loop().time()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        while asyncio.get_running_loop().time() < begun + 1.25 * timeout_s:
            assert (await http.get("/v1/records/r1")).status_code == 200
    assert b" 200 " in head
    assert len(await reader.readexactly(64 * 2**18)) == 64 * 2**18
    writer.close()


async def test_a_download_whose_source_stops_is_broken_off(serve: Any, peer: Peer) -> None:
    peer.script.image_gate = asyncio.Event()
    reader = await open_connection(await serve(read_timeout_s=2.0))
    await reader.send(b"GET /v1/images/r1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await reader.head()
    assert not await reader.closed()
    peer.script.image_gate.set()
    reader.close()


async def test_downloads_that_do_not_fit_into_memory_are_told_to_come_back(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(memory_mb=32, max_requests=1000, max_requests_per_client=1000)
    peer.script.image_parts = (bytes(2**18),) * 64
    peer.script.image_gate = asyncio.Event()
    downloads = [asyncio.create_task(http.get("/v1/images/r1")) for _ in range(40)]
    done, _ = await asyncio.wait(downloads, return_when=asyncio.FIRST_COMPLETED)
    assert {each.result().status_code for each in done} == {429}
    peer.script.image_gate.set()
    statuses = [(await each).status_code for each in downloads]
    assert 200 in statuses
    assert set(statuses) == {200, 429}
    assert (await http.get("/v1/images/r1")).status_code == 200


async def test_a_page_of_records_comes_in_pieces(gateway: Gateway, peer: Peer) -> None:
    http = await gateway()
    document = (await http.get("/v1/records?vectors=true")).json()
    assert [each["id"] for each in document["records"]] == ["r1"]
    assert document["next_page_token"] == "more"
    assert document["fingerprint"] == "f" * 64
