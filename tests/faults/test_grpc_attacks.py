"""Servers are attacked over gRPC: each stays within the memory of its container and serves others.

With --full the attacks are larger, and the figures that are printed are those of docs/benchmarks.md, "Attacks".
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirage_launcher import ports
from mirage_launcher.folders import Folders
from mirage_launcher.state import State
from tests.support.raw_http2 import RawConnection

SEARCHER = Path(__file__).parents[1] / "support" / "searcher.py"
KEY = "a-key-of-some-length"
# As in deploy/: of the gateway with its gRPC port, of the encoder, the retriever, the language model and the generator.
MEMORY_MIB = {"gateway": 512, "encoder": 1024, "retriever": 768, "llm": 1024, "generator": 320, "reader": 352}
LARGEST = 25 * 2**20 - 100
PATIENCE_S = 120
# Who searches meanwhile has another address.
ATTACKER = "127.0.0.2"
# A stream waits 10 s for room before it is refused.
REFUSED_S = 30
RUBBISH = b"\x0a\xff\xff\xff\xff\x0f rubbish"


@dataclass(frozen=True)
class Target:
    """A server under attack."""

    name: str
    port: int
    pid: int

    @property
    def peak_mib(self) -> int:
        """The most memory that it has had so far."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) // 1024


@pytest.fixture(params=["with keys", "without keys"])
def gateway(system: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """A gateway of its own before the system's services, with or without keys."""
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    addresses = {each.name: each.address for each in state.services}
    http_port = ports.any_free()
    port = ports.any_free(taken=frozenset({http_port}))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")},
        "MIRAGE_GATEWAY_HTTP_PORT": str(http_port),
        "MIRAGE_GATEWAY_PORT": str(port),
        **{f"MIRAGE_GATEWAY_{name.upper()}": addresses.get(name, "") for name in MEMORY_MIB if name != "gateway"},
        "MIRAGE_API_KEYS": f"teacher:{KEY}" if request.param == "with keys" else "",
    }
    log = tmp_path / "gateway.log"
    with log.open("wb") as lines:
        process = subprocess.Popen([sys.executable, "-P", "-m", "mirage_gateway"], env=environment, stderr=lines)
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{http_port}/readyz", timeout=10).status_code == 200:
                break
        except httpx.HTTPError:
            assert time.monotonic() < give_up
        time.sleep(0.05)
    yield Target("gateway", port, process.pid)
    process.terminate()
    process.wait()


@pytest.fixture
def others(system: Any) -> list[Target]:
    """The services behind the gateway, which have no keys here."""
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    return [
        Target(each.name, int(each.address.rpartition(":")[2]), each.process.pid)
        for each in state.services
        if each.name in MEMORY_MIB and each.name != "gateway" and each.process
    ]


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> int:
    """How much of an attack: 1 unless in full."""
    return 5 if request.config.getoption("--full") else 1


@contextmanager
def searching(port: int) -> Iterator[list[float]]:
    """Searches once a second meanwhile, from another process; afterwards the list has the seconds that each search took."""
    took: list[float] = []
    command = [sys.executable, "-P", str(SEARCHER), str(port), KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        took.append(float(process.stdout.readline()))
        yield took
        said, _ = process.communicate(timeout=PATIENCE_S)
        took += map(float, said.split())
    assert process.returncode == 0


async def flood(connection: RawConnection, path: str, *, calls: int, mib: int) -> tuple[int, int]:
    """Sends messages that never end; returns the bytes that were taken, and how many calls were refused.

    A stream waits some seconds for room before it is refused, so this waits until nine of ten calls have ended.
    """
    began = [await connection.call(path.encode()) for _ in range(calls)]
    part = b"\x0a\x02\x0a\x00" * (mib * 2**18)
    taken = await asyncio.gather(*(connection.send(number, part, declared=LARGEST) for number, _ in began))
    endings = [asyncio.create_task(call.ended.wait()) for _, call in began]
    with suppress(TimeoutError):
        async with asyncio.timeout(REFUSED_S):
            for count, ending in enumerate(asyncio.as_completed(endings), start=1):
                await ending
                if count > 0.9 * calls:
                    break
    for ending in endings:
        ending.cancel()
    return sum(taken), sum(call.ended.is_set() for _, call in began)


def report(what: str, target: Target, took: list[float]) -> None:
    waited = f"a search waits at most {max(took):.2f} s" if took else "nobody searches"
    print(f"{what}: {target.name} has {target.peak_mib} MiB at the most, {waited}")


@pytest.mark.parametrize("method", ["Search", "GetRecord", "UpsertRecords", "Describe"])
async def test_messages_that_never_end_take_little(gateway: Target, method: str, scale: int) -> None:
    async with AsyncExitStack() as stack:
        took = stack.enter_context(searching(gateway.port))
        connections = [await RawConnection.open(gateway.port, ATTACKER) for _ in range(2 * scale)]
        for each in connections:
            stack.push_async_callback(each.close)
        path = f"/mirage.v1.MirageService/{method}"
        outcomes = await asyncio.gather(*(flood(each, path, calls=100, mib=24) for each in connections))
    assert sum(refused for _, refused in outcomes) > 180 * scale
    report(f"{200 * scale} calls of {method}, 24 MiB each", gateway, took)
    assert gateway.peak_mib < MEMORY_MIB["gateway"]


async def test_rubbish_is_refused_and_fills_no_log(gateway: Target, tmp_path: Path, scale: int) -> None:
    calls = 1000 * scale
    with searching(gateway.port) as took:
        connection = await RawConnection.open(gateway.port, ATTACKER)
        for _ in range(calls):
            number, call = await connection.call(b"/mirage.v1.MirageService/Search")
            await connection.send(number, RUBBISH, end=True)
            await asyncio.wait_for(call.ended.wait(), PATIENCE_S)
            assert call.status in (3, 16)
        await connection.close()
    written = (tmp_path / "gateway.log").read_text()
    report(f"{calls} messages that cannot be decoded, {len(written) // 1024} KiB of log", gateway, took)
    assert "Traceback" not in written
    assert len(written) < calls * 100


async def test_services_behind_it_are_bounded_as_well(others: list[Target], scale: int) -> None:
    assert {each.name for each in others} > {"encoder", "retriever"}
    methods = {
        "encoder": ("EncoderService/EncodeImage", "EncoderService/EncodeText", "EncoderService/EncodeImages"),
        "retriever": ("RetrieverService/Search", "RetrieverService/UpsertRecords"),
        "llm": ("LlmService/Describe",),
        "generator": ("GeneratorService/CreateJob",),
        "reader": ("ReaderService/Read",),
    }
    # 1.2 GiB: more than any of them may take.
    calls = 50 if scale == 1 else 100 * scale
    for target in others:
        for method in methods[target.name]:
            connection = await RawConnection.open(target.port)
            await flood(connection, f"/mirage.{target.name}.v1.{method}", calls=calls, mib=24)
            await connection.close()
        report(f"{calls} calls of {', '.join(methods[target.name])}, 24 MiB each", target, [])
        assert target.peak_mib < MEMORY_MIB[target.name], target
