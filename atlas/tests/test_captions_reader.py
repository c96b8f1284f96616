"""The reader of `captions.jsonl` folders: what it gives, and what it refuses."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from mirage_atlas.facets import map_labels
from mirage_atlas.jsonl import LINE_BYTES, CaptionsReader
from mirage_atlas.readers import open_reader
from mirage_atlas.records import AtlasRecord, BadRow
from mirage_core.regions import REGIONS_BYTES

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


def test_a_case_is_a_field_and_no_label(folder: Path) -> None:
    (record,) = read(folder, GOOD | {"case_id": "c1", "position": 2, "split": "dev"})
    assert isinstance(record, AtlasRecord)
    assert (record.case_id, record.position) == ("c1", 2)
    assert record.original_labels == {"split": "dev"}


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
    assert found[1] == BadRow(2, "the line is not JSON", "captions.jsonl")


@pytest.mark.parametrize(
    "file", ["../a.png", "/etc/hosts", "images/../../a.png", "..\\a.png", "C:\\a.png", "", "images/a.png\0", None]
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

    assert [each.reason for each in found if isinstance(each, BadRow)] == [
        "the file is a link that leaves the folder"
    ] * 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ["x"]}, "the id is missing"),
        ({"id": True}, "the id is missing"),
        ({"id": "  "}, "the id is missing"),
        ({"caption": "  "}, "the caption is missing"),
        ({"caption": "x" * 20_001}, "the caption is too long"),
        ({"file": "images/none.png"}, "the file is missing"),
        ({"sha256": "zz"}, "the sha256 is not a hex digest"),
    ],
)
def test_a_faulty_field_is_named(folder: Path, change: dict[str, object], reason: str) -> None:
    assert only_reason(read(folder, GOOD | change)) == reason


def test_a_repeated_id_is_reported(folder: Path) -> None:
    assert read(folder, GOOD, GOOD)[1] == BadRow(2, "the id was used before (line 1)", "captions.jsonl")


def test_an_endless_line_is_skipped_without_being_kept(folder: Path) -> None:
    long = json.dumps(GOOD | {"id": "long", "caption": "y" * (3 * LINE_BYTES)}).encode()

    found = read(folder, long, GOOD)

    assert found[0] == BadRow(1, "the line is too long", "captions.jsonl")
    assert isinstance(found[1], AtlasRecord)


def test_verifying_compares_the_image_with_its_digest(folder: Path) -> None:
    right = GOOD | {"sha256": hashlib.sha256(b"picture a").hexdigest()}
    wrong = GOOD | {"id": "a2", "sha256": hashlib.sha256(b"other").hexdigest()}

    found = read(folder, right, wrong, verify=True)

    assert isinstance(found[0], AtlasRecord)
    assert found[1] == BadRow(2, "the image differs from its sha256", "captions.jsonl")


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
    records = [record for record in found if isinstance(record, AtlasRecord)]
    assert [record.original_labels["id"] for record in records] == own
    ids = [record.id for record in records]
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", id_) for id_ in ids)
    again = read(folder, *(GOOD | {"id": id_} for id_ in own))
    assert ids == [record.id for record in again if isinstance(record, AtlasRecord)]


def test_a_row_that_gives_no_record_does_not_use_up_its_id(folder: Path) -> None:
    found = read(folder, GOOD | {"file": "images/none.png"}, GOOD, GOOD)
    assert [getattr(each, "reason", "") for each in found] == [
        "the file is missing",
        "",
        "the id was used before (line 2)",
    ]


def test_markup_in_a_caption_stays_the_text_that_it_is(folder: Path) -> None:
    caption = "<script>alert(1)</script><b>CT</b>"
    (record,) = read(folder, GOOD | {"caption": caption})
    assert isinstance(record, AtlasRecord)
    assert record.caption == caption


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_and_line_ends_of_other_programs(folder: Path, encoding: str, ends: bytes) -> None:
    rows = [GOOD | {"caption": "für Röntgen"}, GOOD | {"id": "a2"}]
    text = ends.decode().join(json.dumps(row, ensure_ascii=False) for row in rows) + ends.decode()
    (folder / "captions.jsonl").write_bytes(text.encode(encoding))
    found = list(CaptionsReader(folder).read())
    assert [(each.id, each.line) for each in found if isinstance(each, AtlasRecord)] == [("a1", 1), ("a2", 2)]
    assert isinstance(found[0], AtlasRecord)
    assert found[0].caption == "für Röntgen"


def test_several_objects_of_a_line_are_several_rows(folder: Path) -> None:
    two = json.dumps(GOOD) + json.dumps(GOOD | {"id": "a2"})
    listed = json.dumps([GOOD | {"id": "a3"}, GOOD | {"id": "a4"}, 5])
    found = read(folder, two.encode(), listed.encode(), (json.dumps(GOOD | {"id": "a5"}) + " rest").encode())
    assert [getattr(each, "id", getattr(each, "reason", "")) for each in found] == [
        "a1", "a2", "a3", "a4", "the line is not an object", "a5", "the line is not JSON",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", [b"\xff\xfe{}", b'{"id": "a1", "x\0": 1}', b"[" * 100_000, b"null", b'"x"', b"\x00", b"[]"]
)
def test_a_line_that_is_no_row_is_one_complaint(folder: Path, line: bytes) -> None:
    found = read(folder, GOOD, line, GOOD | {"id": "a2"})
    assert [type(each) for each in found] == [AtlasRecord, BadRow, AtlasRecord]


def test_texts_that_cannot_be_sent_are_made_plain(folder: Path) -> None:
    (record,) = read(
        folder,
        GOOD
        | {
            "caption": "CT\x00 of\x1b[31m the \ud800 chest.\r\nSecond line.",
            "licence": "a\nb",
            "labels": {"finding\n": "x\x00\ny", "number": 7, "ratio": 0.5, "yes": True},
        },
    )
    assert isinstance(record, AtlasRecord)
    assert record.caption == "CT of[31m the \N{REPLACEMENT CHARACTER} chest.\nSecond line."
    assert record.labels["licence"] == ("a b",)
    assert record.labels["finding"] == ("x y",)
    assert record.original_labels == {"finding": "x\ny", "number": "7", "ratio": "0.5"}


def test_a_long_label_is_cut_for_its_facet_and_kept_whole(folder: Path) -> None:
    long = "Wörter " * 30
    (record,) = read(folder, GOOD | {"labels": {"finding": [long, "short"], "location": long}, "licence": long})
    assert isinstance(record, AtlasRecord)
    assert all(0 < len(value) <= 64 for values in record.labels.values() for value in values)
    assert record.original_labels["finding"] == f"{long.strip()}; short"
    assert record.licence == long.strip()


def test_a_row_without_an_id_gets_one_of_the_dataset(folder: Path) -> None:
    row = {"file": "images/a.png", "caption": "CT"}
    (record,) = read(folder, row)
    (again,) = read(folder, row | {"id": None})
    assert isinstance(record, AtlasRecord)
    assert isinstance(again, AtlasRecord)
    assert record.id == again.id
    assert record.made_id


def test_keys_about_people_are_left_out_and_named_wherever_they_are(folder: Path) -> None:
    (folder / "captions.jsonl").write_text(
        json.dumps(
            GOOD
            | {
                "patientName": "Mustermann", "history": "not kept", "MRN": 4711,
                "labels": {"Nachname": "Mustermann", "plane": "axial", "Fecha de nacimiento": "1970"},
                "original_labels": {"(0010,0010)": "Mustermann", "structure name": "thalamus"},
            }
        )
        + "\n"
    )  # fmt: skip
    reader = CaptionsReader(folder)
    (record,) = reader.read()
    assert "Mustermann" not in repr(record)
    assert "1970" not in repr(record)
    assert isinstance(record, AtlasRecord)
    assert record.original_labels == {"structure name": "thalamus"}
    assert sorted(reader.left_out.people) == ["(0010,0010)", "Fecha de nacimiento", "MRN", "Nachname", "patientName"]


def test_another_file_of_captions_can_be_named(folder: Path) -> None:
    (folder / "mine.jsonl").write_text(json.dumps(GOOD) + "\n")
    assert [type(each) for each in open_reader("captions", folder / "mine.jsonl").read()] == [AtlasRecord]


LEGEND = [{"id": 1, "name": "liver", "group": "organs", "colour": "#d98e5f"}, {"id": 2, "name": "spleen"}]


def with_regions(folder: Path, **changes: object) -> dict[str, object]:
    (folder / "masks").mkdir()
    (folder / "masks" / "a.png").write_bytes(b"label map")
    return GOOD | {"regions": {"file": "masks/a.png", "legend": LEGEND} | changes}


def test_a_label_map_comes_with_its_legend(folder: Path) -> None:
    (record,) = read(folder, with_regions(folder))

    assert isinstance(record, AtlasRecord)
    assert record.regions is not None
    assert record.regions.png == b"label map"
    liver, spleen = record.regions.legend
    assert (liver.id, liver.name, liver.group, liver.colour) == (1, "liver", "organs", "#d98e5f")
    # A structure without a colour gets one.
    assert (spleen.id, spleen.name, spleen.group) == (2, "spleen", "")
    assert re.fullmatch("#[0-9a-f]{6}", spleen.colour)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"legend": None}, "regions is not an object with a file and a legend"),
        ({"legend": []}, "regions is not an object with a file and a legend"),
        ({"legend": ["liver"]}, "an entry of the legend is not an object"),
        ({"legend": LEGEND + LEGEND}, "its legend has the number 1 twice"),
        ({"legend": [{"id": n, "name": "x"} for n in range(1, 2_000)]}, "its legend has more than 255 structures"),
        ({"legend": [{"id": "1", "name": "x"}]}, "its legend has a number outside of 1 to 255"),
        ({"legend": [{"id": 1, "name": {}}]}, "the name of number 1 is not one line"),
        ({"legend": [{"id": 1, "name": "x", "colour": 5}]}, "the colour of number 1 is not of the form"),
        ({"file": "masks/b.png"}, "label map: the file is missing"),
        ({"file": "../a.png"}, "label map: the file lies outside the folder"),
        ({"file": None}, "label map: the file name is missing"),
    ],
)
def test_a_wrong_label_map_is_refused_with_its_record(folder: Path, changes: dict[str, object], reason: str) -> None:
    assert reason in only_reason(read(folder, with_regions(folder, **changes)))


def test_a_label_map_that_is_too_large_is_refused(folder: Path) -> None:
    row = with_regions(folder)
    (folder / "masks" / "a.png").write_bytes(bytes(REGIONS_BYTES + 1))
    assert only_reason(read(folder, row)) == "label map: it is too large"


def test_regions_that_are_not_an_object_are_refused(folder: Path) -> None:
    assert "is not an object" in only_reason(read(folder, GOOD | {"regions": "masks/a.png"}))


@pytest.mark.parametrize(
    ("word", "modality"),
    [
        ("microscopy", ("microscopy",)),
        ("light microscopy, histology", ("histology",)),
        ("dermoscopy", ("dermoscopy",)),
        ("Colonoscopy", ("endoscopy",)),
        ("optical coherence tomography", ("oct",)),
        ("computed tomography", ("ct",)),
    ],
)
def test_a_modality_of_the_vocabulary_is_kept_and_other_words_are_mapped(word: str, modality: tuple[str, ...]) -> None:
    assert map_labels({"modality": word}, {})[0]["modality"] == modality
