"""The readers of other formats, on small datasets made here: what they give, what they leave out and why."""

import csv
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mirage_atlas.concepts import facets_of
from mirage_atlas.licences import licence_name
from mirage_atlas.readers import count_rows, detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow

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
        "the line is too long or no id and caption",
        "the id was used before",
        "the line is too long or no id and caption",
    ]


def test_roco_is_recognised_from_above_and_counted(roco: Path) -> None:
    assert detect_reader(roco) == detect_reader(roco / "validation" / "radiology") == "roco"
    assert count_rows("roco", roco) == 8


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
        "the image is missing",
        "the caption is missing",
        "the id was used before",
        "a shard cannot be read to its end",
        "a shard lacks the column caption",
    ]
    assert detect_reader(tmp_path) == "parquet"
    assert count_rows("parquet", tmp_path / "data" / "train-00000-of-00002.parquet") == 4


# A table with images


def write_table(path: Path, text: str | bytes) -> Path:
    (path / "images").mkdir(exist_ok=True)
    (path / "images" / "a.png").write_bytes(picture())
    (path / "b.png").write_bytes(picture(1))
    table = path / "table.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return table


def test_columns_are_found_by_their_usual_names(tmp_path: Path) -> None:
    table = write_table(
        tmp_path, "\ufeffFilename;Text;License;URL;Plane;Age\r\na.png;CT of the head;CC BY 4.0;here;axial;77\r\n"
    )
    (record,) = records(read("csv", table))
    assert record.id == "a.png"
    assert record.labels["plane"] == ("axial",)
    assert record.labels["modality"] == ("ct",)
    assert (record.licence, record.source) == ("CC-BY-4.0", "here")
    assert "age" not in record.original_labels
    assert detect_reader(tmp_path) == detect_reader(table) == "csv"


def test_bad_rows_of_a_table_are_named_and_the_others_read(tmp_path: Path) -> None:
    rows = [
        "id,file,caption",
        "1,a.png,good",
        "2,a.png",
        "3,../b.png,outside",
        "4,/etc/passwd,outside",
        '5,b.png,"a quote" too much',
        "6,b.png,also good",
        "7,b.png,",
        "8,b.png," + "x" * 20_001,
        "\0,b.png,a nul",
        "6,b.png,the id again",
        "",
        "9,b.png," + "y" * 200_000,
        "10,b.png,the last",
    ]
    found = read("csv", write_table(tmp_path, "\n".join(rows) + "\n"))
    assert [each.id for each in records(found)] == ["1", "6", "10"]
    assert reasons(found) == [
        "the row has 2 fields, the header 3",
        "the file lies outside the folder",
        "the file lies outside the folder",
        "the row is no CSV (a quote that does not end, or too long a field)",
        "the caption is missing",
        "the caption is too long",
        "the row holds bytes that are no text",
        "the id was used before",
        "the row is no CSV (a quote that does not end, or too long a field)",
    ]


def test_a_table_in_another_encoding_is_read(tmp_path: Path) -> None:
    (record,) = records(
        read("csv", write_table(tmp_path, "id,file,caption\n1,a.png,f\xfcr R\xf6ntgen\n".encode("cp1252")))
    )
    assert record.caption == "für Röntgen"


@pytest.mark.parametrize("text", ["", "\n\n", "id,caption\n1,x\n"])
def test_a_table_without_what_every_record_needs_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"header|column"):
        read("csv", write_table(tmp_path, text))


def test_a_million_rows_are_read_in_little_memory(tmp_path: Path) -> None:
    table = write_table(tmp_path, "")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "file", "caption"])
        writer.writerows((n, "none.png", "c") for n in range(1_000_000))
    tracemalloc.start()
    count = 0
    for count, each in enumerate(open_reader("csv", table).read(), start=1):
        if count == 20_000:
            break
        assert isinstance(each, BadRow)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 * 2**20


def test_links_and_special_files_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(picture())
    folder = tmp_path / "set"
    folder.mkdir()
    table = write_table(folder, "id,file,caption\n1,link.png,x\n2,pipe.png,y\n3,sub/secret.png,z\n")
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "sub").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    assert reasons(read("csv", table)) == ["the file is missing or a link"] * 3
    assert detect_reader(folder / "pipe.png") is None


# DICOM


