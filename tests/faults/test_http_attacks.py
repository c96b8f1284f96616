"""A gateway is attacked over HTTP, without any key: it stays within the memory of its container and serves others.

With --full the attacks are larger, and a client does one text search a second meanwhile, from the attacker's address if that
still has places: the figures that are printed are those of docs/benchmarks.md, "Attacks".
"""

import base64
import io
import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from mirage_launcher import ports
from mirage_launcher.folders import Folders
from mirage_launcher.state import State

# As in deploy/docker-compose.yml.
MEMORY_MIB = 384
FILES = 512
PATIENCE_S = 60
ATTACKER, ANOTHER = "127.0.0.1", "127.0.0.2"
GATEWAY = (
    sys.executable,
    "-P",
    "-c",
    f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES})); "
    "from mirage_gateway.__main__ import main; main()",
)


@dataclass(frozen=True)
class Gateway:
    """A gateway of its own before the system's services."""

    port: int
    pid: int
    # How much of an attack: 1 unless in full.
    scale: int

    def connect(self) -> socket.socket:
        """Opens a connection, on which nothing takes long."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return connection

    def client(self, address: str = ATTACKER) -> httpx.Client:
        """A client with connections of its own, from an address of this machine."""
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S, transport=transport)

    @property
    def peak_mib(self) -> int:
        """The most memory that it has had so far."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) // 1024


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def gateway(system: Any, tmp_path: Path, full: bool) -> Iterator[Gateway]:
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    addresses = {each.name: each.address for each in state.services}
    port = ports.any_free()
    settings = {
        "HTTP_PORT": port,
        "PORT": ports.any_free(taken=frozenset({port})),
        "RETRIEVER": addresses["retriever"],
        "ENCODER": addresses["encoder"],
        "LLM": "",
        "GENERATOR": "",
        **({} if full else {"HEAD_TIMEOUT_S": 5, "PACE_WINDOW_S": 5}),
    }
    environment = {**os.environ, **{f"MIRAGE_GATEWAY_{name}": str(value) for name, value in settings.items()}}
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(GATEWAY, env=environment, stderr=log) as process:
        made = Gateway(port, process.pid, 8 if full else 1)
        try:
            wait_until_ready(made)
            yield made
        finally:
            process.terminate()


def wait_until_ready(gateway: Gateway) -> None:
    transport = httpx.HTTPTransport(retries=20)
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", timeout=PATIENCE_S, transport=transport) as client:
        for _ in range(1000):
            if client.get("/readyz").status_code == 200:
                return
    raise AssertionError("the gateway is not ready")


def post(body: bytes, path: str = "/v1/search") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def send(gateway: Gateway, data: bytes) -> bytes:
    """Sends as much as is taken; returns the first bytes of the answer."""
    with gateway.connect() as connection:
        with suppress(OSError):
            connection.sendall(data)
        try:
            return connection.recv(64)
        except OSError:
            return b""


def endless_heads(gateway: Gateway) -> None:
    begin, size = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n", 8 * 2**20 * gateway.scale
    floods = [
        begin + b"x: " + b"y" * size,
        b"GET /" + b"y" * size,
        begin + b"x: y\r\n" * (size // 6),
        post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked") + b"1;" + b"y" * size,
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda flood: send(gateway, flood), floods * 4))
    # A reset may overtake the answer.
    assert {answer[9:12] for answer in answers} <= {b"431", b""}


def unused_connections(gateway: Gateway) -> None:
    with ExitStack() as stack:
        for _ in range(2 * FILES * min(gateway.scale, 3)):
            with suppress(OSError):
                stack.enter_context(gateway.connect()).sendall(b"GET /")
        check_others(gateway)


