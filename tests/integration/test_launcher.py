"""`mirage up`, `down` and `status` with the real services: crashes, takeovers, refusals, an interrupted first start."""

import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mirage.client import Client
from mirage.errors import ApiError
from mirage_atlas.demo.sources import sources_of
from mirage_launcher.bundles import find_bundle
from mirage_launcher.demo import read_mark
from mirage_launcher.services import ENCODER_PORT
from tests.support.machine import RECORDS, Machine, clear, fill, make_machine
from tests.support.paths import TINY_GENERATOR, TINY_LLM
from tests.support.waiting import until


@pytest.fixture
def machine(tmp_path: Path, models: str) -> Iterator[Machine]:
    """A data directory of the test's own in which nothing runs yet."""
    made = make_machine(tmp_path / "data", models)
    yield made
    clear(made)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, models: str) -> Iterator[Machine]:
    """An empty atlas that is up, started while another program had the encoder's usual port."""
    made = make_machine(tmp_path_factory.mktemp("running"), models)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Where the port is taken already, that program is the other one.
        with suppress(OSError):
            other.bind(("127.0.0.1", ENCODER_PORT))
            other.listen()
        assert made.up("--no-demo")[0] == 0
    yield made
    clear(made)


def test_a_machine_is_started_asked_and_stopped(machine: Machine) -> None:
    code, started = machine.up("--no-demo")
    assert (code, started["phase"]) == (0, "ready")
    assert machine.searches()
    # Ready for searches; what explains and draws may come a moment later.
    until(lambda: machine.run("status")[1]["healthy"])
    code, status = machine.run("status")
    assert (code, status["healthy"], status["records"]) == (0, True, 0)
    assert machine.run("down") == (0, {"stopped": True})
    assert machine.left() == []
    code, status = machine.run("status")
    assert (code, status["phase"]) == (1, "down")
    assert machine.run("down") == (0, {"stopped": False})


def test_a_port_that_is_not_the_gateways_is_gone_around(running: Machine) -> None:
    assert running.searches()
    assert any(str(ENCODER_PORT) in remark for remark in running.state().remarks)
    assert all(one.address != f"127.0.0.1:{ENCODER_PORT}" for one in running.state().services)


@pytest.mark.parametrize("service", ["encoder", "retriever", "gateway"])
def test_a_service_that_is_killed_comes_back(running: Machine, service: str) -> None:
    until(running.searches)
    before = running.pid(service)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: running.pid(service) not in (None, before))
    until(running.searches)
    assert [one.restarts for one in running.state().services if one.name == service] == [1]


def test_what_stops_it_is_said_with_its_data_directory_and_a_proxy_changes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    command = machine.command("up", "--detach", "--no-demo", *machine.up_options)
    said = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True).stdout
    stop = shlex.join(["mirage", "down", "--data", str(machine.data)])
    assert f"`{stop}` stops it" in said
    until(lambda: machine.run("status")[1]["healthy"])


def test_what_a_killed_launcher_leaves_is_taken_over_by_the_next(machine: Machine) -> None:
    machine.up("--no-demo")
    fill(machine)
    before = machine.left()
    os.kill(machine.state().launcher.pid, signal.SIGKILL)
    until(lambda: machine.run("status")[1]["phase"] == "abandoned")
    assert psutil.pid_exists(before[0]), "the services outlive their launcher"
    code, started = machine.up("--no-demo")
    assert (code, started["phase"]) == (0, "ready")
    assert not set(before) & set(machine.left())
    assert machine.run("status")[1]["records"] == RECORDS


def test_down_stops_what_a_killed_launcher_leaves(machine: Machine) -> None:
    machine.up("--no-demo")
    os.kill(machine.state().launcher.pid, signal.SIGKILL)
    assert machine.run("down") == (0, {"stopped": True})
    assert machine.left() == []


def test_ctrl_c_during_the_start_leaves_nothing(machine: Machine) -> None:
    child = machine.up_here("--no-demo")
    until(lambda: machine.folders.state.exists() and bool(machine.left()))
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 0
    assert machine.left() == []


@pytest.mark.parametrize(("option", "given"), [("--port", "port"), ("--grpc-port", "grpc_port")])
def test_a_taken_port_is_said_with_the_option_that_changes_it(machine: Machine, option: str, given: str) -> None:
    with socket.create_server(("127.0.0.1", getattr(machine, given))):
        code, problem = machine.up()
    assert (code, problem["code"]) == (1, "PORT_TAKEN")
    assert option in problem["detail"]
    assert machine.left() == []


def test_a_broken_bundle_is_told_with_the_encoders_own_words(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "manifest.json").write_text("{}")
    machine.models = str(tmp_path / "models")
    code, problem = machine.up("--no-demo")
    assert (code, problem["code"]) == (1, "LAUNCH_FAILED")
    assert "the encoder ended" in problem["detail"]
    assert "BUNDLE_INVALID" in problem["detail"]
    assert machine.left() == []


def test_directories_that_cannot_be_used_are_refused(machine: Machine, tmp_path: Path) -> None:
    machine.models = str(tmp_path / "nowhere")
    code, problem = machine.up()
    assert (code, problem["code"]) == (1, "LAUNCH_FAILED")
    (tmp_path / "empty").mkdir()
    machine.models = str(tmp_path / "empty")
    assert "no bundle" in machine.up()[1]["detail"]


