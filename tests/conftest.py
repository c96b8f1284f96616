"""A whole MIRAGE for the tests that need one: real processes, the mini model, a part of the demonstration atlas."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from mirage.client import Client
from mirage.indexing import Indexer
from mirage_atlas.readers import open_reader
from mirage_launcher import operations, ports

# The bundle that the tests run with: "mini", or another directory of models.
MODELS = os.environ.get("MIRAGE_TEST_MODELS", "mini")
# Every so many of the renderings, so that all planes, contrasts and lesions are among them.
EVERY = 8


@dataclass(frozen=True)
class System:
    """Where it is reached, and its data directory."""

    http_url: str
    grpc_address: str
    data: Path


def free_ports() -> tuple[int, int]:
    """Two ports, for HTTP and gRPC."""
    first = ports.any_free()
    return first, ports.any_free(taken=frozenset({first}))


@pytest.fixture(scope="session")
def models() -> str:
    """What `mirage up --models` is given."""
    return MODELS


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """All services, started as `mirage up` starts them, with about 160 records. Tests leave the records as they found them."""
    data = tmp_path_factory.mktemp("mirage")
    port, grpc_port = free_ports()
    start = [sys.executable, "-m", "mirage.cli", "up", "--detach", "--no-demo", "--data", str(data), "--models", MODELS]
    try:
        subprocess.run([*start, "--port", str(port), "--grpc-port", str(grpc_port)], check=True, timeout=300)
        with Client(f"http://127.0.0.1:{port}", timeout_s=120) as client:
            tally = Indexer(client).run(islice(open_reader("demo").read(), 0, None, EVERY))
        assert tally.stored == tally.seen > 100, tally
        yield System(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", data)
    finally:
        operations.down(data)
