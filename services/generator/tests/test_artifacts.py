"""Image files are there whole or not at all, and none stays that is nobody's."""

import os
import time
from pathlib import Path

import pytest

from mirage_generator.artifacts import ORPHAN_S, ArtifactFolder


def test_a_file_is_named_by_its_content(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path / "images")
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
        ArtifactFolder(tmp_path).path(name)


def test_what_is_old_and_nobodys_goes(tmp_path: Path) -> None:
    folder = ArtifactFolder(tmp_path)
    kept, orphan, fresh = (folder.write(data) for data in (b"kept", b"orphan", b"fresh"))
    unfinished = folder.path(orphan).with_name(".half")
    unfinished.write_bytes(b"ha")
    long_ago = time.time() - 2 * ORPHAN_S
    for path in (folder.path(kept), folder.path(orphan), unfinished):
        os.utime(path, (long_ago, long_ago))
    assert folder.remove_orphans(lambda digest: digest == kept) == 2
    assert [folder.path(digest).exists() for digest in (kept, orphan, fresh)] == [True, False, True]
