"""The readers of other formats, on small datasets made here: what they give, what they leave out and why."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mirage_atlas.concepts import facets_of
from mirage_atlas.licences import licence_name
from mirage_atlas.readers import count_rows, detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow, DatasetError

Found = list[AtlasRecord | BadRow]


def picture(shade: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), shade).save(buffer, "PNG")
    return buffer.getvalue()


def read(name: str, path: Path) -> Found:
    return list(open_reader(name, path).read())


def records(found: Found) -> list[AtlasRecord]:
    return [each for each in found if isinstance(each, AtlasRecord)]


def reasons(found: Found) -> list[str]:
    return [each.reason for each in found if isinstance(each, BadRow)]


# ROCO, version 1


@pytest.fixture
def roco(tmp_path: Path) -> Path:
    folder = tmp_path / "validation" / "radiology"
    (folder / "images").mkdir(parents=True)
    files = {
        "captions.txt": "ROCO_1\t Axial CT of the chest, left nodule. \n"
        "ROCO_2\tLateral radiograph of the knee.\nROCO_3\tno image\n"
        "ROCO_4\nROCO_1\tagain\n" + "ROCO_5\t" + "x" * 100_001 + "\nROCO_6\tT2 MRI of the brain <b>x</b>.\n",
        "keywords_tp_val_revised.txt": "ROCO_1\tct\tchest\nROCO_2\tknee\n",
        "cuis_tp_val_revised.txt": "ROCO_1\tC0040405\tC0817096\n",
        "semtypes.txt": "ROCO_1\tT060\tDiagnostic Procedure\n",
        "licences.txt": "ROCO_ID,PMC_ID,CC\nROCO_1,PMC1_a.jpg,CC BY\nROCO_2,PMC2_b.jpg,CC BY-NC-ND\n"
        "ROCO_6,PMC6_c.jpg,NO-CC CODE\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "images" / "ROCO_1.jpg").write_bytes(picture())
    # As the authors' script names them.
    (folder / "images" / "PMC2_b.jpg").write_bytes(picture(50))
    (folder / "images" / "PMC6_c.jpg").write_bytes(picture(60))
    (tmp_path / "train" / "non-radiology").mkdir(parents=True)
    (tmp_path / "train" / "non-radiology" / "captions.txt").write_text("ROCO_9\tA drawing.\n")
    return tmp_path


def test_roco_gives_captions_concepts_licence_and_article(roco: Path) -> None:
    first, second, third = records(read("roco", roco))
    assert first.id == "ROCO_1"
    assert first.caption == "Axial CT of the chest, left nodule."
    assert first.labels["modality"] == ("ct",)
    assert first.labels["plane"] == ("axial",)
    assert first.labels["body_part"] == ("chest",)
    assert first.labels["side"] == ("left",)
    assert first.labels["licence"] == ("cc-by",)
    assert (first.licence, first.source) == ("CC-BY", "PubMed Central PMC1, by ROCO")
    assert first.original_labels["cuis"] == "C0040405 C0817096"
    assert first.original_labels["semtypes"] == "Diagnostic Procedure"
    assert first.original_labels["split"] == "validation"
    assert second.read_image() == picture(50)
    assert second.labels["plane"] == ("lateral",)
    assert third.licence == "not stated"
    assert third.labels["sequence"] == ("t2",)


def test_roco_names_what_it_leaves_out(roco: Path) -> None:
    assert reasons(read("roco", roco)) == [
        "the image is missing (the download leaves some out)",
        "the image is missing (the download leaves some out)",
        "the line is too long or has no id and caption",
        "the id was used before (validation/radiology/captions.txt line 1)",
        "the line is too long or has no id and caption",
    ]


def test_roco_is_recognised_from_above_and_counted(roco: Path) -> None:
    assert detect_reader(roco) == detect_reader(roco / "validation" / "radiology") == "roco"
    assert count_rows("roco", roco) == 8


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_roco_is_read_as_other_programs_save_it(roco: Path, encoding: str, ends: str) -> None:
    folder = roco / "validation" / "radiology"
    for file in folder.glob("*.txt"):
        text = file.read_text(encoding="utf-8").replace("chest,", "chést,").replace("\n", ends)
        file.write_bytes(text.encode(encoding))
    first, second, third = records(read("roco", roco))
    assert (first.id, first.licence, first.line) == ("ROCO_1", "CC-BY", 1)
    assert first.caption == "Axial CT of the chést, left nodule."
    assert (second.id, third.id) == ("ROCO_2", "ROCO_6")


def test_roco_images_are_found_in_another_case_or_format(roco: Path) -> None:
    images = roco / "validation" / "radiology" / "images"
    (images / "ROCO_1.jpg").rename(images / "roco_1.PNG")
    (images / "PMC2_b.jpg").rename(images / "pmc2_b.jpeg")
    assert [each.id for each in records(read("roco", roco))] == ["ROCO_1", "ROCO_2", "ROCO_6"]


def test_what_roco_leaves_out_is_named_with_its_file(roco: Path) -> None:
    places = [(each.file, each.line) for each in read("roco", roco) if isinstance(each, BadRow)]
    assert places[0] == ("train/non-radiology/captions.txt", 1)
    assert places[1:] == [("validation/radiology/captions.txt", line) for line in (3, 4, 5, 6)]


# ROCOv2


def test_rocov2_joins_its_tables(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for name in ("ROCOv2_2023_test_000001", "ROCOv2_2023_test_000002"):
        (tmp_path / "test" / f"{name}.jpg").write_bytes(picture())
    (tmp_path / "test_captions.csv").write_text(
        'ID,Caption\nROCOv2_2023_test_000001,"Chest, frontal view."\nROCOv2_2023_test_000002,Unclear.\nmissing,x\n../x,y\n'
    )
    (tmp_path / "test_concepts.csv").write_text("ID,CUIs\nROCOv2_2023_test_000002,C0024485;C0006141\n")
    (tmp_path / "test_concepts_manual.csv").write_text("ID,CUIs\nROCOv2_2023_test_000001,C1306645\n")
    (tmp_path / "license_information.csv").write_text(
        "ID,PMCID,License,Attribution\nROCOv2_2023_test_000001,PMC7,CC BY 4.0,A. Author\n"
    )
    found = read("rocov2", tmp_path)
    first, second = records(found)
    assert first.labels["modality"] == ("x-ray",)
    assert first.labels["plane"] == ("frontal",)
    assert (first.licence, first.attribution, first.source) == (
        "CC-BY-4.0",
        "A. Author",
        "PubMed Central PMC7, by ROCOv2",
    )
    assert second.labels["modality"] == ("mr",)
    assert second.labels["body_part"] == ("breast",)
    assert reasons(found) == ["the image is missing", "the file lies outside the folder"]
    assert detect_reader(tmp_path) == "rocov2"
    assert count_rows("rocov2", tmp_path) == 4


@pytest.mark.parametrize("table", ["caption,finding\nx,y\n", "ID,finding\nx,y\n", "", "\n"])
def test_rocov2_without_ids_or_captions_is_refused_at_once(tmp_path: Path, table: str) -> None:
    (tmp_path / "test_captions.csv").write_text(table)
    with pytest.raises(DatasetError, match=r"test_captions\.csv: the table"):
        open_reader("rocov2", tmp_path)


def test_rocov2_in_utf16_and_with_columns_about_people(tmp_path: Path) -> None:
    (tmp_path / "Test").mkdir()
    (tmp_path / "Test" / "x1.JPG").write_bytes(picture())
    (tmp_path / "test_captions.csv").write_text("ID;Caption;Patient Name\nX1;Brust;Mustermann\n", encoding="utf-16")
    reader = open_reader("rocov2", tmp_path)
    (record,) = records(list(reader.read()))
    assert (record.id, record.caption, record.line) == ("X1", "Brust", 2)
    assert "Mustermann" not in repr(record)
    assert list(reader.left_out.people) == ["Patient Name"]


# Parquet


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path)


def test_parquet_shards_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    image = {"bytes": picture(), "path": "a.jpg"}
    rows = [
        {"image": image, "image_id": "R1", "caption": "CT of the abdomen.", "cui": ["C0040405"]},
        {"image": {"bytes": None, "path": "b.jpg"}, "image_id": "R2", "caption": "x", "cui": []},
        {"image": image, "image_id": "R3", "caption": "", "cui": []},
        {"image": image, "image_id": "R1", "caption": "again", "cui": []},
    ]
    write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", rows)
    (tmp_path / "data" / "train-00001-of-00002.parquet").write_bytes(b"PAR1 broken")
    write_parquet(tmp_path / "data" / "validation-0.parquet", [{"text": "no image"}])
    found = read("parquet", tmp_path)
    (record,) = records(found)
    assert record.read_image() == picture()
    assert record.labels["modality"] == ("ct",)
    assert record.original_labels["split"] == "train"
    assert reasons(found) == [
        "the file is missing",
        "the caption is missing",
        "the id was used before (data/train-00000-of-00002.parquet row 1)",
        "a shard cannot be read to its end",
        "a shard has no column for the image",
    ]
    assert detect_reader(tmp_path) == "parquet"
    assert count_rows("parquet", tmp_path / "data" / "train-00000-of-00002.parquet") == 4


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary", "binary", "int64"])
def test_parquet_ids_and_captions_of_any_type(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids: Any = ["7", "8"]
    types = {"string": pa.string(), "large_string": pa.large_string(), "int64": pa.int64(), "binary": pa.string()}
    array = pa.array(ids).dictionary_encode() if kind == "dictionary" else pa.array(
        [7, 8] if kind == "int64" else ids, types[kind]
    )  # fmt: skip
    image = pa.array([picture(), picture(1)], pa.large_binary() if kind == "large_string" else pa.binary())
    images = image if kind == "binary" else pa.array([{"bytes": picture(), "path": "a.png"}] * 2)
    captions = pa.array(["CT", "MR"], pa.large_string() if kind == "large_string" else pa.string())
    pq.write_table(pa.table({"Image ID": array, "image": images, "caption": captions}), tmp_path / "a.parquet")
    assert [(each.id, each.line) for each in records(read("parquet", tmp_path))] == [("7", 1), ("8", 2)]


def test_parquet_rows_without_ids_and_with_paths_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.png").write_bytes(picture(2))
    rows = [
        {"image": {"bytes": picture(), "path": "a.png"}, "caption": "CT", "name": "Mustermann", "PatientID": "4711"},
        {"image": {"bytes": None, "path": "images/b.png"}, "caption": "MR", "name": "Mustermann", "PatientID": "4711"},
        {"image": {"bytes": picture(3), "path": None}, "caption": "US", "name": "Mustermann", "PatientID": "4711"},
        {"image": {"bytes": None, "path": "../c.png"}, "caption": "US", "name": "Mustermann", "PatientID": "4711"},
    ]
    write_parquet(tmp_path / "train-0.parquet", rows)
    reader = open_reader("parquet", tmp_path)
    found = list(reader.read())
    assert [each.read_image() for each in records(found)] == [picture(), picture(2), picture(3)]
    assert len({each.id for each in records(found)}) == 3
    assert reasons(found) == ["the file lies outside the folder"]
    assert "Mustermann" not in repr(found)
    assert list(reader.left_out.people) == ["name", "PatientID"]


def test_a_parquet_string_that_is_no_text_spoils_its_own_row_alone(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    broken = pa.array([b"CT", b"\xff\xfe", b"MR"], pa.binary()).view(pa.string())
    images = pa.array([{"bytes": picture(n), "path": f"{n}.png"} for n in range(3)])
    pq.write_table(pa.table({"image": images, "caption": broken}), tmp_path / "a.parquet")
    found = read("parquet", tmp_path)
    assert [each.caption for each in records(found)] == ["CT", "MR"]
    assert [(each.line, each.reason) for each in found if isinstance(each, BadRow)] == [
        (2, "the row has bytes that are not text")
    ]


# Mapping


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Sagittal T2-weighted MRI of the lumbar spine.",
         {"modality": ("mr",), "plane": ("sagittal",), "sequence": ("t2",), "body_part": ("spine",)}),
        ("Contrast-enhanced CT, coronal, left kidney.",
         {"modality": ("ct",), "plane": ("coronal",), "side": ("left",), "body_part": ("abdomen",)}),
        ("Panoramic radiograph showing the mandible.", {"modality": ("x-ray",), "body_part": ("jaw",)}),
        ("Left and right hip.", {"body_part": ("pelvis",)}),
        ("Transverse ultrasound of the thyroid.", {"modality": ("us",), "plane": ("axial",), "body_part": ("neck",)}),
        ("PET-CT of the chest.", {"modality": ("nm",), "body_part": ("chest",)}),
        ("A figure.", {}),
    ],
)  # fmt: skip
def test_words_of_a_caption_become_facets(caption: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert facets_of(caption) == expected


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("CC BY", "CC-BY"), ("cc by-nc-sa 4.0", "CC-BY-NC-SA-4.0"), ("CC0", "CC0-1.0"), ("NO-CC CODE", "not stated"),
        ("", "not stated"), (None, "not stated"), ("all rights reserved", "all rights reserved"),
    ],
)  # fmt: skip
def test_licences_get_their_spdx_names(given: object, name: str) -> None:
    assert licence_name(given) == name
