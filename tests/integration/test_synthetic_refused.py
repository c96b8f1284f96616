"""No way into the atlas for an image that a model made: each format, each reader, with and without vectors of the caller's."""

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.data import get_testdata_file

from mirage.client import Client
from mirage.queries import Query, Term
from mirage.uploads import Upload
from mirage_api.provenance import Provenance, digest
from mirage_core.synthetic_label import draw_label
from mirage_generator.provenance import encode_png

XMP = b'<a DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
PIXELS = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
COLLECTION = "no-synthetic"


def saved(form: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def marked_png() -> bytes:
    said = PngImagePlugin.PngInfo()
    said.add_text("ai_generated", "true")
    return saved("PNG", pnginfo=said)


def dicom(said: str) -> bytes:
    dataset = pydicom.dcmread(str(get_testdata_file("MR_small.dcm", download=False)))
    dataset.SyntheticData = said
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def made_by_mirage(*, visible_mark: bool) -> bytes:
    height, width = PIXELS.shape[:2]
    provenance = Provenance(
        prompt="axial", negative_prompt="", seed=1, steps=4, guidance_scale=1.0, width=width, height=height, bundle="mini",
        fingerprint="a" * 64, variant="int8", decoder="full", engine="onnxruntime", threads=1, cpu="x86_64", software="MIRAGE",
        job_id="", create_time="2026-11-24T00:00:00+00:00", pixels_sha256=digest(PIXELS.tobytes()),
    )  # fmt: skip
    return encode_png(PIXELS, provenance, visible_mark=visible_mark)


MARKED = {
    "made.png": made_by_mirage(visible_mark=True),
    "unlabelled.png": made_by_mirage(visible_mark=False),
    "texts.png": marked_png(),
    "xmp.jpg": saved("JPEG", xmp=XMP),
    "xmp.webp": saved("WEBP", xmp=XMP),
    "label.jpg": saved("JPEG", draw_label(PIXELS), quality=85),
    "synthetic.dcm": dicom("YES"),
}
FINE = "fine.png", saved("PNG", PIXELS[::-1].copy())


@pytest.fixture
def client(system: Any) -> Iterator[Client]:
    with Client(system.http_url, timeout_s=60) as client:
        yield client
        if COLLECTION in {each.name for each in client.collections()}:
            client.delete_collection(COLLECTION)


def write_jsonl(folder: Path) -> int:
    with (folder / "captions.jsonl").open("w") as lines:
        for number, name in enumerate([*MARKED, FINE[0]]):
            row = {"id": f"s{number}", "file": name, "caption": f"CT {number}", "licence": "CC0-1.0", "source": "test"}
            lines.write(json.dumps({**row, "labels": {}}) + "\n")
    return len(MARKED)


def write_csv(folder: Path) -> int:
    with (folder / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "file", "caption"])
        rows.writerows([f"s{number}", name, f"CT {number}"] for number, name in enumerate([*MARKED, FINE[0]]))
    return len(MARKED)


@pytest.mark.parametrize("write", [write_jsonl, write_csv])
def test_an_index_takes_the_rest_and_names_each_that_was_refused(
    system: Any, client: Client, tmp_path: Path, write: Any
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name, data in {**MARKED, FINE[0]: FINE[1]}.items():
        (folder / name).write_bytes(data)
    refused = write(folder)
    report = tmp_path / "report.jsonl"
    command = [*system.command_line, "index", str(folder), "--into", COLLECTION, "--report", str(report), "--json"]
    done = subprocess.run(
        [*command, "--url", system.http_url], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    tally = json.loads(done.stdout)
    assert (tally["created"], tally["rejected"], tally["refused"]) == (1, refused, refused)
    complaints = [json.loads(line) for line in report.read_text().splitlines()]
    assert [each["code"] for each in complaints] == ["SYNTHETIC_REFUSED"] * refused
    assert len(client.records(collection=COLLECTION).records) == 1


def test_vectors_of_the_callers_own_are_no_way_around(client: Client) -> None:
    collection = client.collection()
    vector = np.zeros(collection.dimension, "<f4")
    vector[0] = 1
    for number, (name, data) in enumerate(MARKED.items()):
        given: dict[str, Any] = {"image_vector": vector.tobytes(), "caption_vector": vector.tobytes()}
        upload = Upload(
            f"s{number}", "CT", data, licence="CC0", source="test", fingerprint=collection.fingerprint, **given
        )
        (outcome,) = client.upsert([upload])
        assert (outcome.state, outcome.error and outcome.error.code) == ("rejected", "SYNTHETIC_REFUSED"), name
    assert all(each.record is None for each in client.look_up([(f"s{number}", "") for number in range(len(MARKED))]))


def test_a_synthetic_image_may_be_searched_with(client: Client) -> None:
    assert client.search(Query((Term(image=MARKED["texts.png"]),), accept_any_image=True), k=3).results
