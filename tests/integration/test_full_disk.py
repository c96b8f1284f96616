"""A MIRAGE whose disk runs full: it says so, and goes on by itself once there is room again."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirage.client import Client
from mirage.errors import ApiError
from mirage_api.jobs import FINAL
from mirage_launcher.bundles import find_bundle
from tests.support.machine import Machine, clear, make_machine
from tests.support.paths import TINY_GENERATOR
from tests.support.waiting import until

DISK_MB = 500
PROMPT = "axial T1 brain MRI"


@pytest.fixture
def machine(tmp_path: Path, models: str) -> Iterator[Machine]:
    """A data directory on a small disk of its own, and models that can make images."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        pytest.skip("only root may mount a disk")
    try:
        shutil.copytree(find_bundle(models), tmp_path / "models" / "clip")
        shutil.copytree(TINY_GENERATOR, tmp_path / "models" / "generator")
        found = make_machine(disk / "data", str(tmp_path / "models"))
        yield found
        clear(found)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(machine: Machine) -> Path:
    """Leaves no byte free."""
    filler = machine.data.parent / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(file.fileno())
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
    return filler


def code_of(call: Callable[[], object]) -> str:
    try:
        call()
    except ApiError as error:
        return error.code
    return ""


def healthy(machine: Machine) -> bool:
    return machine.run("status")[0] == 0


def test_everything_goes_on_once_there_is_room(machine: Machine) -> None:
    assert machine.up("--no-demo")[0] == 0
    until(lambda: healthy(machine))
    with Client(f"http://127.0.0.1:{machine.port}", timeout_s=60) as client:
        filler = fill(machine)
        until(lambda: code_of(lambda: client.create_job(PROMPT)) == "STORAGE_FULL")
        # What stops while the disk is full must be known again later.
        worker = machine.pid("worker")
        assert worker is not None
        os.kill(worker, 9)
        assert code_of(lambda: client.create_collection("full")) == "STORAGE_FULL"
        assert [each.name for each in client.collections()] == ["atlas"]
        filler.unlink()
        until(lambda: healthy(machine))
        assert machine.pid("worker") not in (None, worker)
        job = client.create_job(PROMPT)
        until(lambda: client.job(job.id).state in FINAL)
        assert client.job(job.id).state == "SUCCEEDED"
        assert client.create_collection("roomy").name == "roomy"
        # Accepted before, and made after.
        assert {each.state for each in client.jobs().jobs} == {"SUCCEEDED"}
