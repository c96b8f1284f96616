"""Files of a dataset by the names that it has for them, links, and ids."""

import os
import re
import unicodedata
from pathlib import Path

import pytest

from mirage_atlas.folder import Folder, Ids, RowError, former_id
from mirage_atlas.readers import detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow

STUDY = "\N{LATIN SMALL LETTER E WITH ACUTE}tude.png"


def put(path: Path, data: bytes = b"picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def reason(folder: Folder, name: object) -> str:
    with pytest.raises(RowError) as caught:
        folder.image(name)
    return str(caught.value)


def rows(path: Path) -> tuple[list[AtlasRecord], list[str]]:
    name = detect_reader(path)
    assert name is not None
    found = list(open_reader(name, path).read())
    return [each for each in found if isinstance(each, AtlasRecord)], [
        each.reason for each in found if isinstance(each, BadRow)
    ]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.png", "a.png"),
        ("images/a.png", "a.png"),
        ("images/w 1.png", "images\\w 1.png"),
        ("images/deep/w.png", ".\\images\\deep\\w.png"),
        ("a.png", "./a.png"),
        ("a.png", "  a.png "),
        ("sub/a.png", "sub//a.png"),
        ("a.png", "sub/../a.png"),
        (unicodedata.normalize("NFD", STUDY), unicodedata.normalize("NFC", STUDY)),
        (unicodedata.normalize("NFC", STUDY), unicodedata.normalize("NFD", STUDY)),
        (unicodedata.normalize("NFD", f"{STUDY[:-4]}/b.png"), f"{STUDY[:-4]}/b.png"),
        ("IMG_1.png", "img_1.PNG"),
        ("Images/IMG_1.PNG", "images/img_1.png"),
        ("my file.png", "my%20file.png"),
        ("a%20b.png", "a%20b.png"),
        ("17a.png", "17a"),
        ("17a.png", "17a.jpg"),
        ("17a.v2.png", "17a.v2"),
        ("scan..40.png", "scan..40.png"),
        (".hidden.png", ".hidden.png"),
        ("a\\b.png", "a\\b.png"),
    ],
)
def test_a_file_is_found_as_other_systems_write_its_name(tmp_path: Path, file: str, name: str) -> None:
    put(tmp_path / file)
    assert Folder(tmp_path).image(name) == tmp_path / file


def test_a_name_may_be_absolute_within_the_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    assert Folder(tmp_path).image(str(tmp_path.resolve() / "a.png")) == tmp_path / "a.png"


def test_the_exact_name_goes_first_and_a_doubtful_one_is_refused(tmp_path: Path) -> None:
    for name in ("IMG.png", "img.png", "x.png", "x.jpg"):
        put(tmp_path / name)
    folder = Folder(tmp_path)
    assert folder.image("img.png").name == "img.png"
    assert folder.image("x.jpg").name == "x.jpg"
    assert reason(folder, "Img.png") == "more than one file fits the name"
    assert reason(folder, "x") == "more than one file fits the name"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "the file name is missing or not plain"),
        (None, "the file name is missing or not plain"),
        (7, "the file name is missing or not plain"),
        ("a\0.png", "the file name is missing or not plain"),
        ("x" * 5_000, "the file name is missing or not plain"),
        ("x" * 300 + ".png", "the file is missing"),
        ("none.png", "the file is missing"),
        ("\ud800.png", "the file is missing"),
        ("sub", "the file is missing"),
        (".", "the file is missing"),
        ("../a.png", "the file lies outside the folder"),
        ("sub/../../a.png", "the file lies outside the folder"),
        ("%2e%2e/a.png", "the file is missing"),
        ("..\\a.png", "the file is missing"),
        ("/etc/passwd", "the file lies outside the folder"),
        ("C:\\data\\a.png", "the file is missing"),
        ("https://example.org/a.png", "the file is an address of the web"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(tmp_path: Path, name: object, why: str) -> None:
    (tmp_path / "set" / "sub").mkdir(parents=True)
    put(tmp_path / "a.png")
    assert reason(Folder(tmp_path / "set"), name) == why


def test_a_file_that_is_too_large_or_special_is_refused(tmp_path: Path) -> None:
    with put(tmp_path / "large.png").open("r+b") as file:
        file.truncate(20_000_001)
    os.mkfifo(tmp_path / "pipe.png")
    folder = Folder(tmp_path)
    assert reason(folder, "large.png") == "the file is too large"
    assert reason(folder, "pipe.png") == "the file is not a regular file"


# Links


def download(tmp_path: Path) -> Path:
    """A dataset as a hub's client leaves it: every file a link to a blob that is named after its content."""
    repository = tmp_path / "hub" / "datasets--someone--set"
    snapshot = repository / "snapshots" / ("c" * 40)
    rows = b"file,caption\na.png,CT of the chest\nimages/b.png,MR\n"
    for number, (name, data) in enumerate({"t.csv": rows, "a.png": b"a", "images/b.png": b"b"}.items()):
        blob = put(repository / "blobs" / f"{number:040x}", data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_folder_of_links_to_its_own_store_is_read(tmp_path: Path) -> None:
    snapshot = download(tmp_path)
    for path in (snapshot, snapshot / "t.csv"):
        records, bad = rows(path)
        assert bad == []
        assert [each.read_image() for each in records] == [b"a", b"b"]
        assert records[0].source == "c" * 40


def test_a_folder_of_links_to_blobs_next_to_it_is_read(tmp_path: Path) -> None:
    put(tmp_path / "blobs" / "1", b"a")
    folder = tmp_path / "set"
    put(folder / "t.csv", b"file,caption\na.png,CT\n")
    (folder / "a.png").symlink_to("../blobs/1")
    records, bad = rows(folder)
    assert bad == []
    assert records[0].read_image() == b"a"


def test_a_link_within_the_folder_is_read(tmp_path: Path) -> None:
    put(tmp_path / "store" / "1.png", b"a")
    (tmp_path / "a.png").symlink_to("store/1.png")
    (tmp_path / "images").symlink_to("store")
    folder = Folder(tmp_path)
    assert folder.image("a.png").read_bytes() == folder.image("images/1.png").read_bytes() == b"a"


def test_a_link_that_leaves_the_folder_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "secret.png", b"secret")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").symlink_to("../secret.png")
    (folder / "sub").symlink_to("..")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "broken.png").symlink_to("none.png")
    for name in ("a.png", "sub/secret.png", "device.png"):
        assert reason(Folder(folder), name) == "the file is a link that leaves the folder"
    follows = Folder(folder, follow_links=True)
    assert follows.image("a.png").read_bytes() == follows.image("sub/secret.png").read_bytes() == b"secret"
    assert reason(follows, "device.png") == "the file is not a regular file"
    assert reason(follows, "loop.png") == "the file cannot be read"
    assert reason(follows, "broken.png") == "the file is missing"


