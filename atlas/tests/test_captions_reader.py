"""The reader of `captions.jsonl` folders: what it gives, and what it refuses."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from mirage_atlas.jsonl import LINE_BYTES, CaptionsReader
from mirage_atlas.readers import open_reader
from mirage_atlas.records import AtlasRecord, BadRow

GOOD = {"id": "a1", "file": "images/a.png", "caption": "Axial CT of the chest."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"picture a")
    return tmp_path


def read(folder: Path, *rows: object, verify: bool = False) -> list[AtlasRecord | BadRow]:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return list(CaptionsReader(folder, verify=verify).read())


def only_reason(found: list[AtlasRecord | BadRow]) -> str:
    (bad,) = found
    assert isinstance(bad, BadRow)
    return bad.reason


def test_a_row_becomes_a_record_with_facets_and_the_sources_own_words(folder: Path) -> None:
    (record,) = read(
        folder,
        GOOD
        | {
            "labels": {"modality": "MR - T2 weighted", "plane": "Axial", "location": "Brain and Neuro"},
            "licence": "CC BY 4.0",
        },
    )

    assert isinstance(record, AtlasRecord)
    assert record.labels == {
        "modality": ("mr",),
        "sequence": ("t2",),
        "plane": ("axial",),
        "body_part": ("brain",),
        "licence": ("cc by 4.0",),
    }
    assert record.original_labels["modality"] == "MR - T2 weighted"
    assert record.licence == "CC BY 4.0"
    assert record.read_image() == b"picture a"


def test_labels_about_a_person_are_dropped(folder: Path) -> None:
    (record,) = read(
        folder,
        GOOD | {"labels": {"age": "73", "Sex": "male", "plane": "Coronal"}, "original_labels": {"patient_name": "x"}},
    )

    assert isinstance(record, AtlasRecord)
    assert record.labels == {"plane": ("coronal",), "licence": ("not stated",)}
    assert set(record.original_labels) == {"plane"}


def test_a_bad_row_is_reported_in_its_place_and_the_next_one_is_read(folder: Path) -> None:
    found = read(folder, GOOD, b"{not json", GOOD | {"id": "a2"})

    assert [type(item) for item in found] == [AtlasRecord, BadRow, AtlasRecord]
    assert found[1] == BadRow(2, "the line is not JSON")


@pytest.mark.parametrize(
    "file", ["../a.png", "/etc/hosts", "images/../../a.png", "images\\a.png", "", "images/a.png\0", None]
)
def test_a_file_outside_the_folder_is_refused(folder: Path, file: str | None) -> None:
    assert "file" in only_reason(read(folder, GOOD | {"file": file}))


def test_a_link_is_refused_wherever_it_stands_on_the_way(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "b.png").write_bytes(b"secret")
    (folder / "linked").symlink_to(outside)
    (folder / "images" / "b.png").symlink_to(outside / "b.png")

    found = read(folder, GOOD | {"file": "linked/b.png"}, GOOD | {"id": "a2", "file": "images/b.png"})

    assert found == [BadRow(1, "the file is missing or a link"), BadRow(2, "the file is missing or a link")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ["x"]}, "the id is missing"),
        ({"id": None}, "the id is missing"),
        ({"caption": "  "}, "the caption is missing"),
        ({"caption": "x" * 20_001}, "the caption is too long"),
        ({"file": "images/none.png"}, "the file is missing or a link"),
        ({"sha256": "zz"}, "the sha256 is not a hex digest"),
    ],
)
def test_a_faulty_field_is_named(folder: Path, change: dict[str, object], reason: str) -> None:
    assert only_reason(read(folder, GOOD | change)) == reason


def test_a_repeated_id_is_reported(folder: Path) -> None:
    assert read(folder, GOOD, GOOD)[1] == BadRow(2, "the id was used before")


def test_an_endless_line_is_skipped_without_being_kept(folder: Path) -> None:
    long = json.dumps(GOOD | {"id": "long", "caption": "y" * (3 * LINE_BYTES)}).encode()

    found = read(folder, long, GOOD)

    assert found[0] == BadRow(1, "the line is too long")
    assert isinstance(found[1], AtlasRecord)


def test_verifying_compares_the_image_with_its_digest(folder: Path) -> None:
    right = GOOD | {"sha256": hashlib.sha256(b"picture a").hexdigest()}
    wrong = GOOD | {"id": "a2", "sha256": hashlib.sha256(b"other").hexdigest()}

    found = read(folder, right, wrong, verify=True)

    assert isinstance(found[0], AtlasRecord)
    assert found[1] == BadRow(2, "the image differs from its sha256")


def test_readers_are_opened_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match="no captions"):
        open_reader("captions", folder)
    (folder / "captions.jsonl").touch()
    assert isinstance(open_reader("captions", folder), CaptionsReader)
    with pytest.raises(ValueError, match="no such reader"):
        open_reader("other", folder)
    with pytest.raises(ValueError, match="needs a folder"):
        open_reader("captions")


def test_an_id_that_no_server_takes_gets_one_that_it_does(folder: Path) -> None:
    own = ["../a/b", "\N{GREEK SMALL LETTER ALPHA}/1", "x" * 300, "a b"]
    found = read(folder, *(GOOD | {"id": id_} for id_ in own))
    assert all(isinstance(record, AtlasRecord) for record in found)
    assert [record.original_labels["id"] for record in found] == own
    ids = [record.id for record in found]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", id_) for id_ in ids)
    assert ids == [record.id for record in read(folder, *(GOOD | {"id": id_} for id_ in own))]


def test_a_row_that_gives_no_record_does_not_use_up_its_id(folder: Path) -> None:
    found = read(folder, GOOD | {"file": "images/none.png"}, GOOD, GOOD)
    assert [getattr(each, "reason", "") for each in found] == [
        "the file is missing or a link",
        "",
        "the id was used before",
    ]


def test_markup_in_a_caption_stays_the_text_that_it_is(folder: Path) -> None:
    caption = "<script>alert(1)</script><b>CT</b>"
    (record,) = read(folder, GOOD | {"caption": caption})
    assert record.caption == caption
