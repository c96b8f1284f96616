"""Backups of older versions hold the files that had come in: none of them is on the disk after a restoration."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mirage.cli.entry import run
from mirage_core import limits
from mirage_core.image_cleaning import Journal
from mirage_core.image_store import IMAGES, THUMBNAILS, ImageStore

NAME = b"PLANTED^NAME^51c0"
FLAGS = "atlas/flags.jsonl"
Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def mirage(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process: exit code and JSON."""

    def call(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        code = run([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8))


def png(number: int) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", NAME.decode())
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def jpeg(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = NAME.decode()
    buffer = io.BytesIO()
    picture(number).resize((300, 300)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def old_content(*files: bytes) -> dict[str, bytes]:
    """What an older version stored, by the names of a backup."""
    content = {FLAGS: b"", "atlas/images/00/.half.new": files[0][:200]}
    for data in files:
        sha256 = digest(data)
        content[f"atlas/images/{sha256[:2]}/{sha256}"] = data
        content[f"atlas/thumbnails/{sha256[:2]}/{sha256}"] = NAME
    return content


def write_backup(path: Path, content: dict[str, bytes], *, number: int = 1, order: int = 1) -> Path:
    """A backup as an older version wrote it."""
    files = {name: [len(data), digest(data)] for name, data in content.items()}
    head: dict[str, Any] = {"format": number, "mirage": "0.0.9", "created": "2026-01-01T00:00:00Z", "parts": ["atlas"]}
    head |= {"collections": {}, "counts": {}, "folders": ["atlas/images/ff", "atlas/empty"], "files": files}
    with tarfile.open(path, "w:gz") as tar:
        for name, data in [("mirage-backup.json", json.dumps(head).encode()), *list(content.items())[::order]]:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def planted(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and NAME in path.read_bytes()]


@pytest.mark.parametrize("order", [1, -1])
def test_an_older_backup_is_cleaned_as_it_is_restored(tmp_path: Path, mirage: Command, order: int) -> None:
    files = [png(1), jpeg(2), png(3)]
    backup = write_backup(tmp_path / "old.tar.gz", old_content(*files), order=order)
    code, said = mirage("restore", backup, "--data", tmp_path / "new")
    assert (code, said["remarks"]) == (0, [])
    atlas = tmp_path / "new" / "atlas"
    assert planted(tmp_path / "new") == []
    assert not (atlas / "images").exists()
    assert not (atlas / "thumbnails").exists()
    assert (atlas / "empty").is_dir()
    store, journal = ImageStore(atlas), Journal(atlas).read()
    assert set(journal) == {digest(data) for data in files}
    for data in files:
        stored = journal[digest(data)].stored
        assert stored is not None
        assert not journal[digest(data)].changed
        shown = Image.open(io.BytesIO(store.file(IMAGES, stored.image_sha256)))
        assert shown.size == (stored.width, stored.height) == Image.open(io.BytesIO(data)).size
        reading, thumbnail = store.read(THUMBNAILS, stored.image_sha256)
        reading.close()
        assert Image.open(io.BytesIO(thumbnail)).format == "WEBP"
    assert [path for path in (atlas, *atlas.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_what_is_no_image_is_left_out_and_named(tmp_path: Path, mirage: Command) -> None:
    damaged, empty, zeros = jpeg(1)[:600], b"", bytes(300_000) + NAME + bytes(300_000)
    large = bytes(limits.IMAGE_BYTES) + NAME
    content = old_content(png(2), damaged, empty, zeros, large)
    backup = write_backup(tmp_path / "old.tar.gz", content)
    code, said = mirage("restore", backup, "--data", tmp_path / "new")
    assert code == 0
    assert said["remarks"] == [
        "4 images cannot be kept (IMAGE_EMPTY 1, IMAGE_FORMAT_UNSUPPORTED 1, IMAGE_TOO_LARGE 1, IMAGE_UNREADABLE 1); "
        "the next start removes the records that show them"
    ]
    assert planted(tmp_path / "new") == []
    journal = Journal(tmp_path / "new" / "atlas").read()
    assert {one.refused for one in journal.values() if one.stored is None} == {
        *("IMAGE_EMPTY", "IMAGE_FORMAT_UNSUPPORTED", "IMAGE_TOO_LARGE", "IMAGE_UNREADABLE")
    }
    assert sum(one.stored is not None for one in journal.values()) == 1


def test_a_backup_that_is_damaged_leaves_nothing_of_it(tmp_path: Path, mirage: Command) -> None:
    content = old_content(png(1), png(2), png(3))
    name = next(name for name in reversed(content) if name.startswith("atlas/images/"))
    backup = write_backup(tmp_path / "old.tar.gz", content)
    with tarfile.open(backup) as tar:
        file = tar.extractfile("mirage-backup.json")
        assert file is not None
        head = json.load(file)
    wrong = {**content, name: png(4)}
    head["files"][name][1] = digest(png(5))
    with tarfile.open(backup, "w:gz") as tar:
        for member, data in [("mirage-backup.json", json.dumps(head).encode()), *wrong.items()]:
            header = tarfile.TarInfo(member)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    (tmp_path / "there" / "atlas").mkdir(parents=True)
    (tmp_path / "there" / "atlas" / "flags.jsonl").write_bytes(b"mine")
    code, problem = mirage("restore", backup, "--data", tmp_path / "there", "--replace")
    assert (code, problem["code"]) == (1, "BACKUP_INVALID")
    left = [path for path in (tmp_path / "there" / "atlas").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in left] == [b"mine"]


def test_an_atlas_that_was_killed_while_it_was_cleaned_comes_back_clean(tmp_path: Path, mirage: Command) -> None:
    """Some of its images are clean, one of them in both forms, and its journal says so of all but one."""
    old = tmp_path / "old"
    half = old_content(png(1), png(2), png(3))
    first = mirage("restore", write_backup(tmp_path / "a.tar.gz", old_content(png(1), png(2))), "--data", old)
    assert first[0] == 0
    for name, data in half.items():
        if digest(png(1)) not in name:
            (old / name).parent.mkdir(parents=True, exist_ok=True)
            (old / name).write_bytes(data)
    assert mirage("backup", tmp_path / "half.tar.gz", "--data", old)[0] == 0
    code, _ = mirage("restore", tmp_path / "half.tar.gz", "--data", tmp_path / "new")
    assert code == 0
    assert planted(tmp_path / "new") == []
    journal = Journal(tmp_path / "new" / "atlas").read()
    assert set(journal) == {digest(png(number)) for number in (1, 2, 3)}
    store = ImageStore(tmp_path / "new" / "atlas")
    assert len(list(store.digests(IMAGES))) == 3
    assert all(one.stored and store.has(one.stored.image_sha256) for one in journal.values())
