"""The HTTP server with a certificate: TLS, and nothing else on that port."""

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse

from mirage_gateway.http_server import HttpServer
from mirage_gateway.settings import GatewaySettings


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    files = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    out = ("-out", str(files[0]), "-keyout", str(files[1]))
    subprocess.run([openssl, "req", "-x509", *kind, *name, *out], check=True, capture_output=True)
    return files


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
