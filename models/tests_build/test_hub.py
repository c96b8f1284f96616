"""Fetching from a hub: huggingface_hub itself, in a process of its own, against a server that answers as the hub does."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mirage_models.hub import HubError, fetch, is_hub_id

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/model"
WEIGHTS = bytes(range(256)) * 100_000
FILES = {
    "config.json": b'{"model_type": "gpt_neox"}',
    "model.safetensors": WEIGHTS,
    "run_me.py": b"raise SystemExit(1)",
}


@dataclass
class Hub:
    """What the server was asked for, and what it is to do."""

    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    stall_at: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("Range", "")))
            if self.path.startswith("/api/models/gated/") or self.path.startswith("/gated/"):
                return self.refuse(403, "GatedRepo")
            if REPOSITORY not in self.path:
                return self.refuse(404, "RepoNotFound")
            if match := re.fullmatch(rf"/api/models/{REPOSITORY}/revision/(.+)", self.path):
                if match[1] not in ("main", COMMIT):
                    return self.refuse(404, "RevisionNotFound")
                siblings = [{"rfilename": name} for name in FILES]
                content = json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings, "private": False}).encode()
                return self.send(200, content, {"Content-Type": "application/json"}, body=body)
            name = self.path.rsplit("/", 1)[1]
            content, status = FILES[name], 200
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start = int(wanted[1])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                content, status = content[start:], 206
            return self.send(status, content, headers, body=body)

        def refuse(self, status: int, code: str) -> None:
            self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, body=self.command == "GET")

        def send(self, status: int, content: bytes, headers: Mapping[str, str], *, body: bool) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not body:
                return
            if hub.stall_at is not None and len(content) > hub.stall_at:
                self.wfile.write(content[: hub.stall_at])
                self.wfile.flush()
                hub.stalled.set()
                hub.release.wait(60)
                self.close_connection = True
                return
            self.wfile.write(content)

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield hub
    hub.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


FETCH = """
import json, sys
from mirage_models.hub import fetch
from mirage_models.tasks import BuildError
options = json.loads(sys.argv[1])
try:
    found = fetch(**options)
except BuildError as error:
    print(json.dumps({"error": str(error), "code": error.code}))
else:
    print(json.dumps({"folder": str(found.folder), "origin": found.origin}))
"""


def environment(hub: Hub, home: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(home)}


def run(hub: Hub, home: Path, **options: object) -> dict[str, str]:
    given = {"repository": REPOSITORY, "revision": "main", "files": ["*.json", "*.safetensors"], **options}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, json.dumps(given)],
        env=environment(hub, home),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def test_the_files_of_a_revision_are_fetched_and_its_commit_is_known(hub: Hub, tmp_path: Path) -> None:
    found = run(hub, tmp_path)
    folder = Path(found["folder"])
    assert found["origin"] == f"{REPOSITORY}@{COMMIT}"
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}  # and no code
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert all("telemetry" not in path for _, path, _ in hub.asked)


def test_what_was_fetched_is_there_offline_and_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    first = run(hub, tmp_path)
    hub.asked.clear()
    assert run(hub, tmp_path, offline=True) == first
    assert hub.asked == []


def test_a_download_that_was_killed_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.stall_at = 16_000_000  # beyond the 10 MiB in which the library writes
    given = {"repository": REPOSITORY, "revision": "main", "files": ["*.safetensors"]}
    with subprocess.Popen(
        [sys.executable, "-c", FETCH, json.dumps(given)],
        env=environment(hub, tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert hub.stalled.wait(60)
        partial = wait_for_partial(tmp_path)
        process.kill()
    hub.release.set()
    assert partial > 0
    hub.stall_at = None
    hub.asked.clear()
    found = run(hub, tmp_path, files=["*.safetensors"])
    assert (Path(found["folder"]) / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [wanted for method, path, wanted in hub.asked if method == "GET" and path.endswith("model.safetensors")]
    assert ranges
    assert all(int(wanted.removeprefix("bytes=").removesuffix("-")) > 0 for wanted in ranges)


def wait_for_partial(home: Path) -> int:
    """Bytes of the file that is being fetched, once there are some."""
    deadline = threading.Event()
    for _ in range(600):
        sizes = [path.stat().st_size for path in home.rglob("*.incomplete")]
        if any(sizes):
            return max(sizes)
        deadline.wait(0.05)
    return 0


def test_offline_without_the_files_is_a_clear_error(hub: Hub, tmp_path: Path) -> None:
    answer = run(hub, tmp_path, offline=True)
    assert answer["code"] == "HUB_FAILED"
    assert "not in the cache, and --offline forbids" in answer["error"]
    assert hub.asked == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"repository": "someone/else"}, "is not on the hub, or is private"),
        ({"revision": "v9"}, "someone/model has no revision v9"),
        ({"repository": "gated/model"}, "asks for its terms to be accepted"),
        ({"files": ["*.gguf"]}, "has none of the files"),
    ],
)
def test_what_the_hub_refuses_is_a_clear_error(hub: Hub, tmp_path: Path, options: dict[str, object], said: str) -> None:
    answer = run(hub, tmp_path, **options)
    assert answer["code"] == "HUB_FAILED"
    assert said in answer["error"]


def test_a_hub_that_does_not_answer_is_a_clear_error(tmp_path: Path) -> None:
    answer = run(Hub(url="http://127.0.0.1:9"), tmp_path)
    assert answer["code"] == "HUB_FAILED"
    assert "does not answer" in answer["error"]


@pytest.mark.parametrize(
    "text", ["../etc/passwd", "a/b/c", "name", "/a", "a/", "a/..", "a b/c", "https://x/y", "a--b/c"]
)
def test_what_is_no_repository_is_not_asked_for(text: str) -> None:
    assert not is_hub_id(text)
    with pytest.raises(HubError, match="no repository's id"):
        fetch(text, revision="main", files=["*"])


@pytest.mark.parametrize("revision", ["../main", "", "a b", "-x"])
def test_what_is_no_revision_is_not_asked_for(revision: str) -> None:
    with pytest.raises(HubError, match="no revision"):
        fetch(REPOSITORY, revision=revision, files=["*"])
