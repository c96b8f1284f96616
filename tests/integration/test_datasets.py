"""`mirage index` on datasets as they come: nothing about people stays, nothing is lost or replaced without a word."""

import io
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from mirage.client import Client
from mirage.errors import ApiError
from mirage.uploads import Upload

Index = Callable[..., tuple[int, dict[str, Any], str]]


def put_picture(path: Path, seed: int) -> None:
    """Noise, another for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24), dtype=np.uint8)
    Image.fromarray(pixels).resize((96, 96)).save(path)


@pytest.fixture
def client(system: Any) -> Iterator[Client]:
    with Client(system.http_url, timeout_s=60) as client:
        yield client


@pytest.fixture
def spare(client: Client) -> Iterator[str]:
    """A collection of the test's own; it is gone afterwards, and the one before is active."""
    active = next(each.name for each in client.collections() if each.active)
    yield "datasets"
    client.activate_collection(active)
    if "datasets" in {each.name for each in client.collections()}:
        client.delete_collection("datasets")


@pytest.fixture
def index(system: Any, spare: str) -> Index:
    """Runs `mirage index ... --into` the test's collection: exit code, its JSON, and what it said."""

    def call(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, dict[str, Any], str]:
        command = [
            *system.command_line,
            "index",
            *map(str, arguments),
            "--into",
            spare,
            "--json",
            "--url",
            system.http_url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout), done.stderr

    return call


def stored(client: Client, spare: str) -> list[Any]:
    return list(client.records(collection=spare).records)


def test_nothing_about_people_is_stored_or_said(index: Index, client: Client, spare: str, tmp_path: Path) -> None:
    people = "name,Patient Name,PatientID,MRN,DOB,Referring Physician,Fecha de nacimiento,Nachname"
    values = "Erika Mustermann,Mustermann^Erika,P-4711,4712,1970-01-01,Dr. John Doe,01/01/1970,Mustermann"
    rows = [f"{n}.png,Axial brain {n},here,{values}" for n in range(3)]
    for n in range(3):
        put_picture(tmp_path / "set" / f"{n}.png", n)
    (tmp_path / "set" / "t.csv").write_text(
        "\n".join([f"file,caption,source,{people}", *rows, f"none.png,x,y,{values}"])
    )
    report = tmp_path / "report.jsonl"
    code, tally, said = index(tmp_path / "set", "--report", report)
    assert (code, tally["created"], tally["refused"]) == (1, 3, 1)
    assert tally["left_out"] == {"people": people.split(",")}
    assert f"left out 8 columns about people: {people.replace(',', ', ')}" in said
    written = [json.loads(line) for line in report.read_text().splitlines()]
    assert [each["outcome"] for each in written] == ["refused", "left out"]
    assert (written[0]["file"], written[0]["line"]) == ("t.csv", 5)
    everything = repr(client.records(collection=spare))
    for text in (everything, said, json.dumps(tally), report.read_text()):
        for value in ("usterm", "4711", "4712", "1970", "Doe"):
            assert value not in text


def test_an_upsert_over_http_leaves_out_what_is_about_people(client: Client, spare: str) -> None:
    client.create_collection(spare)
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((64, 64)).save(buffer, "PNG")
    labels = {"(0010,0010)": "Mustermann^Erika", "Versichertennummer": "4711", "structure name": "thalamus"}
    upload = Upload("person", "CT", buffer.getvalue(), original_labels=labels, licence="CC0-1.0", source="test")
    (outcome,) = client.upsert([upload], collection=spare)
    assert (outcome.state, sorted(outcome.left_out)) == ("created", ["(0010,0010)", "Versichertennummer"])
    assert [dict(each.original_labels) for each in stored(client, spare)] == [{"structure name": "thalamus"}]