def test_a_language_model_among_the_models_runs_too(machine: Machine, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(find_bundle(machine.models), models / "clip")
    shutil.copytree(TINY_LLM, models / "lm")
    machine.models = str(models)
    assert machine.up("--no-demo")[0] == 0
    assert [one.name for one in machine.state().services] == ["encoder", "retriever", "reader", "llm", "gateway"]
    fill(machine)

    def described() -> bool:
        with Client(f"http://127.0.0.1:{machine.port}", timeout_s=60) as client:
            done = client.description("axial T1 brain MRI", k=1)
        # What the tiny model writes holds nowhere; it has written all the same.
        return done.finish in ("stop", "length", "unsupported")

    # The system is ready without the language model, which may come a moment later.
    until(described)
    shutil.copytree(TINY_LLM, models / "another")
    machine.run("down")
    assert "several bundles that describe" in machine.up()[1]["detail"]


def test_a_generator_among_the_models_runs_with_its_queue_and_keeps_its_jobs(machine: Machine, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(find_bundle(machine.models), models / "clip")
    shutil.copytree(TINY_GENERATOR, models / "generator")
    machine.models = str(models)
    assert machine.up("--no-demo")[0] == 0
    assert [one.name for one in machine.state().services] == [
        *("encoder", "retriever", "reader", "queue", "generator", "worker", "gateway")
    ]

    def made() -> bool:
        with Client(f"http://127.0.0.1:{machine.port}", timeout_s=60) as client:
            return {job.state for job in client.jobs().jobs} == {"SUCCEEDED"}

    # The system is ready without the generator, which may come a moment later.
    until(lambda: machine.run("status")[0] == 0)
    with Client(f"http://127.0.0.1:{machine.port}", timeout_s=60) as client:
        client.create_job("axial T1 brain MRI")
    until(made)
    # A worker that is killed comes back by itself; jobs outlive a restart of everything.
    worker = next(one.process for one in machine.state().services if one.name == "worker")
    assert worker is not None
    psutil.Process(worker.pid).kill()
    machine.run("down")
    assert machine.left() == []
    assert machine.up("--no-demo")[0] == 0
    until(lambda: machine.run("status")[0] == 0)
    assert made()


def test_an_atlas_of_another_model_is_said_at_the_start_and_by_status(machine: Machine, tmp_path: Path) -> None:
    machine.up("--no-demo")
    fill(machine)
    machine.run("down")
    # The same towers behind another preprocessing are another model.
    shutil.copytree(find_bundle(machine.models), tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["image"]["mean"][0] += 0.1
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(manifest))
    machine.models = str(tmp_path / "other")
    code, started = machine.up()
    assert code == 0
    assert any("another model" in remark for remark in started["remarks"])
    assert any("another model" in remark for remark in machine.run("status")[1]["remarks"])
    with Client(f"http://127.0.0.1:{machine.port}") as client, pytest.raises(ApiError) as caught:
        client.search("axial T1 brain MRI")
    assert caught.value.code == "FINGERPRINT_MISMATCH"


def test_with_keys_set_every_call_needs_one_and_the_services_have_theirs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = "a-key-of-some-length"
    file = tmp_path / "keys"
    file.write_text(f"teacher:{key}\nlibrarian:another-{key}:write\n")
    monkeypatch.setenv("MIRAGE_API_KEYS_FILE", str(file))
    assert machine.up("--no-demo")[0] == 0
    assert not machine.searches()
    monkeypatch.setenv("MIRAGE_API_KEY", key)
    assert machine.searches()
    with pytest.raises(ApiError, match="role") as caught:
        fill(machine)
    assert caught.value.code == "ROLE_REQUIRED"
    monkeypatch.setenv("MIRAGE_API_KEY", f"another-{key}")
    fill(machine)
    monkeypatch.delenv("MIRAGE_API_KEY")
    assert key not in machine.folders.state.read_text()
    for log in machine.folders.logs.iterdir():
        assert key not in log.read_text()
    for pid in machine.left():
        assert key not in str(psutil.Process(pid).environ())
    for path in (machine.data, *machine.data.rglob("*")):
        if not path.is_symlink():
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
    machine.run("down")
    assert [path for path in machine.data.rglob("*_key*") if path.is_file()] == []


def test_an_interrupted_first_start_goes_on_where_it_was_and_names_what_it_cannot_have(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An index without packages: the averaged brain is all that there is.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    child = machine.up_here("--demo", "standard")
    until(lambda: machine.folders.state.exists() and (index := machine.state().index) is not None and index.done > 0)
    assert machine.searches(), "the page answers while the atlas is being built"
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 0
    assert machine.left() == []
    assert read_mark(machine.folders.demo_mark)["finished"] is False
    code, started = machine.up("--demo", "standard")
    assert code == 0
    assert started["index"]["finished"]
    assert read_mark(machine.folders.demo_mark) == {"finished": True, "done": ["brain"]}
    missing = started["index"]["missing"]
    assert [source.what for source in sources_of("standard") if source.what not in missing] == []
    assert missing in machine.run("status")[1]["remarks"]
    with Client(f"http://127.0.0.1:{machine.port}") as client:
        building = client.collection().building
        assert building is not None
        assert (building.finished, building.missing) == (True, missing)
        assert client.collection().records == started["index"]["total"] > 300
    machine.run("down")
    assert machine.up("--demo", "brain")[1]["index"] is None, "the atlas is not built twice"
