"""The generator that comes along, in a whole MIRAGE as `mirage up` starts it."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageFilter

from mirage.cli.entry import run
from mirage.client import Client
from mirage.errors import ApiError
from mirage.jobs import JobOptions
from mirage.provenance import read_provenance


def made(client: Client, prompt: str, seed: int) -> bytes:
    """The file of an image of that prompt."""
    job = client.create_job(prompt, JobOptions(seed=seed))
    for _ in client.watch_job(job.id):
        pass
    return client.job_image(job.id).data


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_an_image_shows_the_plane_that_was_asked_for(system: Any, plane: str) -> None:
    with Client(system.http_url, timeout_s=60) as client:
        files = [made(client, f"{plane} T1 brain MRI", seed) for seed in range(6)]
    found = []
    for file in files:
        # The gate may decline what was made: it is soft, and has a band that says that it was generated.
        body = {"image": base64.b64encode(file).decode(), "k": 3, "accept_any_image": True}
        reply = httpx.post(f"{system.http_url}/v1/search", json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        found += [result["labels"].get("plane") for result in reply.json()["results"]]
    # Of eighteen of the atlas's images that are nearest to what was made; by chance six.
    assert found.count([plane]) >= 11, found


def test_a_lesion_lies_on_the_side_that_was_asked_for(system: Any) -> None:
    right = 0
    with Client(system.http_url, timeout_s=60) as client:
        for side in ("left", "right"):
            for seed in range(10):
                file = made(client, f"axial T2 brain MRI, hyperintense lesion in the {side} frontal lobe", seed)
                shown = Image.open(io.BytesIO(file)).convert("L").crop((0, 0, 160, 150))
                soft = np.asarray(shown.filter(ImageFilter.GaussianBlur(4)), dtype=np.float32)
                # Brighter than its mirror image, as the brain itself is symmetric; the patient's left is the picture's right.
                column = int((soft - soft[:, ::-1]).max(axis=0).argmax())
                right += (column > 80) == (side == "left")
    # Of twenty; by chance ten, and fifteen or more in one of fifty.
    assert right >= 15


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("chest x-ray with pneumonia", "pneumonia"),
        ("left ventricle of the heart", "heart"),
        ("axial CT of the brain", "ct"),
        ("a holiday in Rome", "rome"),
    ],
)
def test_what_the_bundle_cannot_draw_is_declined_with_what_it_can(system: Any, prompt: str, word: str) -> None:
    with Client(system.http_url, timeout_s=60) as client:
        before = {job.id for job in client.jobs().jobs}
        with pytest.raises(ApiError) as declined:
            client.create_job(prompt)
        assert {job.id for job in client.jobs().jobs} == before
    assert (declined.value.code, declined.value.status) == ("PROMPT_OUTSIDE", 422)
    assert "one averaged brain" in declined.value.message
    assert word in declined.value.metadata["words"].split(", ")


def test_the_command_line_says_why_it_declines(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIRAGE_URL", system.http_url)
    assert run(["generate", "knee MRI", "-o", str(tmp_path / "knee.png")]) == 1
    assert "does not know: knee" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_images_are_compared_with_their_prompts(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = 0
    with Client(system.http_url, timeout_s=60) as client:
        for plane in ("axial", "coronal", "sagittal"):
            job = client.create_job(f"{plane} T1 brain MRI", JobOptions(seed=1, images=4))
            for _ in client.watch_job(job.id):
                pass
            for image in client.job(job.id).images:
                assert image.checked
                seen = {each.aspect: (each.asked, each.seen) for each in image.checks}
                assert set(seen) == {"modality", "plane", "sequence"}
                assert seen["plane"][0] == plane
                right += seen["plane"][1] == plane
    # Of twelve; by chance four.
    assert right >= 9
    monkeypatch.setenv("MIRAGE_URL", system.http_url)
    assert run(["generate", "axial T1 brain MRI", "--seed", "1", "-o", str(tmp_path / "a.png")]) == 0
    assert "compared with the text by the encoder: modality mr; plane axial" in capsys.readouterr().err


def test_the_command_line_makes_an_image_and_makes_it_again(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIRAGE_URL", system.http_url)
    file = tmp_path / "thalami.png"
    assert run(["generate", "axial T1 brain MRI, thalami", "--seed", "7", "-o", str(file), "--json"]) == 0
    said = read_provenance(file.read_bytes())
    assert said is not None
    assert (said.bundle, said.seed, said.steps, said.width) == ("mini-generator", 7, 4, 160)
    assert said.visible_mark
    capsys.readouterr()
    assert run(["generate", "--replay", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_what_was_made_cannot_join_the_atlas(system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_URL", system.http_url)
    with Client(system.http_url, timeout_s=60) as client:
        before = client.collection().records
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "made.png").write_bytes(made(client, "axial T2 brain MRI", 3))
        row = {"id": "made", "file": "images/made.png", "caption": "Axial T2.", "licence": "CC0-1.0"}
        (tmp_path / "captions.jsonl").write_text(json.dumps(row) + "\n")
        assert run(["index", str(tmp_path), "--json"]) == 1
        assert client.collection().records == before
