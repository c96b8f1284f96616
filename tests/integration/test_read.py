"""A reading through the whole system: gateway, reader, encoder and retriever as they are."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mirage_atlas
from mirage.cli.entry import run
from mirage.client import AsyncClient, Client
from mirage.errors import ApiError
from mirage_api.readings import ReadDone, ReadEvidence, ReadKind, ReadLabel, ReadSimilar, ReadStep
from tests.support import image_bombs
from tests.support.dicom_builder import dicom

ORDER = ["ReadKind", "ReadChecklist", "ReadEvidence", "ReadLabel", "ReadSimilar", "ReadContext", "ReadDone"]


@pytest.fixture
def client(system: Any) -> Any:
    with Client(system.http_url, timeout_s=120) as client:
        yield client


def rendering(client: Client, plane: str) -> tuple[str, bytes]:
    """A rendering of a plane, and its file."""
    found = client.search("brain MRI", k=1, where={"plane": [plane], "modality": ["mr"]}).results[0]
    return found.id, client.image(found.id).data


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_an_image_is_read_from_kind_to_end(client: Client, plane: str) -> None:
    id_, image = rendering(client, plane)
    events = list(client.read(image))
    assert [type(each).__name__ for each in events if not isinstance(each, ReadStep)] == ORDER
    kind, evidence, label = (next(e for e in events if isinstance(e, t)) for t in (ReadKind, ReadEvidence, ReadLabel))
    assert isinstance(kind, ReadKind)
    assert (kind.name, kind.medical) == ("brain-mr", "medical")
    assert isinstance(evidence, ReadEvidence)
    assert evidence.cases >= 3
    # The file is a record's own image: neither it nor its case is evidence.
    assert all(id_ not in value.ids for facet in evidence.facets for value in facet.values)
    assert isinstance(label, ReadLabel)
    labels = client.record(id_).labels
    assert label.properties
    assert all(each.value in labels[each.facet] for each in label.properties)
    done = events[-1]
    assert isinstance(done, ReadDone)
    assert (done.finish, done.not_for_diagnosis) == ("complete", True)
    assert "not for diagnosis" in done.disclaimer


async def test_a_record_is_read_by_its_id(system: Any, client: Client) -> None:
    id_, _ = rendering(client, "coronal")
    async with AsyncClient(system.http_url, timeout_s=120) as asynchronous:
        events = [event async for event in asynchronous.read(record_id=id_)]
    kind, similar = events[0], next(each for each in events if isinstance(each, ReadSimilar))
    assert isinstance(kind, ReadKind)
    assert kind.view is not None
    assert (kind.view.value, kind.view.source) == ("coronal", "record")
    assert similar.results
    assert id_ not in [each.id for each in similar.results]


def test_a_question_in_words_ends_without_evidence(client: Client) -> None:
    events = list(client.read(text="What does hydrocephalus look like on MRI?"))
    assert [type(each).__name__ for each in events] == ["ReadLabel", "ReadSimilar", "ReadContext", "ReadDone"]
    assert isinstance(events[0], ReadLabel)
    assert events[0].finding == "hydrocephalus"
    (declined,) = client.read(text="what is the weather tomorrow in paris")
    assert isinstance(declined, ReadDone)
    assert declined.finish == "other_topic"


def _png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 90).save(file, "PNG")
    return file.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "a PDF": (lambda: b"%PDF-1.7\n" + b"x" * 200, "IMAGE_FORMAT_UNSUPPORTED"),
    "1 x 1": (lambda: _png(1, 1), "IMAGE_TOO_SMALL"),
    "more than 50 megapixels": (lambda: _png(10_000, 5_001), "IMAGE_TOO_MANY_PIXELS"),
    "no bytes": (lambda: b"", "IMAGE_EMPTY"),
    "half a file": (lambda: _png(400, 400)[:120], "IMAGE_UNREADABLE"),
    "a bomb": (image_bombs.dicom_frames, "IMAGE_TOO_COSTLY"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_with_its_reason(client: Client, name: str) -> None:
    make, code = BAD[name]
    with pytest.raises(ApiError) as error:
        list(client.read(make()))
    assert error.value.code == code


def test_an_unknown_collection_is_refused(client: Client) -> None:
    with pytest.raises(ApiError) as error:
        list(client.read(rendering(client, "axial")[1], collection="nowhere"))
    assert error.value.code == "COLLECTION_NOT_FOUND"


def test_of_a_series_in_one_file_one_frame_is_read(client: Client) -> None:
    _, image = rendering(client, "axial")
    frame = np.asarray(Image.open(io.BytesIO(image)).convert("L"))
    events = list(client.read(dicom(np.stack([frame, frame[::-1]]))))
    assert isinstance(events[-1], ReadDone)
    assert events[-1].finish == "complete"


def test_a_photograph_is_declined(client: Client) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG")
    events = list(client.read(file.getvalue()))
    assert [type(each) for each in events] == [ReadKind, ReadDone]
    assert isinstance(events[-1], ReadDone)
    assert events[-1].finish == "not_medical"


def test_the_command_reads_in_words_and_in_json(
    system: Any, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.png"
    path.write_bytes(rendering(client, "axial")[1])
    assert run(["read", str(path), "--url", system.http_url]) == 0
    shown = capsys.readouterr().out
    for part in ("Kind: modality mr", "1. Sequence and plane", "Evidence:", "Label:", "not for diagnosis"):
        assert part in shown
    assert run(["read", str(path), "--url", system.http_url, "--body-part", "knee", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"]["body_part"] == {
        "value": "knee", "score": 1.0, "sure": True, "source": "caller", "others": []
    }  # fmt: skip
    assert document["checklist"]["items"] == []
    assert document["done"]["not_for_diagnosis"] is True
    assert run(["read", "--url", system.http_url]) == 2
    assert run(["read", str(path), "--record", "r1", "--url", system.http_url]) == 2


def test_readings_of_a_folder_are_measured(system: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(Path(mirage_atlas.__file__).parent / "demo/data")
    assert run(["eval", "read", folder, "--limit", "4", "--url", system.http_url, "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert measured["subject"] == "read"
    assert measured["notes"][0] == "4 images read, 0 declined."
    first = next(each for each in measured["figures"] if each["name"] == "label among the first three")
    assert 0 <= first["low"] <= first["high"] <= 1
    assert run(["eval", "read", folder, "--split", "nothing", "--url", system.http_url]) == 1
    assert "no image to read" in capsys.readouterr().err


def test_a_folder_of_which_no_image_can_be_read_is_an_error_with_the_reason(
    system: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere.png").write_bytes(b"not looked at")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "image.png").symlink_to(tmp_path / "elsewhere.png")
    row = {"id": "a", "file": "image.png", "caption": "A chest X-ray.", "licence": "CC0-1.0", "source": "own"}
    (folder / "captions.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    assert run(["eval", "read", str(folder), "--url", system.http_url]) == 1
    assert "no image to read: rows refused: 1, the first because: " in capsys.readouterr().err
