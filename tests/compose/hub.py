"""A hub of one's own: a folder of repositories (OWNER/NAME/...), served with the paths and headers of the Hugging Face hub."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
_LISTING = re.compile(rf"/api/models/{_REPOSITORY}/revision/(main|{COMMIT})")
_FILE = re.compile(rf"/{_REPOSITORY}/resolve/(main|{COMMIT})/(?P<name>[\w./-]+)")
_BLOCK = 1 << 20


@contextmanager
def serve(root: Path) -> Iterator[tuple[int, list[str]]]:
    """The port of all addresses of this host where the hub is, and the files that were fetched from it so far."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            if listing := _LISTING.fullmatch(self.path):
                folder = root / listing["repository"]
                names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
                if names:
                    about = {"id": listing["repository"], "sha": COMMIT, "private": False}
                    text = json.dumps({**about, "siblings": [{"rfilename": name} for name in names]}).encode()
                    return self._send(200, len(text), iter([text]))
            elif (asked := _FILE.fullmatch(self.path)) and ".." not in self.path:
                path = root / asked["repository"] / asked["name"]
                if path.is_file():
                    if self.command == "GET":
                        fetched.append(f"{asked['repository']}/{asked['name']}")
                    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(path)}"'}
                    return self._send(200, path.stat().st_size, _blocks(path), headers)
            return self._send(404, 2, iter([b"{}"]), {"X-Error-Code": "RepoNotFound"})

        def _send(self, status: int, length: int, body: Iterator[bytes], headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                for block in body:
                    self.wfile.write(block)

    with ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, fetched
        finally:
            server.shutdown()
            thread.join()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
