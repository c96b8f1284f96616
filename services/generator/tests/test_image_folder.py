"""Image files are there whole or not at all, and none stays that is nobody's."""

import os
import time
from pathlib import Path

import pytest

from mirage_generator.image_folder import ORPHAN_S, SUBFOLDERS, ImageFolder


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    folder = ImageFolder(tmp_path / "images")
    digest = folder.write(b"a picture")
    assert folder.path(digest).read_bytes() == b"a picture"
    assert folder.write(b"a picture") == digest
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    folder.remove(digest)
    folder.remove(digest)
    assert not folder.path(digest).exists()


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63])
def test_no_other_name_leads_to_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        ImageFolder(tmp_path).path(name)


@pytest.mark.parametrize("left", [".{}.4711", ".{}.png.0a1b2c3d.new"])
def test_what_is_old_and_nobodys_goes(tmp_path: Path, left: str) -> None:
    folder = ImageFolder(tmp_path)
    kept, orphan, fresh = (folder.write(data) for data in (b"kept", b"orphan", b"fresh"))
    unfinished = folder.path(orphan).with_name(left.format(orphan))
    unfinished.write_bytes(b"ha")
    age(folder.path(kept), folder.path(orphan), unfinished)
    assert sum(folder.remove_orphans(subfolder, lambda digest: digest == kept) for subfolder in SUBFOLDERS) == 2
    assert [folder.path(digest).exists() for digest in (kept, orphan, fresh)] == [True, False, True]
    assert not unfinished.exists()


def test_a_folder_that_was_named_by_mistake_loses_nothing_of_its_own(tmp_path: Path) -> None:
    digest = "ab" * 32
    own = [tmp_path / "de" / "page.html", tmp_path / "ab" / ".keep", tmp_path / "ab" / f"{digest}.jpg"]
    own += [tmp_path / "AB" / f"{digest}.png", tmp_path / "zz" / f"{digest}.png", tmp_path / f"{digest}.png"]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    # A file where a subfolder would be.
    own.append(tmp_path / "00")
    own[-1].touch()
    age(*own)
    folder = ImageFolder(tmp_path)
    assert sum(folder.remove_orphans(subfolder, lambda _: False) for subfolder in SUBFOLDERS) == 0
    assert all(path.exists() for path in own)


def age(*paths: Path) -> None:
    """As if they had been written long ago."""
    long_ago = time.time() - 2 * ORPHAN_S
    for path in paths:
        os.utime(path, (long_ago, long_ago))
