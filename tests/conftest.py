"""A whole MIRAGE for the tests that need one: real processes, the mini model, a part of the demonstration atlas."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from mirage.client import Client
from mirage.indexing import Indexer
from mirage_atlas.readers import open_reader
from mirage_launcher import operations, ports
from mirage_launcher.folders import Folders
from mirage_launcher.state import State
from mirage_protos.generator.v1 import generator_pb2, generator_pb2_grpc
from mirage_protos.llm.v1 import llm_pb2, llm_pb2_grpc
from tests.support.paths import ROOT
from tests.support.waiting import until

# The bundle that the tests run with: "mini", or another directory of models.
MODELS = os.environ.get("MIRAGE_TEST_MODELS", "mini")
# Every so many of the renderings, so that all planes, contrasts and lesions are among them.
EVERY = 8


# The `mirage` command, which heeds Ctrl-C: a shell that runs the tests in the background has all that they start ignore it.
# No preexec_fn, because code between fork and exec runs into what gRPC does there in this process.
COMMAND_LINE = (
    sys.executable,
    "-P",
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from mirage.cli.entry import main; main()",
)


@dataclass(frozen=True)
class System:
    """Where it is reached, its data directory, and the command line."""

    http_url: str
    grpc_address: str
    data: Path
    command_line: tuple[str, ...] = COMMAND_LINE


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
            # Before it was measured no match is judged.
            until(lambda: client.collection().calibration)
        assert tally.stored == tally.seen > 100, tally
        yield System(f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", data)
    finally:
        operations.down(data)


# These play the language model and the generator: real gRPC, processes of their own, and outcomes that a test can foretell.
STAND_INS = ROOT / "tests" / "support"
STAND_IN = STAND_INS / "scripted_llm.py"


@dataclass
class Explaining:
    """A gateway of its own before the system's retriever and encoder, and what plays its language model and generator."""

    http_url: str
    grpc_address: str
    llm_port: int
    generator_port: int
    environment: dict[str, str] = field(repr=False)
    command_line: tuple[str, ...] = COMMAND_LINE
    llm: "subprocess.Popen[bytes] | None" = None
    generator: "subprocess.Popen[bytes] | None" = None

    def start_llm(self, *, token_ms: int = 5) -> None:
        """Starts the language model, where it is not up; returns once the gateway sees it."""
        if self.llm is None:
            command = [sys.executable, "-P", str(STAND_IN), str(self.llm_port), str(token_ms)]
            self.llm = subprocess.Popen(command, env=self.environment)
        self._wait("llm", "serving")

    def start_generator(self, *, step_ms: int = 5) -> None:
        """Starts the generator, or has it forget all jobs where it is up. Returns once the gateway sees it."""
        if self.generator is not None:
            request = generator_pb2.CreateJobRequest(request_id="reset")
            request.spec.prompt = str(step_ms)
            with grpc.insecure_channel(f"127.0.0.1:{self.generator_port}") as channel:
                generator_pb2_grpc.GeneratorServiceStub(channel).CreateJob(request, timeout=10)
        else:
            command = [
                sys.executable,
                "-P",
                str(STAND_INS / "scripted_generator.py"),
                str(self.generator_port),
                str(step_ms),
            ]
            self.generator = subprocess.Popen(command, env=self.environment)
        self._wait("generator", "serving")

    def kill_generator(self) -> None:
        """Ends it as a crash would."""
        if self.generator is not None:
            self.generator.kill()
            self.generator.wait()
            self.generator = None

    def kill_llm(self) -> None:
        """Ends it as a crash would."""
        if self.llm is not None:
            self.llm.kill()
            self.llm.wait()
            self.llm = None

    def counts(self) -> dict[str, Any]:
        """Tokens written so far and descriptions running, as the stand-in tells."""
        with grpc.insecure_channel(f"127.0.0.1:{self.llm_port}") as channel:
            reply = llm_pb2_grpc.LlmServiceStub(channel).GetModel(llm_pb2.GetModelRequest(), timeout=5)
        counted: dict[str, Any] = json.loads(reply.model.manifest_json)
        return counted

    def watches(self) -> int:
        """How many watches of jobs the generator holds, as the stand-in tells."""
        with grpc.insecure_channel(f"127.0.0.1:{self.generator_port}") as channel:
            stub = generator_pb2_grpc.GeneratorServiceStub(channel)
            reply = stub.GetModel(generator_pb2.GetModelRequest(), timeout=5)
        return int(json.loads(reply.model.manifest_json)["watching"])

    def _wait(self, name: str, state: str) -> None:
        give_up = time.monotonic() + 60
        with httpx.Client(base_url=self.http_url, timeout=10) as client:
            while time.monotonic() < give_up:
                try:
                    if client.get("/readyz").json()["dependencies"][name] == state:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
        raise AssertionError(f"the {name} is not {state}")


@pytest.fixture(scope="session")
def explaining_system(system: System) -> Iterator[Explaining]:
    """The processes. Tests take `explaining`, which mends what the test before broke."""
    state = State.read(Folders.at(system.data).state)
    assert state is not None
    addresses = {each.name: each.address for each in state.services}
    http_port, grpc_port = free_ports()
    llm_port = ports.any_free(taken=frozenset({http_port, grpc_port}))
    generator_port = ports.any_free(taken=frozenset({http_port, grpc_port, llm_port}))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")},
        "MIRAGE_GATEWAY_HOST": "127.0.0.1",
        "MIRAGE_GATEWAY_HTTP_PORT": str(http_port),
        "MIRAGE_GATEWAY_PORT": str(grpc_port),
        "MIRAGE_GATEWAY_ENCODER": addresses["encoder"],
        "MIRAGE_GATEWAY_RETRIEVER": addresses["retriever"],
        "MIRAGE_GATEWAY_LLM": f"127.0.0.1:{llm_port}",
        "MIRAGE_GATEWAY_GENERATOR": f"127.0.0.1:{generator_port}",
        "MIRAGE_GATEWAY_READER": addresses["reader"],
    }
    gateway = subprocess.Popen(
        [sys.executable, "-P", "-m", "mirage_gateway"], env=environment, stdout=subprocess.DEVNULL
    )
    made = Explaining(f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}", llm_port, generator_port, environment)
    try:
        made.start_llm()
        yield made
    finally:
        made.kill_llm()
        made.kill_generator()
        gateway.terminate()
        gateway.wait()


@pytest.fixture
def explaining(explaining_system: Explaining) -> Explaining:
    """A system that explains, with its language model up and writing a word each 5 ms."""
    explaining_system.start_llm()
    return explaining_system


@pytest.fixture
def generating(explaining_system: Explaining) -> Explaining:
    """The same with its generator up, on steps of 5 ms and without any job."""
    explaining_system.start_generator()
    return explaining_system
