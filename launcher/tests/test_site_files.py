"""The folder of a static site: filled, interrupted, filled again, and never one with other files in it."""

from pathlib import Path

import pytest

from mirage_launcher.errors import SiteError
from mirage_launcher.site.files import SiteFiles


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_an_export_that_was_interrupted_goes_on_in_its_folder(tmp_path: Path) -> None:
    first = SiteFiles(tmp_path / "site")
    first.put("images/a.png", b"a")
    first.put("images/b.png", b"b")

    again = SiteFiles(tmp_path / "site")
    assert again.has("images/a.png")
    again.put("index.html", b"page")
    assert again.finish() == 1
    assert names(tmp_path / "site") == {".mirage-site", "images/a.png", "index.html"}


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")

    with pytest.raises(SiteError, match="other files"):
        SiteFiles(tmp_path)
    assert names(tmp_path) == {"letter.txt"}


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SiteError, match="cannot be used"):
        SiteFiles(tmp_path / "file" / "site")
