"""Whose certificates a client believes, over real TLS."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mirage.client import Client
from mirage.errors import UnreachableError
from tests.support.certificates import self_signed


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"facets": []}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Signed by itself, with its key next to it."""
    return self_signed(tmp_path)[0]


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_a_certificate_that_nobody_vouches_for_is_not_believed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIRAGE_CA_FILE", raising=False)
    with Client(url) as client, pytest.raises(UnreachableError):
        client.facets()


def test_a_certificate_in_the_named_file_is(url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_CA_FILE", str(certificate))
    with Client(url) as client:
        assert client.facets() == ()


@pytest.mark.parametrize("content", [None, "", "rubbish"])
def test_a_file_without_certificates_is_named(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("MIRAGE_CA_FILE", str(file))
    with pytest.raises(UnreachableError, match="MIRAGE_CA_FILE"):
        Client("https://localhost")
