"""Files out of archives: only those that are named, only regular ones, bounded, and nothing is unpacked to disk."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mirage_atlas.demo import archives
from mirage_atlas.demo.archives import ArchiveError, gunzip, read_members
from tests.support.package_files import sdist, wheel

FILES = {
    "package/data/a.bin": b"a",
    "package/data/b.bin": b"bb",
    "package/code.py": b"raise SystemExit",
    "../outside": b"x",
}


KINDS: dict[str, Callable[[Path], Path]] = {
    "wheel": lambda path: wheel(path, FILES),
    "sdist": lambda path: sdist(path, FILES),
}


@pytest.mark.parametrize("kind", KINDS)
def test_named_files_and_those_of_a_named_folder_are_read_and_nothing_is_written(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path / "archive")

    assert read_members(path, ["package/code.py"]) == {"package/code.py": b"raise SystemExit"}
    assert read_members(path, ["package/data/"]) == {"package/data/a.bin": b"a", "package/data/b.bin": b"bb"}
    assert [each.name for each in tmp_path.rglob("*")] == ["archive"]
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"has no package/c\.bin"):
        read_members(KINDS[kind](tmp_path / "archive"), ["package/c.bin", "package/code.py"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_above_the_limit_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_BYTES", 1)
    path = KINDS[kind](tmp_path / "archive")

    assert read_members(path, ["package/data/a.bin"])
    with pytest.raises(ArchiveError, match="too large"):
        read_members(path, ["package/data/b.bin"])


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_too_large_together_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ARCHIVE_BYTES", 2)

    with pytest.raises(ArchiveError, match="too large"):
        read_members(KINDS[kind](tmp_path / "archive"), ["package/data/"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"noise" * 99])
def test_a_damaged_archive_is_refused(kind: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path / "archive")
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(ArchiveError):
        read_members(path, ["package/code.py"])


@pytest.mark.parametrize("link", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_is_not_followed(link: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(tmp_path / "archive", "w:gz") as archive:
        member = tarfile.TarInfo("package/data")
        member.type, member.linkname = link, str(tmp_path / "secret")
        archive.addfile(member)

    with pytest.raises(ArchiveError, match="has no package/data"):
        read_members(tmp_path / "archive", ["package/data"])


def test_a_gzip_file_is_unpacked_up_to_a_limit() -> None:
    assert gunzip(gzip.compress(b"0" * 1000), 1000) == b"0" * 1000
    with pytest.raises(ArchiveError, match="too large"):
        gunzip(gzip.compress(b"0" * 1001), 1000)


@pytest.mark.parametrize("data", [b"noise", gzip.compress(b"0" * 1000, mtime=0)[:-9]])
def test_a_damaged_gzip_file_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"damaged"):
        gunzip(data)