def endless_lists(gateway: Gateway) -> None:
    size = min(8 * gateway.scale, 30) * 2**20
    bombs = [
        b'{"terms":[' + b"{}," * (size // 3) + b"{}]}",
        b'{"text":"a","where":{"plane":[' + b'"",' * (size // 3) + b'""]}}',
        b'{"terms":' + b"[" * size,
        b'{"terms":[' + b"{}," * 80_000 + b"{}]}",
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda bomb: send(gateway, post(bomb)), bombs * 4))
    assert {answer[9:12] for answer in answers} <= {b"413", b"422", b"429"}


def bodies_that_hardly_arrive(gateway: Gateway) -> None:
    with ExitStack() as stack:
        for size in [20 * 2**20] * 100 + [1000] * 100:
            head = post(b"").replace(b"content-length: 0", b"content-length: %d" % size)
            stack.enter_context(gateway.connect()).sendall(head + b'{"')
        check_others(gateway)


def large_images(gateway: Gateway) -> None:
    side = 1700 if gateway.scale == 1 else 2212
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(file, "PNG", compress_level=0)
    body = json.dumps({"image": base64.b64encode(file.getvalue()).decode(), "accept_any_image": True}).encode()
    # Each stops before its last byte, so that all are in memory at the same time, however fast one image is read.
    with ExitStack() as stack:
        connections = [stack.enter_context(gateway.connect()) for _ in range(12)]
        with ThreadPoolExecutor(len(connections)) as pool:
            list(pool.map(lambda connection: begin(connection, post(body)[:-1]), connections))
            answers = list(pool.map(lambda connection: end(connection, post(body)[-1:]), connections))
    statuses = Counter(answer[9:12] for answer in answers)
    # A reset may overtake a refusal.
    assert {b"200", b"429"} <= set(statuses) <= {b"200", b"429", b""}, statuses
    assert all(b"retry-after" in answer.lower() for answer in answers if answer[9:12] == b"429")


def begin(connection: socket.socket, data: bytes) -> None:
    """Sends as much as is taken."""
    with suppress(OSError):
        connection.sendall(data)


def end(connection: socket.socket, data: bytes) -> bytes:
    """Sends the rest of a request; returns the head of the answer."""
    begin(connection, data)
    answer = b""
    with suppress(OSError):
        while b"\r\n\r\n" not in answer and (part := connection.recv(4096)):
            answer += part
    return answer


def readers_that_take_nothing(gateway: Gateway) -> None:
    with gateway.client(ANOTHER) as client:
        ids = [each["id"] for each in client.get("/v1/records?limit=100").json()["records"]]
    with ExitStack() as stack:
        for index in range(150):
            path = f"/v1/images/{ids[index % len(ids)]}" if index % 2 else "/v1/records?limit=1000&vectors=true"
            with suppress(OSError):
                stack.enter_context(gateway.connect()).sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        # They take all places of their address.
        check_others(gateway, ANOTHER)


def search_every_second(gateway: Gateway, ended: threading.Event, address: str) -> tuple[list[float], Counter[int]]:
    """How long each search of a client took, in seconds, and how they were answered."""
    waits, statuses = [], Counter[int]()
    while not ended.wait(1.0):
        began = time.monotonic()
        with gateway.client(address) as client:
            statuses[client.post("/v1/search", json={"text": f"axial T1 brain {began}"}).status_code] += 1
        waits.append(time.monotonic() - began)
    return waits, statuses


def check_others(gateway: Gateway, address: str = ATTACKER) -> None:
    """Another client is served, also at the same address."""
    with gateway.client(address) as client:
        assert client.get("/healthz").status_code == 200
        # What is behind may be busy.
        assert client.get("/readyz").status_code in (200, 503)
        answer = client.post("/v1/search", json={"text": "axial T1 brain"})
        assert answer.status_code == 200, answer.text


def no_attack(gateway: Gateway) -> None:
    check_others(gateway)


@pytest.mark.parametrize(
    "attack",
    [
        no_attack,
        endless_heads,
        unused_connections,
        endless_lists,
        bodies_that_hardly_arrive,
        large_images,
        readers_that_take_nothing,
    ],
)
def test_an_attack_is_survived(gateway: Gateway, attack: Callable[[Gateway], None], full: bool) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8 * FILES:
        pytest.skip("this test needs more open files than are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8 * FILES), hard))
    if full:
        measure(gateway, attack)
    else:
        attack(gateway)
    check_others(gateway)
    assert gateway.peak_mib < MEMORY_MIB


def measure(gateway: Gateway, attack: Callable[[Gateway], None]) -> None:
    before, ended = gateway.peak_mib, threading.Event()
    with ThreadPoolExecutor(1) as pool:
        address = ANOTHER if attack is readers_that_take_nothing else ATTACKER
        searching = pool.submit(search_every_second, gateway, ended, address)
        until = time.monotonic() + 20
        try:
            while time.monotonic() < until:
                attack(gateway)
        finally:
            ended.set()
        waits, statuses = searching.result()
    load = os.getloadavg()[0]
    print(
        f"\n{attack.__name__}: {before} MiB before, {gateway.peak_mib} MiB at most; {len(waits)} searches {dict(statuses)}, "
        f"longest {max(waits):.2f} s; load {load:.1f}"
    )
