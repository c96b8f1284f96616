"""A real retriever with a real encoder (the mini CLIP), each a process of its own, for the tests that ask over gRPC."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from PIL import Image

from mirage_core.channels import open_channel
from mirage_core.imaging import encode_png
from mirage_models.paths import mini_clip_bundle
from mirage_protos.retriever.v1 import retriever_pb2_grpc
from tests.support.waiting import wait_until_serving

START_S = 60.0
Stub: TypeAlias = "retriever_pb2_grpc.RetrieverServiceAsyncStub"  # exists for type checkers only


def start(module: str, folder: Path, **settings: object) -> tuple[str, subprocess.Popen[bytes]]:
    """Starts a service on a unix socket; settings are variables of the service without their prefix."""
    address = f"unix:{folder}/{module}.sock"
    prefix = f"{module.upper()}_"
    environment = {**os.environ, f"{prefix}HOST": address}
    environment |= {f"{prefix}{name.upper()}": str(value) for name, value in settings.items()}
    with (folder / f"{module}.log").open("wb") as log:
        return address, subprocess.Popen([sys.executable, "-m", module], env=environment, stderr=log)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("encoder")
    bundle = os.environ.get("MIRAGE_TEST_BUNDLE") or mini_clip_bundle()
    address, process = start("mirage_encoder", folder, bundle=bundle)
    wait_until_serving(address, process)
    yield address
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of `retriever`."""
    return tmp_path_factory.mktemp("retriever") / "data"


@pytest.fixture(scope="session")
def retriever(encoder: str, data: Path) -> Iterator[str]:
    queries = data.parent / "queries.txt"
    queries.write_text("".join(f"common query {number}\n" for number in range(20)))
    address, process = start("mirage_retriever", data.parent, encoder=encoder, data=data, common_queries=queries)
    wait_until_serving(address, process)
    yield address
    process.terminate()
    process.wait(30)


@pytest.fixture
async def stub(retriever: str) -> AsyncIterator[Stub]:
    async with open_channel(retriever, idempotent={}) as channel:
        yield retriever_pb2_grpc.RetrieverServiceStub(channel)


@pytest.fixture
def services() -> Iterator[Callable[..., str]]:
    """Starts services for one test and ends them after it; each call gives an address that serves."""
    with _started(wait=True) as serve:
        yield serve


@pytest.fixture
def starting() -> Iterator[Callable[..., str]]:
    """The same without waiting until they serve."""
    with _started(wait=False) as serve:
        yield serve


@contextmanager
def _started(*, wait: bool) -> Iterator[Callable[..., str]]:
    processes: list[subprocess.Popen[bytes]] = []

    def serve(module: str, folder: Path, **settings: object) -> str:
        address, process = start(module, folder, **settings)
        processes.append(process)
        if wait:
            wait_until_serving(address, process)
        return address

    yield serve
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)


@pytest.fixture
def png() -> bytes:
    return encode_png(Image.radial_gradient("L").convert("RGB"))
