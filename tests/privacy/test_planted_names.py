"""Names that were planted in every place of a file but its pixels are found nowhere: not in what a reader can fetch, not on
the disk, in logs, answers, exports or backups. Whatever way the files came in, and whatever was stored by an older version.
"""

import asyncio
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from mirage.client import Client
from mirage_inference.bundles import EncoderManifest, load_manifest
from mirage_launcher.bundles import find_bundle
from mirage_protos.v1 import mirage_service_pb2, mirage_service_pb2_grpc, record_pb2
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.edge.store import EdgeCollectionStore
from mirage_retriever.facets import NAMES
from tests.support.machine import Machine, clear, make_machine
from tests.support.old_data import Old, keep_files, keep_records
from tests.support.planted import (
    DATE,
    MAKERS,
    Maker,
    dicom,
    extras,
    jpeg,
    name,
    png,
    traces,
    traces_on_disk,
    uid,
    variants,
    webp,
)

MUTATED = 200
# Nothing may hang: with a busy machine 200 files take seconds.
CALL_S = 120.0
SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp", "dicom": "dcm"}


@dataclass
class Lived:
    """A MIRAGE that was used in every way, and all that its answers said meanwhile, by what was asked."""

    machine: Machine
    files: dict[str, bytes]
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.machine.port}"

    def http(self) -> httpx.Client:
        def keep(response: httpx.Response) -> None:
            response.read()
            headers = "\n".join(f"{key}: {value}" for key, value in response.headers.items()).encode()
            self.answers.append((f"{response.request.method} {response.request.url.path}", headers + response.content))

        return httpx.Client(base_url=self.url, timeout=CALL_S, event_hooks={"response": [keep]}, trust_env=False)

    def mirage(self, *arguments: str) -> tuple[int, str]:
        """Runs a command line; exit code and standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "mirage.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=CALL_S,
            check=False,
            env={**os.environ, "MIRAGE_URL": self.url},
        )
        self.answers.append((f"mirage {' '.join(arguments[:1])}", (done.stdout + done.stderr).encode()))
        return done.returncode, done.stdout

    def post(self, client: httpx.Client, records: dict[str, bytes], **fields: Any) -> None:
        """Stores records by POST /v1/records, as a form whose file names are names of people."""
        parts: list[tuple[str, tuple[str | None, bytes, str]]] = []
        for id_, data in records.items():
            document = {"id": id_, "caption": f"Caption of {id_}.", "licence": "CC0-1.0", "source": "test", **fields}
            parts.append(("record", (None, json.dumps(document).encode(), "application/json")))
            parts.append(("image", (f"{name()}.dcm", data, "application/octet-stream")))
        response = client.post("/v1/records", files=parts)
        assert response.status_code == 200, response.text
        for outcome in response.json()["outcomes"]:
            code = outcome.get("error", {}).get("code", "")
            self.outcomes[f"{outcome['state']} {code}".strip()] += 1


def batches(files: dict[str, bytes], size: int) -> Iterator[dict[str, bytes]]:
    """So many files at a time."""
    ids = list(files)
    for start in range(0, len(ids), size):
        yield {id_: files[id_] for id_ in ids[start : start + size]}


def whole_files() -> dict[str, bytes]:
    """One of every kind of every format, by an id that says which."""
    return {
        f"{form}-{number}": maker(100 + number)
        for form, makers in MAKERS.items()
        for number, maker in enumerate(makers)
    }


async def store_old(machine: Machine, models: str) -> list[Old]:
    """What an older version would have stored of such files."""
    manifest = load_manifest(find_bundle(models))
    assert isinstance(manifest, EncoderManifest)
    dimension = manifest.dimension
    machine.folders.create()
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=1, build_share=0.1, build_points=50_000)
    store = EdgeCollectionStore(
        machine.folders.atlas,
        default="atlas",
        make=lambda path: EdgeEngine(path, facets=NAMES, policy=policy, shards=1),
    )
    directions = np.eye(dimension, dtype=np.float32)
    olds = [
        Old(f"old-{id_}", data, directions[number])
        for number, (id_, data) in enumerate({**whole_files(), "burned-in": dicom_with_annotation()}.items())
    ]
    await keep_records(store, {Collection("atlas", dimension, manifest.fingerprint): olds})
    await store.close()
    keep_files(machine.folders.atlas, [*(old.data for old in olds), jpeg(999)], thumbnail=name().encode())
    return olds


def dicom_with_annotation() -> bytes:
    import pydicom

    file = pydicom.dcmread(io.BytesIO(dicom(77)))
    file.BurnedInAnnotation = "YES"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    return buffer.getvalue()


# Datasets, each with names wherever its format lets one write them.


def table_columns() -> dict[str, str]:
    return {
        "Patient Name": name(),
        "patient_id": name(),
        "MRN": name(),
        "DOB": DATE,
        "Referring Physician": name(),
        "(0010,0010)": name(),
        "Apellidos": name(),
        "Geburtsdatum": DATE,
        "StudyInstanceUID": uid(),
        "name": name(),
    }


def write_captions(folder: Path) -> None:
    rows = []
    for number, (form, maker) in enumerate((form, maker) for form, makers in MAKERS.items() for maker in makers[:2]):
        file = f"{number}.{SUFFIXES[form]}"
        (folder / file).write_bytes(maker(200 + number))
        rows.append(
            {
                **{"id": f"captions-{number}", "file": file, "caption": f"Axial CT, section {number}."},
                **{"licence": "CC0-1.0", "source": "test", "labels": {"modality": "ct", "PatientName": name()}},
                **{"original_labels": table_columns(), "patient": {"name": name()}, "PatientBirthDate": DATE},
            }
        )
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(folder: Path) -> None:
    with (folder / "t.csv").open("w", newline="") as file:
        columns = ["file", "caption", "licence", "source", *table_columns()]
        out = csv.DictWriter(file, columns)
        out.writeheader()
        makers: tuple[Maker, ...] = (jpeg, png, webp, dicom)
        for number, maker in enumerate(makers):
            suffix = ("jpg", "png", "webp", "dcm")[number]
            (folder / f"{number}.{suffix}").write_bytes(maker(300 + number))
            row = {"file": f"{number}.{suffix}", "caption": f"Sagittal MRI {number}.", "licence": "CC0-1.0"}
            out.writerow({**row, "source": "test", **table_columns()})


def write_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    makers: tuple[Maker, ...] = (jpeg, png, webp, dicom)
    rows = [
        {
            "image": {"bytes": maker(400 + number), "path": f"{name()}.png"},
            "image_id": f"parquet-{number}",
            "caption": f"Coronal view {number}.",
            **table_columns(),
        }
        for number, maker in enumerate(makers)
    ]
    (folder / "data").mkdir()
    table = pa.Table.from_pylist(rows).replace_schema_metadata({"creator": name()})
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet")


def write_roco(folder: Path) -> None:
    place = folder / "validation" / "radiology"
    (place / "images").mkdir(parents=True)
    for number, maker in enumerate((jpeg, jpeg)):
        (place / "images" / f"ROCO_{number}.jpg").write_bytes(maker(500 + number))
    (place / "captions.txt").write_text("ROCO_0\tAxial CT of the chest.\nROCO_1\tLateral radiograph of the knee.\n")
    (place / "licences.txt").write_text("ROCO_ID,PMC_ID,CC\nROCO_0,PMC1_a.jpg,CC BY\nROCO_1,PMC2_b.jpg,CC BY\n")


def write_rocov2(folder: Path) -> None:
    (folder / "test").mkdir()
    (folder / "test" / "ROCOv2_1.jpg").write_bytes(jpeg(600))
    (folder / "test_captions.csv").write_text(f"ID,Caption,Patient Name\nROCOv2_1,CT of the abdomen,{name()}\n")
    (folder / "test_concepts.csv").write_text("ID,CUIs\nROCOv2_1,C0040405\n")
    (folder / "license_information.csv").write_text("ID,License,Author\nROCOv2_1,CC BY,Somebody\n")


def write_dicoms(folder: Path) -> None:
    for number, maker in enumerate(MAKERS["dicom"]):
        (folder / f"{number}").write_bytes(maker(700 + number))
    (folder / "annotated").write_bytes(dicom_with_annotation())


DATASETS: dict[str, Callable[[Path], None]] = {
    "captions": write_captions,
    "csv": write_csv,
    "parquet": write_parquet,
    "roco": write_roco,
    "rocov2": write_rocov2,
    "dicom": write_dicoms,
}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, models: str) -> Iterator[Lived]:
    """Started on what an older version stored, then given files in every other way."""
    folder = tmp_path_factory.mktemp("lived")
    machine = make_machine(folder / "data", models)
    asyncio.run(store_old(machine, models))
    assert len(traces_on_disk(machine.data)) > 20
    code, _ = machine.run("backup", str(folder / "older.tar.gz"))
    assert code == 0
    code, started = machine.up("--no-demo")
    assert (code, started["phase"]) == (0, "ready")
    made = Lived(machine, whole_files())
    made.answers.append(("mirage up", json.dumps(started).encode()))
    for reader, write in DATASETS.items():
        (folder / reader).mkdir()
        write(folder / reader)
        report = folder / f"{reader}.report"
        made.mirage("index", str(folder / reader), "--reader", reader, "--report", str(report), "--allow-refused")
        _, said = made.mirage("index", str(folder / reader), "--reader", reader, "--no-resume", "--json")
        made.outcomes[f"rows of {reader}"] += json.loads(said)["unchanged"]
        made.answers.append((f"report of {reader}", report.read_bytes() if report.exists() else b""))
    with made.http() as client:
        files = {f"http-{id_}": data for id_, data in made.files.items()}
        for some in batches(files, 8):
            made.post(client, some, original_labels={**table_columns(), "Plane": "TRA"})
        made.post(
            client,
            {"http-annotated": dicom_with_annotation(), "http-torn": jpeg(3)[:900], "http-text": name().encode()},
        )
        ask_with(client, made.files)
    upload_by_grpc(made)
    yield made
    clear(machine)


def ask_with(client: httpx.Client, files: dict[str, bytes]) -> None:
    """Asks with files that are not to be stored at all."""
    from base64 import b64encode

    for data in (*files.values(), dicom_with_annotation(), jpeg(4)[:900], name().encode()):
        image = b64encode(data).decode()
        query = {"terms": [{"image": image}], "k": 3}
        client.post("/v1/search", json=query)
        client.post("/v1/search", json={**query, "accept_any_image": True})
        client.post("/v1/classify", json={"image": image})
    client.post("/v1/describe", json={**query, "accept_any_image": True}, headers={"accept": "application/json"})
    # Requests that cannot be understood, and say so.
    client.post("/v1/search", json={"text": ["axial"], "k": name()})
    client.post("/v1/records", files=[("record", (name(), b"{" + name().encode(), "application/json"))])
    client.get("/v1/images/none", params={"original": "1"})


def upload_by_grpc(lived: Lived) -> None:
    def requests() -> Iterator[mirage_service_pb2.UpsertRecordsRequest]:
        for id_, data in lived.files.items():
            record = record_pb2.Record(id=f"grpc-{id_}", caption=f"Caption of {id_}.", licence="CC0-1.0", source="test")
            record.original_labels.update(table_columns())
            yield mirage_service_pb2.UpsertRecordsRequest(
                part=record_pb2.RecordPart(record=record_pb2.RecordHead(record=record))
            )
            yield mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=data))

    with grpc.insecure_channel(f"127.0.0.1:{lived.machine.grpc_port}") as channel:
        reply = mirage_service_pb2_grpc.MirageServiceStub(channel).UpsertRecords(requests(), timeout=CALL_S)
    for outcome in reply.outcomes:
        lived.outcomes[f"grpc {record_pb2.UpsertState.Name(outcome.state)}"] += 1
    lived.answers.append(("gRPC UpsertRecords", reply.SerializeToString()))


def fetch_all(client: httpx.Client) -> dict[str, bytes]:
    """All that can be fetched of records, by its address."""
    fetched: dict[str, bytes] = {}
    token = ""
    ids: list[str] = []
    while True:
        page = client.get("/v1/records", params={"limit": 100, "vectors": "true", "page_token": token})
        fetched[f"page {len(ids)}"] = page.content
        ids += [record["id"] for record in page.json()["records"]]
        token = page.json().get("next_page_token", "")
        if not token:
            break
    for id_ in ids:
        record = client.get(f"/v1/records/{id_}")
        fetched[f"record {id_}"] = record.content
        parts = ["", "/thumbnail", *(["/pixels"] if record.json()["pixels"] else [])]
        for part in parts:
            image = client.get(f"/v1/images/{id_}{part}")
            assert image.status_code == 200, f"{id_}{part}: {image.text}"
            fetched[f"image {id_}{part}"] = image.content
    return fetched


def test_every_file_that_is_sent_names_somebody_and_every_kind_is_taken(lived: Lived) -> None:
    assert [id_ for id_, data in lived.files.items() if not traces(data)] == []
    kinds = len(lived.files)
    assert kinds >= 20
    assert lived.outcomes["created"] == kinds
    assert lived.outcomes["grpc UPSERT_STATE_CREATED"] == kinds
    assert {code for code in lived.outcomes if code.startswith("rejected")} == {
        *("rejected IMAGE_BURNED_IN", "rejected IMAGE_FORMAT_UNSUPPORTED", "rejected IMAGE_UNREADABLE")
    }
    assert {reader: lived.outcomes[f"rows of {reader}"] for reader in DATASETS} == {
        **{"captions": 8, "csv": 4, "parquet": 4, "roco": 2, "rocov2": 1, "dicom": len(MAKERS["dicom"])}
    }


def test_no_answer_names_anybody(lived: Lived) -> None:
    assert len(lived.answers) > 80
    assert {asked: found for asked, content in lived.answers if (found := traces(content))} == {}


def test_nothing_that_a_reader_can_fetch_names_anybody(lived: Lived) -> None:
    with lived.http() as client:
        fetched = fetch_all(client)
        for path in (
            "/v1/facets",
            "/v1/flags",
            "/v1/models",
            "/v1/collection",
            "/v1/collections",
            "/metrics",
            "/readyz",
        ):
            fetched[path] = client.get(path).content
        keys = [{"id": "new", "image_sha256": hashlib.sha256(data).hexdigest()} for data in lived.files.values()]
        fetched["lookup"] = client.post("/v1/records/lookup", json={"keys": keys}).content
        fetched["similar"] = client.get("/v1/records/http-jpeg-0/similar").content
        fetched["search"] = client.get("/v1/search", params={"text": "axial CT", "k": 100}).content
    # All from before, from datasets, from HTTP and from gRPC; what is annotated is in none of them.
    ids = {key.split(" ", 1)[1] for key in fetched if key.startswith("record ")}
    for prefix in ("old-", "captions-", "parquet-", "ROCO_", "ROCOv2_", "http-", "grpc-"):
        assert any(id_.startswith(prefix) for id_ in ids), prefix
    assert {f"{way}-{id_}" for way in ("old", "http", "grpc") for id_ in lived.files} <= ids
    assert not [id_ for id_ in ids if "annotated" in id_ or "burned-in" in id_]
    assert len(fetched) > 3 * len(ids)
    assert {what: found for what, content in fetched.items() if (found := traces(content))} == {}
    images = {what: content for what, content in fetched.items() if what.startswith("image ")}
    assert {what: more for what, content in images.items() if (more := extras(content))} == {}


def test_an_export_of_vectors_names_nobody(lived: Lived, tmp_path: Path) -> None:
    assert lived.mirage("embeddings", "export", str(tmp_path / "vectors.npz"))[0] == 0
    with np.load(tmp_path / "vectors.npz") as file:
        assert len(file["ids"]) > 60
        assert traces(" ".join(file["ids"]).encode()) == set()
    assert traces((tmp_path / "vectors.npz").read_bytes()) == set()


@pytest.mark.parametrize("form", MAKERS)
def test_files_that_are_broken_in_any_way_leave_nothing_but_pixels(lived: Lived, form: str) -> None:
    before = len(lived.answers)
    with lived.http() as client:
        files = {
            f"broken-{form}-{number:03}": data for number, data in enumerate(variants(form, MUTATED, seed=20261128))
        }
        for some in batches(files, 25):
            lived.post(client, some)
        sent = lived.answers[before:]
        assert {asked: found for asked, content in sent if (found := traces(content))} == {}
        fetched = {
            what: content for what, content in fetch_all(client).items() if re.match(rf"\w+ broken-{form}", what)
        }
    assert sum(what.startswith("record ") for what in fetched) >= MUTATED // 10
    assert {what: found for what, content in fetched.items() if (found := traces(content))} == {}
    images = {what: content for what, content in fetched.items() if what.startswith("image ")}
    assert {what: more for what, content in images.items() if (more := extras(content))} == {}


def test_no_byte_on_the_disk_names_anybody(lived: Lived) -> None:
    """The last one that needs it up: files and logs are whole once everything has ended."""
    assert lived.machine.run("down")[0] == 0
    logs = {path.name for path in lived.machine.folders.logs.iterdir()}
    assert {"encoder.log", "retriever.log", "gateway.log"} <= logs
    assert traces_on_disk(lived.machine.data) == {}


def test_a_backup_names_nobody(lived: Lived, tmp_path: Path) -> None:
    code, said = lived.machine.run("backup", str(tmp_path / "backup.tar.gz"))
    assert code == 0
    assert said["counts"]["atlas images"] > 40
    assert traces((tmp_path / "backup.tar.gz").read_bytes()) == set()


def test_an_older_backup_names_nobody_once_it_is_restored(lived: Lived, tmp_path: Path, models: str) -> None:
    older = lived.machine.data.parent / "older.tar.gz"
    assert traces(older.read_bytes())
    restored = make_machine(tmp_path / "restored", models)
    try:
        code, said = restored.run("restore", str(older))
        assert code == 0
        # Engine files hold what records said; the next start writes them again.
        found = traces_on_disk(restored.folders.atlas / "clean", *restored.folders.atlas.glob("cleaned-*"))
        assert found == {}
        assert [path for path in restored.folders.atlas.glob("images/**/*") if path.is_file()] == []
        reason = "1 images cannot be kept (IMAGE_BURNED_IN 1)"
        assert [remark.partition(";")[0] for remark in said["remarks"]] == [reason]
        code, started = restored.up("--no-demo")
        assert (code, started["phase"]) == (0, "ready")
        with Client(f"http://127.0.0.1:{restored.port}", timeout_s=60) as client:
            assert client.record("old-jpeg-0").original_sha256
            assert extras(client.image("old-jpeg-0").data) == set()
    finally:
        clear(restored)
    assert traces_on_disk(restored.data) == {}
