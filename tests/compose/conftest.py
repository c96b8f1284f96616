"""A whole MIRAGE in containers, for `make compose-test`, which sets MIRAGE_COMPOSE_TEST; otherwise only the files are looked at.

MIRAGE_COMPOSE_KEEP=1 leaves the containers up, and the next run takes them as they are. MIRAGE_COMPOSE_ENGINE is `qdrant`
or `embedded`; where it is not set, Qdrant's server runs where its image can be had. MIRAGE_COMPOSE_FULL=1 tries `full` too,
whose builder is an image of gigabytes. Figures go to reports/compose.json.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from mirage.client import Client
from mirage_launcher import ports

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Building takes minutes where nothing is cached, and the demonstration atlas is encoded on whatever machine this is.
START_S = 1_800.0
HEAL_S = 300.0
ONE_SHOTS = {"keys", "demo", "index", "models-encoder", "models-llm", "models-generator"}

if not os.environ.get("MIRAGE_COMPOSE_TEST"):
    collect_ignore = [
        "test_profiles.py",
        "test_images.py",
        "test_system.py",
        "test_faults.py",
        "test_full_disk.py",
        "test_backup.py",
        "test_scaling.py",
        "test_metrics.py",
        "test_full.py",
    ]
elif not os.environ.get("MIRAGE_COMPOSE_FULL"):
    collect_ignore = ["test_full.py"]


def docker(*arguments: str, timeout_s: float = 600.0, check: bool = True) -> str:
    """The standard output of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def wait(condition: Callable[[], Any], what: str, *, within_s: float = HEAL_S) -> Any:
    """What the condition gives once that is true."""
    give_up = time.monotonic() + within_s
    while True:
        if found := condition():
            return found
        assert time.monotonic() < give_up, f"{what}: not within {within_s:.0f} s"
        time.sleep(0.1)


@dataclass
class Stack:
    """The containers of one compose project, and where they are reached."""

    project: str
    files: tuple[Path, ...]
    environment: dict[str, str] = field(repr=False)
    http_port: int
    grpc_port: int
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def compose(self, *arguments: str, timeout_s: float = 600.0) -> str:
        """The standard output of a compose command of this project."""
        chosen = [part for file in self.files for part in ("-f", str(file))]
        command = ["docker", "compose", "-p", self.project, "--project-directory", str(DEPLOY), *chosen, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=self.environment)
        assert done.returncode == 0, f"compose {' '.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def services(self) -> tuple[str, ...]:
        """Those that run all the time."""
        found = self.compose("config", "--services").split()
        return tuple(sorted(set(found) - ONE_SHOTS))

    def container(self, service: str, index: int = 1) -> dict[str, Any]:
        """What the engine knows of a service's container, the oldest first: their own numbers change as they are replaced."""
        ids = docker(
            *("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
        ).split()
        assert len(ids) >= index, f"{len(ids)} containers of {service}"
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids))
        return sorted(found, key=lambda each: int(each["Config"]["Labels"]["com.docker.compose.container-number"]))[
            index - 1
        ]

    def healthy(self, service: str, index: int = 1) -> bool:
        state = self.container(service, index)["State"]
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    def ready(self) -> bool:
        """Everything serves, the optional parts too."""
        try:
            reply = httpx.get(f"{self.url}/readyz", timeout=5)
        except httpx.HTTPError:
            return False
        return reply.status_code == 200 and set(reply.json().get("dependencies", {}).values()) == {"serving"}

    def settled(self) -> bool:
        return all(map(self.healthy, self.services())) and self.ready()

    def kill(self, service: str) -> str:
        """SIGKILL from the host, as the kernel would; gives the start time of the container that died."""
        state = self.container(service)["State"]
        os.kill(state["Pid"], signal.SIGKILL)
        return str(state["StartedAt"])

    def restarted(self, service: str, since: str) -> bool:
        """True once the engine has started it anew, by the restart policy."""
        state = self.container(service)["State"]
        return bool(state["Running"] and state["StartedAt"] != since)

    def client(self, *, timeout_s: float = 60.0) -> Client:
        return Client(self.url, timeout_s=timeout_s)


def vectors_engine() -> str:
    """`qdrant` where the server's image is at hand or can be fetched, else `embedded`."""
    if chosen := os.environ.get("MIRAGE_COMPOSE_ENGINE"):
        return chosen
    text = (DEPLOY / "docker-compose.yml").read_text()
    image = text.partition("MIRAGE_QDRANT_IMAGE:-")[2].partition("}")[0]
    there = subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0
    return (
        "qdrant"
        if there or subprocess.run(["docker", "pull", "-q", image], capture_output=True).returncode == 0
        else "embedded"
    )


def stand_ins(folder: Path) -> Path:
    """An override for what may be different here: an image in the place of Redis' with another owner of its data."""
    owner = docker("run", "--rm", "--entrypoint", "stat", "redis:7-bookworm", "-c", "%u:%g", "/data")
    path = folder / "stand-ins.yml"
    path.write_text(f'services:\n  redis:\n    user: "{owner}"\n')
    return path


@pytest.fixture(scope="session")
def engine() -> str:
    """The version of the engine at hand."""
    if shutil.which("docker") is None:
        pytest.fail("docker is not installed")
    return docker("version", "--format", "{{.Server.Version}}")


@pytest.fixture(scope="session")
def built(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The images, built as the README says."""
    folder = tmp_path_factory.mktemp("compose")
    keep = bool(os.environ.get("MIRAGE_COMPOSE_KEEP"))
    first = 28480 if keep else ports.any_free()
    second = 28481 if keep else ports.any_free(taken=frozenset({first}))
    kind = vectors_engine()
    override = [DEPLOY / "docker-compose.embedded.yml"] if kind == "embedded" else []
    stack = Stack(
        project="mirage-kept" if keep else f"mirage-test-{os.getpid()}",
        files=(
            DEPLOY / "docker-compose.yml",
            *override,
            DEPLOY / "docker-compose.grpc.yml",
            stand_ins(folder),
        ),
        environment={
            **{name: value for name, value in os.environ.items() if not name.startswith(("MIRAGE_", "COMPOSE_"))},
            "MIRAGE_HTTP_PORT": str(first),
            "MIRAGE_GRPC_PORT": str(second),
        },
        http_port=first,
        grpc_port=second,
    )
    stack.figures |= {"engine": engine, "vectors": kind}
    begun = time.monotonic()
    stack.compose("build", timeout_s=3_600)
    stack.figures["build_s"] = round(time.monotonic() - begun, 1)
    yield stack
    reports = ROOT / "reports"
    reports.mkdir(exist_ok=True)
    (reports / "compose.json").write_text(json.dumps(stack.figures, indent=1) + "\n")


@pytest.fixture(scope="session")
def stack(built: Stack) -> Iterator[Stack]:
    """Everything up, the demonstration atlas indexed."""
    try:
        begun = time.monotonic()
        built.compose("up", "-d", "--no-build", timeout_s=START_S)
        wait(built.settled, "everything serves", within_s=START_S)
        built.figures["first_start_s"] = round(time.monotonic() - begun, 1)
        wait(lambda: not built.container("demo")["State"]["Running"], "the demonstration atlas", within_s=START_S)
        built.figures["demo_atlas_s"] = round(time.monotonic() - begun, 1)
        yield built
    finally:
        if not os.environ.get("MIRAGE_COMPOSE_KEEP"):
            built.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")


@pytest.fixture
def calm(stack: Stack) -> Iterator[Stack]:
    """The stack, whole before and after the test."""
    wait(stack.settled, "the system before the fault")
    yield stack
    wait(stack.settled, "the system after the fault")