def test_a_store_of_blobs_that_is_a_link_itself_is_none(tmp_path: Path) -> None:
    put(tmp_path / "private" / "1", b"secret")
    (tmp_path / "set").mkdir()
    (tmp_path / "blobs").symlink_to("private")
    (tmp_path / "set" / "a.png").symlink_to("../blobs/1")
    assert reason(Folder(tmp_path / "set"), "a.png") == "the file is a link that leaves the folder"


# The folder's own name


@pytest.mark.parametrize("given", ["t.csv", "./t.csv", ".", "./", "../set/t.csv", "../set", "../link", "../link/t.csv"])
def test_the_source_is_the_folders_real_name_however_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    put(tmp_path / "set" / "t.csv", b"file,caption\na.png,CT\n")
    put(tmp_path / "set" / "a.png")
    (tmp_path / "link").symlink_to("set")
    monkeypatch.chdir(tmp_path / "set")
    records, bad = rows(Path(given))
    assert bad == []
    assert records[0].source == "set"
    assert records[0].id == rows(tmp_path / "set")[0][0].id


def test_a_table_that_was_named_by_a_link_is_read_where_it_is(tmp_path: Path) -> None:
    put(tmp_path / "set" / "t.csv", b"file,caption\na.png,CT\n")
    put(tmp_path / "set" / "a.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.csv").symlink_to("../set/t.csv")
    records, bad = rows(tmp_path / "elsewhere" / "mine.csv")
    assert bad == []
    assert records[0].source == "set"


# Ids


VALID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


@pytest.mark.parametrize(
    "own",
    [
        "scan..40.png",
        "...",
        "a b",
        ".hidden",
        "-x",
        "../../etc/x",
        "\N{GREEK SMALL LETTER ALPHA}/1",
        "x" * 300,
        "a\nb",
        "\ud800",
        "..a..b..",
    ],
)
def test_an_id_that_no_server_takes_gets_one_that_it_does(own: str) -> None:
    made, kept = Ids("set").take(own)
    assert VALID.fullmatch(made)
    assert kept["id"]
    assert Ids("other").take(own)[0] == made


def test_whole_numbers_are_ids_however_a_program_wrote_them() -> None:
    assert [Ids("set").take(given)[0] for given in (17, 17.0, "17")] == ["17"] * 3


def test_an_id_is_used_once() -> None:
    ids = Ids("set")
    ids.take("a", "line 2")
    with pytest.raises(RowError, match=r"the id was used before \(line 2\)"):
        ids.take("a", "line 9")
    ids.make("a.png", "line 3")
    with pytest.raises(RowError, match=r"the file was used before \(line 3\); give the rows ids"):
        ids.make("a.png", "line 9")


def test_files_of_one_name_in_two_datasets_get_two_ids() -> None:
    first, _ = Ids("one").make("a.png")
    second, _ = Ids("two").make("a.png")
    assert first != second
    assert (first, second) == (Ids("one").make("a.png")[0], Ids("two").make("a.png")[0])
    assert first.startswith("one-")


@pytest.mark.parametrize("dataset", ["set", "..", "\N{GREEK SMALL LETTER ALPHA}", "x" * 200, "a..b", "-"])
def test_a_made_id_is_valid_and_holds_no_name_of_a_file(dataset: str) -> None:
    made, _ = Ids(dataset).make("Mustermann_Erika.png")
    assert VALID.fullmatch(made)
    assert "usterm" not in made


def test_a_file_has_one_id_in_each_unicode_form() -> None:
    made = [Ids("set").make(unicodedata.normalize(form, STUDY))[0] for form in ("NFC", "NFD")]
    assert made[0] == made[1]


def test_the_id_of_earlier_versions_is_known() -> None:
    assert Ids("set").make("images/a.png")[1] == (former_id("images/a.png"), "a.png")