def test_a_table_in_the_current_folder_has_the_folders_name(
    index: Index, client: Client, spare: str, tmp_path: Path
) -> None:
    put_picture(tmp_path / "set" / "a.png", 10)
    (tmp_path / "set" / "t.csv").write_text("file,caption\na.png,CT of the chest\n")
    assert index("t.csv", cwd=tmp_path / "set")[1]["created"] == 1
    assert index(".", cwd=tmp_path / "set")[1]["unchanged"] == 1
    assert [each.source for each in stored(client, spare)] == ["set"]


def test_odd_names_and_long_labels_lose_no_row(index: Index, client: Client, spare: str, tmp_path: Path) -> None:
    names = ["scan..40.png", ".hidden.png", "a b.png", "\N{GREEK SMALL LETTER ALPHA}.png", "x.png", "..y..png"]
    long = "All rights reserved. " * 9
    with (tmp_path / "t.csv").open("w") as table:
        table.write("id,file,caption,licence,finding\n")
        for number, name in enumerate(names):
            put_picture(tmp_path / name, 20 + number)
            table.write(f'{name},{name},Axial number {number},"{long}","two\nlines {long}"\n')
    code, tally, said = index(tmp_path)
    assert (code, tally["created"], tally["rows"]) == (0, 6, 6), said
    records = stored(client, spare)
    assert {each.licence for each in records} == {long.strip()}
    assert all(len(each.labels["finding"][0]) <= 64 for each in records)
    assert {each.original_labels["finding"] for each in records} == {f"two\nlines {long}".strip()}


def test_datasets_with_the_same_names_of_files_and_folders_are_both_kept(
    index: Index, client: Client, spare: str, tmp_path: Path
) -> None:
    for seed, folder in enumerate(("one/set", "two/set", "three/other")):
        for n in (1, 2):
            put_picture(tmp_path / folder / f"{n}.png", 30 + 10 * seed + n)
        (tmp_path / folder / "t.csv").write_text(f"file,caption\n1.png,CT {folder} 1\n2.png,CT {folder} 2\n")
        assert index(tmp_path / folder)[1]["created"] == 2
    assert len({each.caption for each in stored(client, spare)}) == 6
    for folder in ("one/set", "two/set", "three/other"):
        assert index(tmp_path / folder)[1]["unchanged"] == 2


def test_searches_do_not_turn_to_a_collection_of_an_empty_run(
    index: Index, client: Client, spare: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "captions.jsonl").touch()
    active = client.collection().name
    code, problem, said = index(tmp_path / "empty", "--activate")
    assert (code, problem["code"]) == (1, "NOTHING_STORED")
    assert "has no rows" in said
    assert spare not in {each.name for each in client.collections()}
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "t.csv").write_text("file,caption\nnone.png,CT\n")
    code, tally, said = index(tmp_path / "bad", "--activate")
    assert (code, tally["code"], tally["refused"]) == (1, "NOTHING_STORED", 1)
    assert "t.csv line 2: the file is missing [BAD_ROW]" in said
    assert client.collection().name == active


@pytest.mark.parametrize(
    "table", ["", "sep=;\n", "caption\nx\n", "file,caption\n", "file;finding\na;b\n", "\0\0\0\0", '"'], ids=range(7)
)
def test_a_table_that_cannot_be_read_is_one_line_with_a_code(index: Index, tmp_path: Path, table: str) -> None:
    (tmp_path / "t.csv").write_text(table)
    code, problem, said = index(tmp_path)
    assert (code, problem["code"]) in ((1, "INPUT_INVALID"), (1, "NOTHING_STORED"))
    assert len(said.strip().splitlines()) == 1


# DICOM


