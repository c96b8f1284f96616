"""What happens while a process that others need is frozen (SIGSTOP): it keeps its connections and answers nothing.

The gateway's deadlines are so long here that a call which ended was ended by what noticed the freeze, not by its deadline.
"""

import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from mirage.client import Client
from mirage.errors import ClientError
from mirage.uploads import Upload
from mirage_launcher.bundles import find_bundle
from tests.support.machine import Machine, clear, fill, make_machine
from tests.support.paths import TINY_GENERATOR, TINY_LLM
from tests.support.waiting import until

SCRIPTED_QDRANT = Path(__file__).parents[1] / "support" / "scripted_qdrant.py"
DEADLINES = ("SEARCH", "READ", "DESCRIBE", "COLLECTION", "UPSERT")
# The gateway's deadlines, and how long a test waits for one answer.
DEADLINE_S = 300
ANSWER_S = 120
AWAY = (503, "DEPENDENCY_UNAVAILABLE")
_number = itertools.count()


class Page:
    """The machine's HTTP, as a browser uses it. Each answer is its status and, for an error, its code."""

    def __init__(self, machine: Machine) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{machine.port}", timeout=ANSWER_S, trust_env=False)
        [self.record] = [each["id"] for each in self._client.get("/v1/records?limit=1").json()["records"]]

    def close(self) -> None:
        self._client.close()

    def search(self) -> tuple[int, str]:
        """By words that nobody has asked for yet: it needs the encoder and the vectors."""
        return self._told(self._client.post("/v1/search", json={"text": f"axial T1 brain MRI {next(_number)}"}))

    def search_by_id(self) -> tuple[int, str]:
        """Needs the vectors alone."""
        return self._told(self._client.post("/v1/search", json={"terms": [{"id": self.record}]}))

    def upload(self) -> str:
        """Stores a new record, whose image and caption the encoder looks at; "" or the code of the error."""
        number = next(_number)
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        record: dict[str, Any] = {
            "id": f"new-{number}",
            "caption": "A section.",
            "licence": "CC0-1.0",
            "source": "test",
        }
        try:
            with Client(str(self._client.base_url), timeout_s=ANSWER_S) as client:
                [outcome] = client.upsert([Upload(image=buffer.getvalue(), **record)])
        except ClientError as error:
            return error.code
        return "" if outcome.state == "created" else outcome.state

    def image(self) -> tuple[int, str]:
        return self._told(self._client.get(f"/v1/images/{self.record}"))

    def facets(self) -> tuple[int, str]:
        return self._told(self._client.get("/v1/facets"))

    def order(self) -> tuple[int, str]:
        job = {"prompt": "axial brain", "steps": 1, "width": 64, "height": 64}
        return self._told(self._client.post("/v1/jobs", json=job))

    def jobs(self) -> tuple[int, str]:
        return self._told(self._client.get("/v1/jobs"))

    def description(self) -> tuple[int, str]:
        """Whether the model wrote ("model"; what the tiny one writes is not shown), or captions alone, or "" for an error."""
        with self._client.stream("POST", "/v1/describe", json={"text": "axial T1 brain MRI", "k": 1}) as response:
            text = response.read().decode()
        source = "extractive" if '"source":"extractive"' in text else ""
        wrote = any(f'"finish":"{how}"' in text for how in ("stop", "length", "unsupported"))
        return response.status_code, "model" if wrote else source

    def health(self, part: str) -> tuple[int, str]:
        """The status of /readyz, and what it says of a part."""
        response = self._client.get("/readyz")
        return response.status_code, response.json()["dependencies"][part]

    @staticmethod
    def _told(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json().get("code", "") if response.is_error else ""


@contextmanager
def machine_at(folder: Path, *more: str) -> Iterator[Machine]:
    """A machine with all parts, that holds a few records and serves."""
    models = folder / "models"
    shutil.copytree(find_bundle("mini"), models / "clip")
    shutil.copytree(TINY_LLM, models / "lm")
    shutil.copytree(TINY_GENERATOR, models / "generator")
    machine = make_machine(folder / "data", str(models))
    with pytest.MonkeyPatch.context() as patch:
        for name in DEADLINES:
            patch.setenv(f"MIRAGE_GATEWAY_{name}_TIMEOUT_S", str(DEADLINE_S))
        try:
            assert machine.up("--no-demo", *more)[0] == 0
            fill(machine)
            until(lambda: machine.run("status")[0] == 0)
            yield machine
        finally:
            clear(machine)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine_at(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture
def page(machine: Machine) -> Iterator[Page]:
    page = Page(machine)
    until(lambda: page.search() == (200, "") and page.order() == (202, "") and page.description() == (200, "model"))
    yield page
    page.close()


@contextmanager
def frozen(pid: int | None) -> Iterator[None]:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        # One that was replaced meanwhile is gone.
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)


def log(machine: Machine, service: str) -> str:
    return machine.folders.log(service).read_text(errors="replace")


def test_a_frozen_encoder(machine: Machine, page: Page) -> None:
    with frozen(machine.pid("encoder")):
        assert page.search() == AWAY
        assert page.upload() == "DEPENDENCY_UNAVAILABLE"
        assert page.search_by_id() == (200, "")
        assert page.jobs() == (200, "")
        assert page.health("encoder") == (503, "unreachable")
    until(lambda: page.search() == (200, ""))
    until(lambda: page.health("encoder") == (200, "serving"))


def test_a_frozen_retriever(machine: Machine, page: Page) -> None:
    with frozen(machine.pid("retriever")):
        for call in (page.search, page.search_by_id, page.facets, page.image):
            assert call() == AWAY
        assert page.upload() == "DEPENDENCY_UNAVAILABLE"
        assert page.order() == (202, "")
        assert page.health("retriever") == (503, "unreachable")
    until(lambda: page.search() == (200, ""))


def test_a_frozen_language_model(machine: Machine, page: Page) -> None:
    with frozen(machine.pid("llm")):
        # Sentences of the captions answer instead.
        assert page.description() == (200, "extractive")
        assert page.search() == (200, "")
        assert page.health("llm") == (200, "unreachable")
    until(lambda: page.description() == (200, "model"))


def test_a_frozen_generator(machine: Machine, page: Page) -> None:
    with frozen(machine.pid("generator")):
        assert page.order() == page.jobs() == AWAY
        assert page.search() == (200, "")
        assert page.health("generator") == (200, "unreachable")
    until(lambda: page.order() == (202, ""))


def test_a_frozen_queue(machine: Machine, page: Page) -> None:
    with frozen(machine.pid("queue")):
        assert page.order() == page.jobs() == AWAY
        assert page.search() == (200, "")
        until(lambda: page.health("generator") == (200, "not serving"))
        status = machine.run("status")[1]
        assert status["records"] == 3
        assert {each["name"] for each in status["processes"] if each["health"] not in ("serving", "running")} == {
            *("queue", "generator", "worker")
        }
    until(lambda: page.order() == (202, ""))
    until(lambda: machine.run("status")[0] == 0)


def test_a_frozen_worker(machine: Machine, page: Page) -> None:
    def health_of(name: str) -> str:
        return next(str(each["health"]) for each in machine.run("status")[1]["processes"] if each["name"] == name)

    with frozen(machine.pid("worker")):
        # A job is accepted, and made when there is a worker again.
        assert page.order() == (202, "")
        until(lambda: health_of("worker") == "not serving")
        assert health_of("generator") == "serving"
    until(lambda: health_of("worker") == "serving")


def test_a_frozen_searcher(machine: Machine, page: Page) -> None:
    retriever = machine.pid("retriever")

    def searcher() -> int:
        [found] = [
            each.pid
            for each in psutil.Process(retriever).children(recursive=True)
            if "mirage_retriever.engines.edge.searcher" in each.cmdline()
        ]
        return found

    before = searcher()
    with frozen(before):
        # It is replaced, and the calls that waited are answered by the next one.
        assert page.search() == page.search_by_id() == page.facets() == (200, "")
        assert page.upload() == ""
        assert not psutil.pid_exists(before)
    assert machine.pid("retriever") == retriever
    assert searcher() != before
    assert "searcher hangs" in log(machine, "retriever")


@pytest.fixture(scope="module")
def qdrant() -> Iterator["subprocess.Popen[str]"]:
    """The scripted server as a process."""
    command = [sys.executable, "-W", "ignore", str(SCRIPTED_QDRANT), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def on_server(
    qdrant: "subprocess.Popen[str]", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Machine, str]]:
    """A machine that keeps its records on the scripted server; and its address."""
    assert qdrant.stdout is not None
    address = f"http://localhost:{int(qdrant.stdout.readline()) - 1}"
    with machine_at(tmp_path_factory.mktemp("on-server"), "--qdrant", address) as made:
        yield made, address


def test_a_frozen_qdrant(on_server: tuple[Machine, str], qdrant: "subprocess.Popen[str]") -> None:
    machine, address = on_server
    page = Page(machine)
    assert page.search() == (200, "")
    with frozen(qdrant.pid):
        for call in (page.search, page.search_by_id, page.facets):
            assert call() == AWAY
        assert page.upload() == "DEPENDENCY_UNAVAILABLE"
        assert page.order() == (202, "")
        until(lambda: page.health("retriever") == (503, "not serving"))
        assert any(address in remark for remark in machine.run("status")[1]["remarks"])
    until(lambda: page.search() == (200, ""))
    until(lambda: page.health("retriever") == (200, "serving"))
    assert "qdrant does not answer" in log(machine, "retriever")
    page.close()


def test_records_on_a_server_stay_when_the_machine_is_stopped(on_server: tuple[Machine, str]) -> None:
    machine, address = on_server
    machine.run("down")
    assert machine.up("--no-demo", "--qdrant", address)[0] == 0
    assert machine.run("status")[1]["records"] == 3
