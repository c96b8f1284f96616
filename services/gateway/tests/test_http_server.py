"""The HTTP server with a certificate: TLS, and nothing else on that port."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from starlette.responses import PlainTextResponse

from mirage_gateway.http_server import HttpServer, share_of
from mirage_gateway.settings import GatewaySettings
from tests.support.certificates import self_signed
from tests.support.waiting import PATIENCE_S

# As in the service.
LOOP_FACTORIES = {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path)


@pytest.fixture
async def server(certificate: tuple[Path, Path]) -> AsyncIterator[HttpServer]:
    settings = GatewaySettings(http_port=0, drain_s=0, tls_certificate=certificate[0], tls_key=certificate[1])
    server = HttpServer(PlainTextResponse("here"), settings)
    await server.start()
    yield server
    await server.stop()


async def test_with_a_certificate_it_speaks_https(server: HttpServer, certificate: tuple[Path, Path]) -> None:
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    async with httpx.AsyncClient(verify=trusted) as client:
        reply = await client.get(f"https://localhost:{server.port}/")
    assert reply.text == "here"


async def test_plain_http_is_not_answered_then(server: HttpServer) -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(f"http://localhost:{server.port}/")


async def test_a_handshake_that_is_not_begun_is_given_up(certificate: tuple[Path, Path]) -> None:
    files: dict[str, Any] = {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    server = HttpServer(PlainTextResponse("here"), GatewaySettings(http_port=0, drain_s=0, head_timeout_s=0.2, **files))
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == b""
    writer.close()
    await server.stop()


async def test_handshakes_that_are_not_begun_count_as_connections(certificate: tuple[Path, Path]) -> None:
    files: dict[str, Any] = {"tls_certificate": certificate[0], "tls_key": certificate[1]}
    server = HttpServer(
        PlainTextResponse("here"), GatewaySettings(http_port=0, drain_s=0, max_connections_per_client=2, **files)
    )
    await server.start()
    silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
    async with asyncio.timeout(PATIENCE_S):
        assert await silent[0][0].read() == b""
    trusted = ssl.create_default_context(cafile=str(certificate[0]))
    async with httpx.AsyncClient(verify=trusted) as client:
        assert (await client.get(f"https://localhost:{server.port}/")).text == "here"
    for _, writer in silent:
        writer.close()
    await server.stop()


@pytest.mark.parametrize(
    ("limit", "per_client", "connections", "expected"),
    [(1024, 256, 1024, 256), (112, 256, 1024, 28), (112, 5000, 1024, 112), (32, 1, 1024, 1)],
)
def test_one_client_has_its_part_of_the_connections_that_are_possible(
    limit: int, per_client: int, connections: int, expected: int
) -> None:
    assert share_of(limit, per_client, connections) == expected