def put_dicom(path: Path, number: int, place: float) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.3680043.8.498.7.{number}")
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.7"
    dataset.PatientName = "Mustermann^Erika"
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.InstanceNumber = number
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, place]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.Rows = dataset.Columns = 64
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.random.default_rng(number).integers(0, 2_000, (64, 64), dtype=np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def test_a_series_is_one_record_that_grows_with_its_16_bits(
    index: Index, client: Client, spare: str, tmp_path: Path
) -> None:
    for number, place in enumerate([0.0, 20.0, 10.0], start=1):
        put_dicom(tmp_path / f"Mustermann_{number}.dcm", number, place)
    (tmp_path / "README").write_text("Mustermann's images")
    code, tally, said = index(tmp_path)
    assert (code, tally["created"], tally["left_out"]) == (0, 1, {"others": ["file 4"]}), said
    (record,) = stored(client, spare)
    assert record.caption == "Axial CT of the chest, section 2 of 3."
    assert record.pixels is not None
    assert record.pixels.unit == "HU"
    assert (record.pixels.windows[0].center, record.pixels.windows[0].width) == (40, 400)
    assert index(tmp_path)[1]["unchanged"] == 1
    for number in (4, 5):
        put_dicom(tmp_path / f"Mustermann_{number}.dcm", number, number * 10.0)
    assert index(tmp_path)[1]["updated"] == 1
    (grown,) = stored(client, spare)
    assert grown.id == record.id
    assert grown.caption == "Axial CT of the chest, section 3 of 5."
    client.activate_collection(spare)
    shown = Image.open(io.BytesIO(client.image(grown.id, variant="pixels").data))
    values = np.asarray(shown).astype(float) * grown.pixels.slope + grown.pixels.intercept
    expected = np.random.default_rng(2).integers(0, 2_000, (64, 64), dtype=np.uint16).astype(float) - 1024
    assert np.array_equal(values, expected)
    assert "usterm" not in repr(grown) + said


def test_files_that_give_no_picture_are_named_by_number_and_reason(index: Index, tmp_path: Path) -> None:
    put_dicom(tmp_path / "a_Mustermann.dcm", 1, 0)
    (tmp_path / "c_Mustermann.dcm").write_bytes(b"\0" * 300)
    code, tally, said = index(tmp_path)
    assert (code, tally["created"], tally["refused"], tally["rows"]) == (1, 1, 1, 2)
    assert tally["complaints"][0]["where"] == "file 2"
    assert "file 2: the file is not DICOM [BAD_ROW]" in said
    assert "usterm" not in said + json.dumps(tally)


# What is asked of the atlas


def test_filters_are_taken_in_any_case_and_unknown_values_are_answered_with_the_known(client: Client) -> None:
    same = [
        client.search("brain", k=50, where={name: (value,)})
        for name, value in (("plane", "sagittal"), ("Plane", "SAGITTAL "))
    ]
    assert [one.id for one in same[0].results] == [one.id for one in same[1].results] != []
    assert client.facets(where={"PLANE": ("Sagittal",)}) == client.facets(where={"plane": ("sagittal",)})
    with pytest.raises(ApiError) as caught:
        client.search("brain", where={"modality": ("MRI",)})
    assert caught.value.code == "FACET_VALUE_INVALID"
    assert "known are: ct, dermoscopy, endoscopy, fundus, histology" in str(caught.value)


def test_a_filter_that_leaves_nothing_is_answered_with_the_values_that_there_are(system: Any) -> None:
    command = [*system.command_line, "search", "brain", "--where", "body_part=toe", "--url", system.http_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "no record has body_part=toe; there are: brain" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("facets",), ("facets", "--json"), ("search", "brain"), ("search", "brain", "--json"),
        ("compare", "brain", "--minus", "t1"),
        ("collections", "list"), ("status",), ("classify", "a.png"), ("record", "show", "none", "--json"),
        ("search", "--json"), ("jobs", "list", "--json"), ("models", "list"), ("--help",), ("index", "--help"),
    ],
    ids=lambda arguments: " ".join(arguments),
)  # fmt: skip
def test_a_full_disk_behind_the_output_is_one_line(system: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    put_picture(tmp_path / "a.png", 1)
    environment = {**os.environ, "MIRAGE_URL": system.http_url, "MIRAGE_DATA": str(system.data)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*system.command_line, *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environment, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be written: No space left on device [OUTPUT_FAILED]" in done.stderr.splitlines()[-1]
