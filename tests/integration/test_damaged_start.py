"""A MIRAGE with a damaged file of every kind starts, names each, and has everything else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirage.client import Client
from mirage_api.jobs import FINAL
from mirage_core.files import MARK
from mirage_launcher.bundles import find_bundle
from tests.support.machine import RECORDS, Machine, clear, fill, make_machine
from tests.support.paths import TINY_GENERATOR
from tests.support.waiting import until

PROMPT = "axial T1 brain MRI"


@pytest.fixture
def machine(tmp_path: Path, models: str) -> Iterator[Machine]:
    """A data directory of the test's own, and models that can make images."""
    shutil.copytree(find_bundle(models), tmp_path / "models" / "clip")
    shutil.copytree(TINY_GENERATOR, tmp_path / "models" / "generator")
    made = make_machine(tmp_path / "data", str(tmp_path / "models"))
    yield made
    clear(made)


def start(machine: Machine) -> Client:
    assert machine.up("--no-demo")[0] == 0
    until(lambda: machine.run("status")[0] == 0)
    return Client(f"http://127.0.0.1:{machine.port}", timeout_s=60)


def test_everything_else_is_there(machine: Machine) -> None:
    with start(machine) as client:
        fill(machine)
        client.create_collection("next")
        first = client.search(PROMPT, k=1).results[0].id
        client.flag(first, "wrong-caption", comment="kept")
        job = client.create_job(PROMPT)
        until(lambda: client.job(job.id).state in FINAL)
        image = client.job_image(job.id).data
    machine.run("down")
    folders = machine.folders
    damaged = {
        folders.atlas / "flags.jsonl": b'{"id": "half a flag",\n' + (folders.atlas / "flags.jsonl").read_bytes(),
        folders.atlas / "collections" / "next" / "collection.json": b"",
        next((folders.queue / "appendonlydir").glob("*.incr.aof")): None,
        folders.root / "demo.json": b"\xff",
        folders.state: b"[" * 100_000,
    }
    for path, content in damaged.items():
        path.write_bytes(path.read_bytes() + b"rubbish" * 10 if content is None else content)
    folders.log("worker").unlink()
    folders.log("worker").mkdir()

    code, said = machine.up("--no-demo")
    assert code == 0
    until(lambda: machine.run("status")[0] == 0)
    _, status = machine.run("status")
    for remarks in (said["remarks"], status["remarks"]):
        for name in ("flags.jsonl", "next", "appendonlydir", "worker.log"):
            assert any(f"{name}{MARK}" in remark for remark in remarks), (name, remarks)
    with Client(f"http://127.0.0.1:{machine.port}", timeout_s=60) as client:
        assert client.collection().records == RECORDS
        assert [each.name for each in client.collections()] == ["atlas"]
        assert [(each.record_id, each.comment) for each in client.flags()] == [(first, "kept")]
        assert client.job(job.id).state == "SUCCEEDED"
        assert client.job_image(job.id).data == image
        again = client.create_job(PROMPT)
        until(lambda: client.job(again.id).state in FINAL)
        assert client.job(again.id).state == "SUCCEEDED"
        assert client.flag(first, "privacy", comment="").record_id == first
    # Nothing that was put aside is gone.
    kept = [path for path in folders.root.rglob(f"*{MARK}*") if MARK in path.name]
    assert len(kept) == 4
    machine.run("down")
    assert all(path.exists() for path in kept)
