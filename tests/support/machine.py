"""A MIRAGE on this machine with a data directory of its own, as `mirage up`, `down` and the other verbs see it."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mirage.client import Client
from mirage.errors import ClientError
from mirage.indexing import Indexer
from mirage_atlas.readers import open_reader
from mirage_launcher import ports, processes
from mirage_launcher.folders import Folders
from mirage_launcher.state import State

START_S = 400.0
RECORDS = 3


@dataclass
class Machine:
    """One data directory, and the command line on it."""

    data: Path
    port: int
    grpc_port: int
    models: str
    foreground: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def folders(self) -> Folders:
        return Folders.at(self.data)

    def command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "mirage.cli", verb, "--data", str(self.data), *arguments]

    def run(self, verb: str, *arguments: str) -> tuple[int, Any]:
        """Exit code and JSON of a verb."""
        done = subprocess.run(
            self.command(verb, "--json", *arguments), capture_output=True, text=True, timeout=START_S, check=False
        )
        return done.returncode, json.loads(done.stdout)

    @property
    def up_options(self) -> list[str]:
        return ["--models", self.models, "--port", str(self.port), "--grpc-port", str(self.grpc_port)]

    def up(self, *more: str) -> tuple[int, Any]:
        return self.run("up", "--detach", *self.up_options, *more)

    def up_here(self, *more: str) -> "subprocess.Popen[bytes]":
        """Starts `mirage up` in the foreground and does not wait for it."""
        child = subprocess.Popen(self.command("up", *self.up_options, *more), stdout=subprocess.DEVNULL)
        self.foreground.append(child)
        return child

    def state(self) -> State:
        state = State.read(self.folders.state)
        assert state is not None
        return state

    def pid(self, service: str) -> int | None:
        """The process of a service, None while it is down."""
        process = next(one.process for one in self.state().services if one.name == service)
        return process.pid if process else None

    def searches(self) -> bool:
        try:
            with Client(f"http://127.0.0.1:{self.port}", timeout_s=10) as client:
                return client.search("axial T1 brain MRI", k=1).query.tokens > 0
        except ClientError:
            return False

    def left(self) -> list[int]:
        """Processes of this data directory that still run."""
        return [process.pid for process in processes.marked(self.folders.root)]


def make_machine(data: Path, models: str) -> Machine:
    port = ports.any_free()
    return Machine(data, port, ports.any_free(taken=frozenset({port})), models)


def clear(machine: Machine) -> None:
    """Ends what a test has left, and checks that nothing of it stays."""
    for child in machine.foreground:
        child.terminate()
        child.wait(timeout=60)
    subprocess.run(machine.command("down"), check=True, timeout=120, stdout=subprocess.DEVNULL)
    assert machine.left() == []


def fill(machine: Machine) -> None:
    """Stores a few records."""
    with Client(f"http://127.0.0.1:{machine.port}", timeout_s=60) as client:
        assert Indexer(client).run(islice(open_reader("demo").read(), RECORDS)).created == RECORDS
