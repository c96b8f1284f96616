"""`mirage export site`: what it writes, what it refuses, and that a second export writes what changed only."""

import gzip
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirage.client import Client
from mirage_launcher.site.licences import allows_copies
from tests.support.waiting import until


def export(system: Any, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command."""
    command = [*system.command_line, "export", "site", str(folder), "--url", system.http_url, "--json", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def content(folder: Path, file: dict[str, Any]) -> bytes:
    """A file of the site, put together as its page does it."""
    stored = b"".join((folder / path).read_bytes() for path, _ in file["parts"])
    whole = gzip.decompress(stored) if file["packed"] else stored
    assert len(whole) == file["bytes"]
    return whole


def files_of(folder: Path) -> dict[str, str]:
    """Every file with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def exported(system: Any, models: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the atlas as a site."""
    folder = tmp_path_factory.mktemp("site") / "out"
    with Client(system.http_url) as client:
        # Calibrated while it grew, the atlas is once more after it has grown by a quarter.
        until(lambda: (about := client.collection()).calibration and about.records < 1.25 * about.calibration.records)
    done = export(system, folder, "--models", models, "--where", "plane=axial", "--limit", "20")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["records"] == 20
    return folder


def test_a_site_holds_what_a_search_needs(exported: Path, system: Any) -> None:
    head = json.loads((exported / "site.json").read_bytes())
    records, details = (json.loads(content(exported, head["files"][name])) for name in ("records", "details"))
    assert len(records) == len(details) == head["records"] == 20
    with Client(system.http_url) as client:
        about = client.collection()
        stored = {each.id: each for each in client.records(limit=1000, vectors=True).records}
    assert head["collection"]["fingerprint"] == about.fingerprint
    vectors = np.frombuffer(content(exported, head["files"]["vectors"]), "<f2").reshape(20, -1)
    neighbours = np.frombuffer(content(exported, head["files"]["neighbours"])[: 20 * 10 * 4], "<u4").reshape(20, 10)
    whole = np.array([np.frombuffer(stored[each["id"]].vectors()[0] or b"", "<f4") for each in records])
    assert np.abs(vectors - whole).max() < 1e-3
    scores = whole @ whole.T
    np.fill_diagonal(scores, -2)
    assert np.array_equal(neighbours[:, 0], scores.argmax(axis=1))
    for record in records:
        assert record["labels"]["plane"] == ["axial"]
        assert record["licence"] == stored[record["id"]].licence
        thumbnail = record["thumbnail_url"].lstrip("/")
        image = thumbnail.replace("thumbnails", "images").removesuffix("webp") + head["images"][record["image_type"]]
        assert (exported / thumbnail).stat().st_size > 0
        assert hashlib.sha256((exported / image).read_bytes()).hexdigest()[:32] in image
    for detail, record in zip(details, records, strict=True):
        assert detail["original_labels"] == stored[record["id"]].original_labels
    licences = (exported / "licences.txt").read_text()
    assert all(f"attribution: {record['attribution']}" in licences for record in records if record["attribution"])


def test_a_second_export_writes_only_what_changed(exported: Path, system: Any, models: str, tmp_path: Path) -> None:
    before = files_of(exported)
    options = ("--models", models, "--where", "plane=axial", "--limit", "20")
    again = export(system, exported, *options)
    assert json.loads(again.stdout)["written"] == 0
    assert files_of(exported) == before
    other = export(system, tmp_path / "other", *options)
    assert other.returncode == 0
    assert files_of(tmp_path / "other") == before
    fewer = json.loads(export(system, tmp_path / "other", *options[:-1], "19", "--no-images").stdout)
    assert fewer["removed"] > 0
    assert not (tmp_path / "other" / "images").exists()
    assert json.loads((tmp_path / "other" / "site.json").read_bytes())["records"] == 19


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--where", "plane=nowhere"), "plane"),
        (("--where", "body_part=tail"), "no record to export"),
        (("--assets-url", "files.example"), "not an address"),
        (("--collection", "absent"), "absent"),
        (("--models", "/nowhere"), "not a directory"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_reason(
    system: Any, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = export(system, tmp_path / "site", *options)
    assert done.returncode == 1
    assert words in json.loads(done.stdout)["detail"]
    assert not (tmp_path / "site" / "index.html").exists()


def test_a_folder_with_other_files_is_left_alone(system: Any, models: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = export(system, tmp_path, "--models", models)
    assert done.returncode == 1
    assert "other files" in json.loads(done.stdout)["detail"]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("CC-BY-4.0", True),
        ("cc by-nc-sa 3.0", True),
        ("CC0-1.0", True),
        ("MIT", True),
        ("mni-icbm152", True),
        ("Public domain", True),
        ("no known restrictions", True),
        ("not stated", False),
        ("all rights reserved", False),
        ("PhysioNet Credentialed Health Data License 1.5.0", False),
        ("", False),
    ],
)
def test_only_licences_that_are_known_to_allow_copies_pass(licence: str, allowed: bool) -> None:
    assert allows_copies(licence) is allowed
    assert allows_copies(licence, frozenset({"all-rights-reserved", "not-stated"})) is (
        allowed or licence in ("all rights reserved", "not stated")
    )
