"""`mirage index` on a running MIRAGE: killed and run again, into another collection, with embeddings, on hostile datasets."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from mirage.client import Client
from mirage.errors import ApiError, ClientError
from tests.support.waiting import PATIENCE_S, until

COUNT = 96


def write_dataset(folder: Path, prefix: str, count: int = COUNT) -> Path:
    """Noise, another for each record; brain-like enough for nobody to mind."""
    (folder / "images").mkdir(parents=True)
    with (folder / "captions.jsonl").open("w") as lines:
        for number in range(count):
            pixels = np.random.default_rng([number, *prefix.encode()]).integers(0, 255, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).resize((120, 120)).save(folder / "images" / f"{number}.png")
            row = {
                "id": f"{prefix}-{number:03}",
                "file": f"images/{number}.png",
                "caption": f"Axial CT number {number}.",
                "labels": {"plane": "axial"},
                "licence": "CC0-1.0",
                "source": "test",
            }
            lines.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def client(system: Any) -> Iterator[Client]:
    with Client(system.http_url, timeout_s=60) as client:
        yield client


@pytest.fixture
def prefix(request: pytest.FixtureRequest, client: Client) -> Iterator[str]:
    """Ids of this test; what is left of them afterwards is removed."""
    name = f"x{abs(hash(request.node.name)) % 10**8}"
    yield name
    for number in range(COUNT):
        client.delete(f"{name}-{number:03}")


@pytest.fixture
def spare(client: Client) -> Iterator[str]:
    """The name of a collection that is gone again afterwards, with the one before active."""
    active = next(each.name for each in client.collections() if each.active)
    yield "spare"
    client.activate_collection(active)
    if "spare" in {each.name for each in client.collections()}:
        client.delete_collection("spare")


def index(system: Any, *arguments: str) -> "subprocess.Popen[str]":
    command = [*system.command_line, *arguments, "--json", "--url", system.http_url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]", *, code: int = 0) -> dict[str, Any]:
    output, remarks = process.communicate(timeout=120)
    assert process.returncode == code, remarks
    assert "Traceback" not in remarks
    return dict(json.loads(output))


def stored(client: Client, prefix: str) -> int:
    keys = [(f"{prefix}-{number:03}", "") for number in range(COUNT)]
    return sum(presence.record is not None for presence in client.look_up(keys))


def test_a_run_that_is_killed_twice_does_nothing_twice(
    system: Any, client: Client, tmp_path: Path, prefix: str
) -> None:
    folder = write_dataset(tmp_path / "set", prefix)

    def index_and_kill(least: int) -> None:
        process = index(system, "index", str(folder), "--batch", "1", "--parallel", "1")
        until(lambda: stored(client, prefix) >= least)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)

    for least in (8, 24):
        index_and_kill(least)
    there = stored(client, prefix)
    assert 24 <= there < COUNT
    tally = finish(index(system, "index", str(folder)))
    # What was on its way when the last one died may have come in after it was counted.
    assert there <= tally["skipped"] <= there + 1
    assert tally["unchanged"] == tally["skipped"]
    assert tally["unchanged"] + tally["created"] == tally["rows"] == COUNT
    assert tally["updated"] == tally["refused"] == 0
    assert stored(client, prefix) == COUNT


def test_an_atlas_is_indexed_again_beside_the_one_that_is_searched(
    system: Any, client: Client, tmp_path: Path, prefix: str, spare: str
) -> None:
    folder = write_dataset(tmp_path / "set", prefix)
    failed: list[str] = []
    seen: set[bool] = set()
    stop = threading.Event()

    def hammer() -> None:
        with Client(system.http_url) as mine:
            while not stop.is_set():
                try:
                    ids = [result.id for result in mine.search("axial CT", k=5).results]
                    seen.add(all(id_.startswith(prefix) for id_ in ids))
                except ClientError as error:
                    failed.append(error.code)

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    tally = finish(index(system, "index", str(folder), "--into", spare, "--activate"))
    until(lambda: True in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert seen == {True, False}
    assert (tally["created"], tally["collection"]) == (COUNT, spare)
    assert stored(client, prefix) == COUNT


def test_where_a_dataset_went_is_said_after_indexing_and_by_a_search_that_finds_nothing(
    system: Any, client: Client, tmp_path: Path, prefix: str, spare: str
) -> None:
    def said(*arguments: str) -> tuple[int, str]:
        command = [*system.command_line, *arguments, "--url", system.http_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stderr

    folder = write_dataset(tmp_path / "set", prefix, 3)
    code, remark = said("index", str(folder), "--into", spare)
    assert code == 0
    assert f"search it with --collection {spare}" in remark
    empty = f"{spare}-empty"
    client.create_collection(empty)
    try:
        code, remark = said("search", "axial CT", "--collection", empty)
    finally:
        client.delete_collection(empty)
    assert code == 0
    assert f"the collection {empty} is empty; with records: " in remark
    assert f"{spare} (3)" in remark
    assert (
        "is empty" not in said("search", "axial CT", "--collection", spare, "--mode", "images", "--min-score", "1")[1]
    )


def test_embeddings_go_out_into_a_file_and_back_in(
    system: Any, client: Client, tmp_path: Path, prefix: str, spare: str
) -> None:
    folder = write_dataset(tmp_path / "set", prefix, 40)
    finish(index(system, "index", str(folder), "--into", spare, "--activate"))
    before = client.search("axial CT", k=40).raw["results"]
    out = finish(index(system, "embeddings", "export", str(tmp_path / "e.npz"), "--collection", spare))
    assert out["records"] == 40
    again = "spare-again"
    try:
        tally = finish(
            index(
                system,
                "embeddings",
                "import",
                str(tmp_path / "e.npz"),
                str(folder),
                "--into",
                again,
                "--strict",
                "--activate",
            )
        )
        assert tally["created"] == 40
        after = client.search("axial CT", k=40).raw["results"]
        assert [each["id"] for each in after] == [each["id"] for each in before]
        assert [each["cosine"] for each in after] == pytest.approx([each["cosine"] for each in before], abs=1e-5)
        thumbnail = client.image(after[0]["id"], variant="thumbnail")
        assert thumbnail.media_type == "image/webp"
    finally:
        client.activate_collection(spare)
        client.delete_collection(again)


def test_embeddings_of_another_model_are_refused_before_anything_is_sent(
    system: Any, client: Client, tmp_path: Path, prefix: str
) -> None:
    folder = write_dataset(tmp_path / "set", prefix, 4)
    ids = np.array([f"{prefix}-{n:03}" for n in range(4)])
    np.savez(tmp_path / "e.npz", ids=ids, vectors=np.ones((4, 3), "f4"), fingerprint=np.array("0" * 64))
    process = index(system, "embeddings", "import", str(tmp_path / "e.npz"), str(folder))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(output)["code"] == "INPUT_INVALID"
    assert stored(client, prefix) == 0


def test_duplicates_and_complaints_go_into_the_report(system: Any, client: Client, tmp_path: Path, prefix: str) -> None:
    folder = write_dataset(tmp_path / "set", prefix, 6)
    for number in (1, 4):
        (folder / "images" / f"{number}.png").write_bytes((folder / "images" / "0.png").read_bytes())
    (folder / "images" / "2.png").unlink()
    os.symlink(folder / "images" / "0.png", folder / "images" / "2.png")
    (folder / "images" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    report = tmp_path / "report.jsonl"
    # Links within the folder are read: 2.png is one more copy of 0.png.
    tally = finish(index(system, "index", str(folder), "--report", str(report), "--parallel", "1"), code=1)
    assert (tally["created"], tally["refused"], tally["rows"]) == (2, 4, 6)
    assert (tally["duplicates"], tally["rejected"], tally["bad_rows"]) == (3, 1, 0)
    refused = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(each["file"], each["line"], each["code"]) for each in refused] == [
        ("captions.jsonl", 2, "DUPLICATE_IMAGE"),
        ("captions.jsonl", 3, "DUPLICATE_IMAGE"),
        ("captions.jsonl", 4, "IMAGE_UNREADABLE"),
        ("captions.jsonl", 5, "DUPLICATE_IMAGE"),
    ]
    keys = ("where", "code", "reason", "file", "line", "id")
    assert [[each[key] for key in keys] for each in refused] == [
        [each[key] for key in keys] for each in tally["complaints"]
    ]
    tally = finish(index(system, "index", str(folder), "--duplicates", "keep", "--allow-refused"))
    assert (tally["created"], tally["unchanged"], tally["refused"]) == (3, 2, 1)


def test_hostile_tables_do_no_harm(system: Any, client: Client, tmp_path: Path, spare: str) -> None:
    Image.new("L", (64, 64), 90).save(tmp_path / "a.png")
    Image.new("L", (64, 64), 120).save(tmp_path / "b.png")
    (tmp_path / "secret.png").symlink_to("/etc/hostname")
    rows = [
        "id,file,caption",
        '"../../etc/x",a.png,"<script>alert(1)</script> CT"',
        "\N{GREEK SMALL LETTER ALPHA}/\N{GREEK SMALL LETTER BETA},b.png,CT of the chest",
        "long,b.png," + "x" * 100_000,
        "out,../a.png,CT",
        "link,secret.png,CT",
        "few,a.png",
    ]
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    tally = finish(index(system, "index", str(tmp_path), "--into", spare), code=1)
    assert (tally["created"], tally["bad_rows"]) == (2, 4)
    found = client.records(collection=spare).records
    captions = {each.original_labels["id"]: each.caption for each in found}
    assert captions["../../etc/x"] == "<script>alert(1)</script> CT"
    assert len(captions) == 2


def test_an_interrupted_run_says_how_far_it_came(system: Any, client: Client, tmp_path: Path, prefix: str) -> None:
    # Long enough to be still running when the signal comes, however busy the machine is.
    many = 400
    folder = write_dataset(tmp_path / "set", prefix, many)
    process = index(system, "index", str(folder), "--batch", "1", "--parallel", "1")
    until(lambda: stored(client, prefix) >= 2)
    process.send_signal(signal.SIGINT)
    _, remarks = process.communicate(timeout=30)
    for presence in client.look_up([(f"{prefix}-{number:03}", "") for number in range(many)]):
        if presence.record is not None:
            client.delete(presence.id)
    assert process.returncode == 130
    assert "stopped:" in remarks


def test_a_frozen_encoder_gives_a_clear_answer_in_time_and_comes_back(system: Any, client: Client) -> None:
    command = [sys.executable, "-m", "mirage.cli", "status", "--data", str(system.data), "--json"]
    status = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    pid = next(one["pid"] for one in status["processes"] if one["name"] == "encoder")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ApiError) as caught:
            client.search(f"never asked before {time.time()}")
        assert caught.value.code in ("DEPENDENCY_UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert caught.value.status in (503, 504)
        # What needs no encoder goes on.
        unready = httpx.get(f"{system.http_url}/readyz", timeout=PATIENCE_S)
        assert (unready.status_code, unready.json()["code"]) == (503, "DEPENDENCY_UNAVAILABLE")
        some = client.records(limit=1).records[0].id
        assert client.similar(some, k=3).results
    finally:
        os.kill(pid, signal.SIGCONT)

    def answers() -> bool:
        try:
            return bool(client.search("axial brain").results)
        except ClientError:
            return False

    until(answers)


def write_outlines(folder: Path, *, name: str = "liver", left: int = 10) -> None:
    """Gives each record of a dataset a label map of one structure, and the last a map of another size."""
    (folder / "masks").mkdir(exist_ok=True)
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows, start=1):
        side = 119 if number == len(rows) else 120
        drawn = Image.new("L", (side, side))
        drawn.paste(1, (left, 20, 60, 80))
        drawn.save(folder / "masks" / f"{number}.png")
        row["regions"] = {"file": f"masks/{number}.png", "legend": [{"id": 1, "name": name, "group": "organs"}]}
    (folder / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_label_maps_of_a_dataset_are_stored_found_by_name_and_updated(
    system: Any, client: Client, tmp_path: Path, prefix: str
) -> None:
    folder = write_dataset(tmp_path / "set", prefix, count=3)
    write_outlines(folder)
    tally = finish(index(system, "index", str(folder)), code=1)
    assert (tally["created"], tally["refused"]) == (2, 1)
    assert tally["complaints"][0]["code"] == "REGIONS_INVALID"
    assert "119 x 119 pixels" in tally["complaints"][0]["reason"]

    [region] = client.record(f"{prefix}-000").regions
    assert (region.name, region.group, region.box, region.area) == ("liver", "organs", (10, 20, 50, 60), 3_000)
    assert client.image(f"{prefix}-000", variant="regions").media_type == "image/png"
    found = {each.id: each.regions for each in client.search("hepatic", k=100).results}
    assert [each.name for each in found[f"{prefix}-001"]] == ["liver"]
    assert not any(each.regions for each in client.search("axial CT", k=100).results)

    again = finish(index(system, "index", str(folder)), code=1)
    assert (again["skipped"], again["refused"]) == (2, 1)
    for changes in ({"left": 30}, {"left": 30, "name": "spleen"}):
        write_outlines(folder, **changes)
        assert finish(index(system, "index", str(folder)), code=1)["updated"] == 2
    [region] = client.record(f"{prefix}-000").regions
    assert (region.name, region.box) == ("spleen", (30, 20, 30, 60))
    assert list(client.record(f"{prefix}-000").labels["structure"]) == ["spleen"]
