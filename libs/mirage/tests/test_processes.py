"""A client in more than one process, and the proxies of its environment: over real connections."""

import asyncio
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mirage import calls
from mirage.client import AsyncClient, Client
from mirage.errors import ClientError, UnreachableError
from mirage.transport import Transport, is_near
from mirage_api.jobs import Job

RECORD = {
    "caption": "c",
    "labels": {},
    "case_id": "",
    "source": "s",
    "attribution": "",
    "licence": "CC0-1.0",
    "image_url": "/v1/images/x",
    "thumbnail_url": "/v1/images/x/thumbnail",
    "image_sha256": "ab" * 32,
    "image_type": "image/png",
    "width": 1,
    "height": 1,
    "original_labels": {},
    "flags": 0,
}
JOB = {"id": "a", "state": "RUNNING", "request": {"prompt": "p"}}
EVENT = f"event: progress\ndata: {json.dumps(JOB)}\n\n".encode()
FORK = multiprocessing.get_context("fork")
WORKERS, CALLS = 8, 40


class Server(ThreadingHTTPServer):
    """Notes what it was asked, and from which address."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, Any]] = []


class Answering(BaseHTTPRequestHandler):
    """Answers with the record that was asked for, over connections that are kept."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/events" in self.path:
            self._send(EVENT * 3, "text/event-stream")
        else:
            self._send(json.dumps({"id": self.path.rpartition("/")[2], **RECORD}).encode(), "application/json")

    def _send(self, body: bytes, media_type: str) -> None:
        self.server.asked.append((self.path, self.client_address))
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join(10)


def address(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def work(client: Client, number: int, barrier: Any, results: Any) -> None:
    wrong, broken = [], 0
    barrier.wait()
    for each in range(CALLS):
        wanted = f"record-{number}-{each}"
        try:
            got = client.record(wanted).id
            wrong += [(wanted, got)] if got != wanted else []
        except ClientError:
            broken += 1
    results.put((wrong, broken))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_processes_get_their_own_answers(server: Any) -> None:
    with Client(address(server), timeout_s=60) as client:
        assert client.record("parent").id == "parent"
        barrier, results = FORK.Barrier(WORKERS), FORK.Queue()
        workers = [FORK.Process(target=work, args=(client, n, barrier, results)) for n in range(WORKERS)]
        for each in workers:
            each.start()
        outcomes = [results.get(timeout=120) for _ in workers]
        for each in workers:
            each.join(60)
        assert outcomes == [([], 0)] * WORKERS
        assert client.record("parent").id == "parent"
    parents = {port for path, port in server.asked if path.endswith("/parent")}
    workers_ports = {port for path, port in server.asked if "/record-" in path}
    assert workers_ports
    assert not parents & workers_ports


def close_inherited(client: Client, results: Any) -> None:
    client.close()
    results.put("closed")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_that_closes_leaves_the_parents_connections_open(server: Any) -> None:
    with Client(address(server), timeout_s=60) as client:
        client.record("parent")
        results = FORK.Queue()
        worker = FORK.Process(target=close_inherited, args=(client, results))
        worker.start()
        assert results.get(timeout=60) == "closed"
        worker.join(60)
        assert client.record("parent").id == "parent"
    assert len({port for _, port in server.asked}) == 1


def go_on(events: Any, results: Any) -> None:
    try:
        results.put(next(events))
    except ClientError as error:
        results.put(error.code)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_stream_belongs_to_the_process_that_began_it(server: Any) -> None:
    transport = Transport(address(server), api_key=None, timeout_s=60, inner=None)
    events = transport.events(calls.watch_job("a"))
    assert isinstance(next(events), Job)
    results = FORK.Queue()
    worker = FORK.Process(target=go_on, args=(events, results))
    worker.start()
    assert results.get(timeout=60) == "INPUT_INVALID"
    worker.join(60)
    assert isinstance(next(events), Job)
    events.close()
    transport.close()


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://localhost:8080", True),
        ("http://127.0.0.1:8080", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8080", True),
        ("http://atlas.localhost", True),
        ("http://gateway:8080", True),
        ("http://atlas.example", False),
        ("http://192.0.2.7:8080", False),
        ("http://[2001:db8::7]", False),
    ],
)
def test_no_proxy_is_asked_for_what_is_near(url: str, near: bool) -> None:
    assert is_near(url) is near


PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture
def proxied(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An environment whose HTTP proxy is the server."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", address(server))
    return server


def test_a_server_of_this_machine_is_asked_itself(proxied: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Client(address(server), timeout_s=60) as client:
        assert client.record("a").id == "a"


def test_another_one_is_asked_through_the_proxy_unless_it_is_excepted(
    proxied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client("http://atlas.example", timeout_s=60) as client:
        assert client.record("a").id == "a"
    assert proxied.asked[0][0] == "http://atlas.example/v1/records/a"
    monkeypatch.setenv("no_proxy", "atlas.invalid")
    with Client("http://atlas.invalid", timeout_s=60) as client, pytest.raises(UnreachableError):
        client.record("b")
    assert len(proxied.asked) == 1


def test_a_proxy_that_cannot_be_used_is_named(proxied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "nonsense://127.0.0.1:1")
    with pytest.raises(UnreachableError, match="proxy"):
        Client("http://atlas.example")
    assert os.environ["http_proxy"]


def ask_asynchronously(client: AsyncClient, results: Any) -> None:
    async def ask() -> list[str]:
        found = [(await client.record(f"child-{n}")).id for n in range(3)]
        await client.close()
        return found

    results.put(asyncio.run(ask()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_an_asynchronous_client_opens_its_own_connections_after_a_fork(server: Any) -> None:
    async with AsyncClient(address(server), timeout_s=60) as client:
        assert (await client.record("parent")).id == "parent"
        results = FORK.Queue()
        # From a thread: a process that is forked within a running loop cannot start one of its own.
        worker = FORK.Process(target=ask_asynchronously, args=(client, results))
        await asyncio.to_thread(worker.start)
        assert await asyncio.to_thread(results.get, timeout=60) == ["child-0", "child-1", "child-2"]
        await asyncio.to_thread(worker.join, 60)
        assert (await client.record("parent")).id == "parent"
    parents = {port for path, port in server.asked if path.endswith("/parent")}
    children = {port for path, port in server.asked if "/child-" in path}
    assert children
    assert not parents & children