def write_dicom(path: Path, *, pixels: bool = True, **fields: Any) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = fields.get("SOPInstanceUID", generate_uid())
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "Doe^Jane"
    dataset.PatientID = "4711"
    dataset.PatientBirthDate = "19700101"
    dataset.InstitutionName = "Saint Elsewhere"
    dataset.StudyDescription = "for Dr. Miller"
    dataset.StudyDate = "20200202"
    for name, value in fields.items():
        setattr(dataset, name, value)
    if pixels:
        values = np.tile(np.arange(32, dtype=np.uint16) * 30, (32, 1))
        dataset.Rows = dataset.Columns = 32
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = fields.get("PhotometricInterpretation", "MONOCHROME2")
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        frames = int(fields.get("NumberOfFrames", 1))
        dataset.PixelData = np.stack([values] * frames).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def test_a_series_gives_its_middle_section_with_facets_of_coded_headers(tmp_path: Path) -> None:
    series = generate_uid()
    for number in range(1, 6):
        write_dicom(
            tmp_path / f"{number}.dcm",
            SeriesInstanceUID=series,
            InstanceNumber=number,
            Modality="CT",
            BodyPartExamined="CHEST",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            Laterality="L",
        )
    (record,) = records(read("dicom", tmp_path))
    assert record.caption == "Axial CT of the left chest, section 3 of 5."
    assert record.labels == {
        "modality": ("ct",),
        "body_part": ("chest",),
        "plane": ("axial",),
        "side": ("left",),
        "licence": ("not stated",),
    }
    assert detect_reader(tmp_path) == "dicom"


def test_nothing_of_a_patient_is_kept(tmp_path: Path) -> None:
    series = generate_uid()
    write_dicom(tmp_path / "Doe_Jane.dcm", SeriesInstanceUID=series, Modality="MR", BodyPartExamined="DOE4711")
    (record,) = records(read("dicom", tmp_path))
    everything = json.dumps([record.id, record.caption, record.labels, record.original_labels, record.source]).lower()
    for word in ("doe", "jane", "4711", "1970", "elsewhere", "miller", "2020", series):
        assert word not in everything
    data = record.read_image()
    assert data.startswith(b"\x89PNG")
    for word in (b"Doe", b"4711", b"Elsewhere", b"Miller", series.encode()):
        assert word not in data


def test_monochrome1_is_inverted_and_frames_are_one_record(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="US", NumberOfFrames=3, SeriesInstanceUID="1.2.3")
    write_dicom(tmp_path / "b.dcm", Modality="CR", PhotometricInterpretation="MONOCHROME1", SeriesInstanceUID="1.2.4")
    movie, inverted = records(read("dicom", tmp_path))
    assert movie.caption == "Ultrasound, middle of 3 frames."
    pixels = np.asarray(Image.open(io.BytesIO(inverted.read_image())).convert("L"))
    assert pixels[0, 0] > pixels[0, -1]


def test_files_that_give_no_picture_are_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", pixels=False, Modality="CT")
    write_dicom(tmp_path / "b.dcm", pixels=False, Modality="SR")
    write_dicom(tmp_path / "c.dcm", Modality="US", BurnedInAnnotation="YES")
    (tmp_path / "d.txt").write_text("notes about Jane Doe")
    (tmp_path / "e.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    (tmp_path / "DICOMDIR").write_bytes(b"index")
    found = read("dicom", tmp_path)
    assert records(found) == []
    assert reasons(found)[:4] == [
        "the DICOM file has no pixels",
        "the DICOM file holds a document or a plan and no picture",
        "the picture has annotations burned in, which may name a patient",
        "the file is no DICOM",
    ]
    assert len(found) == 5
    assert "Jane" not in repr(found)


def test_several_sections_of_a_series_can_be_had(tmp_path: Path) -> None:
    from mirage_atlas.dicom import DicomReader

    for number in range(1, 11):
        write_dicom(tmp_path / f"{number:02}.dcm", SeriesInstanceUID="1.2.9", InstanceNumber=number, Modality="CT")
    found = records(list(DicomReader(tmp_path, per_series=2).read()))
    assert [record.original_labels["slice"] for record in found] == ["3 of 10", "8 of 10"]


def test_pydicom_reads_what_the_tests_write(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT")
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientName == "Doe^Jane"


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
