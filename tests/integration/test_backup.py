"""`mirage backup` and `restore` on a MIRAGE that was really used: after all was lost, its callers see no difference."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mirage.client import Client
from mirage.queries import Query, Term
from mirage.uploads import Upload
from mirage_api.records import RegionsUpload, RegionUpload
from mirage_core.imaging import encode_png
from mirage_launcher.backups.parts import STAGING
from mirage_launcher.bundles import find_bundle
from tests.support.machine import RECORDS, Machine, clear, fill, make_machine
from tests.support.paths import TINY_GENERATOR
from tests.support.waiting import until

QUERY = "axial T1 brain MRI"


@pytest.fixture
def machine(tmp_path: Path, models: str) -> Iterator[Machine]:
    """A data directory of the test's own, and models that can make images."""
    shutil.copytree(find_bundle(models), tmp_path / "models" / "clip")
    shutil.copytree(TINY_GENERATOR, tmp_path / "models" / "generator")
    made = make_machine(tmp_path / "data", str(tmp_path / "models"))
    yield made
    clear(made)


def start(machine: Machine) -> Client:
    """Everything up, the generator too."""
    assert machine.up("--no-demo")[0] == 0
    until(lambda: machine.run("status")[0] == 0)
    return Client(f"http://127.0.0.1:{machine.port}", timeout_s=60)


def seen(client: Client) -> dict[str, Any]:
    """What a caller can see of what is stored."""
    # By likeness: how rare a word is, the engine may count anew after a start.
    found = client.search(Query((Term(text=QUERY),), k=RECORDS, mode="images")).results
    jobs = client.jobs().jobs
    regions = {each.id: client.record(each.id).regions for each in found}
    return {
        "results": [(each.id, round(each.score, 5), each.caption) for each in found],
        "images": [client.image(each.id).data for each in found],
        "regions": regions,
        "maps": [client.image(each, variant="regions").data for each, there in regions.items() if there],
        "flags": [(each.record_id, each.reason, each.comment) for each in client.flags()],
        "jobs": [(job.id, job.state, dict(job.request), job.create_time) for job in jobs],
        "made": [client.job_image(job.id).data for job in jobs],
        "collections": [(each.name, each.active, each.records) for each in client.collections()],
    }


def outline(client: Client, record_id: str) -> None:
    """Gives a record a label map."""
    record = client.record(record_id)
    drawn = Image.new("L", (record.width, record.height))
    drawn.paste(1, (10, 20, 50, 40))
    legend = (RegionUpload(id=1, name="thalamus", colour="#336699"),)
    client.upsert(
        [
            Upload(
                id=record_id,
                caption=record.caption,
                image=b"",
                licence=record.licence,
                source=record.source,
                regions=RegionsUpload(png=encode_png(drawn), legend=legend),
            )
        ]
    )


def kill_halfway(machine: Machine, backup: Path) -> None:
    """Begins to restore over what is stored, and kills that as soon as a part of it is unpacked."""
    child = subprocess.Popen(machine.command("restore", "-", "--replace"), stdin=subprocess.PIPE)
    assert child.stdin is not None
    content = backup.read_bytes()
    child.stdin.write(content[: len(content) // 2])
    child.stdin.flush()
    until(lambda: any(path.is_file() for path in (machine.folders.atlas / STAGING).rglob("*")))
    child.kill()
    child.wait()
    child.stdin.close()


def test_after_all_was_lost_callers_see_what_they_saw(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    with start(machine) as client:
        fill(machine)
        outline(client, client.search(QUERY, k=1).results[0].id)
        client.flag(client.search(QUERY, k=1).results[0].id, "wrong-caption", comment="another plane")
        client.create_collection("next")
        client.create_job(QUERY)
        until(lambda: {job.state for job in client.jobs().jobs} == {"SUCCEEDED"})
        before = seen(client)
        # While it runs the parts would not fit each other.
        code, problem = machine.run("backup", str(file))
        assert (code, problem["code"]) == (1, "STILL_UP")
        assert "mirage down" in problem["detail"]
    assert len(before["results"]) == RECORDS
    assert len(before["flags"]) == len(before["made"]) == 1
    assert [each.box for regions in before["regions"].values() for each in regions] == [(10, 20, 40, 20)]
    machine.run("down")
    code, said = machine.run("backup", str(file))
    assert (code, said["counts"]["atlas images"], said["counts"]["images"]) == (0, RECORDS, 1)
    assert said["collections"].keys() == {"atlas", "next"}
    shutil.rmtree(machine.data)

    code, said = machine.run("restore", str(file))
    assert (code, said["restored"]) == (0, True)
    kill_halfway(machine, file)
    with start(machine) as client:
        assert seen(client) == before
        code, problem = machine.run("restore", str(file), "--replace")
        assert (code, problem["code"]) == (1, "STILL_UP")
        # It can be added to as before.
        assert client.delete(before["results"][0][0])
        assert client.collection().records == RECORDS - 1
    assert not list(machine.data.rglob(STAGING))
