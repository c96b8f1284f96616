"""DICOM folders: what a record says of a series, which section it shows, what is left out and how it is named."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import (
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    generate_uid,
)

from mirage_atlas.dicom import DicomReader
from mirage_atlas.readers import detect_reader, open_reader
from mirage_atlas.records import AtlasRecord, BadRow

from .dicom_files import read, reasons, records, write_dicom


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
    (record,) = records(read(tmp_path))
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
    (record,) = records(read(tmp_path))
    everything = json.dumps([record.id, record.caption, record.labels, record.original_labels, record.source]).lower()
    for word in ("doe", "jane", "4711", "1970", "elsewhere", "miller", "2020", series):
        assert word not in everything
    data = record.read_image()
    assert data.startswith(b"\x89PNG")
    for coded in (b"Doe", b"4711", b"Elsewhere", b"Miller", series.encode()):
        assert coded not in data


def test_monochrome1_is_inverted_and_frames_are_one_record(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="US", NumberOfFrames=3, SeriesInstanceUID="1.2.3")
    write_dicom(tmp_path / "b.dcm", Modality="CR", PhotometricInterpretation="MONOCHROME1", SeriesInstanceUID="1.2.4")
    movie, inverted = records(read(tmp_path))
    assert movie.caption == "Ultrasound, middle of 3 frames."
    pixels = np.asarray(Image.open(io.BytesIO(inverted.read_image())))
    assert pixels[0, 0] > pixels[0, -1]


def test_files_that_give_no_picture_are_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", pixels=False, Modality="CT")
    write_dicom(tmp_path / "b.dcm", pixels=False, Modality="SR")
    write_dicom(tmp_path / "c.dcm", Modality="US", BurnedInAnnotation="YES")
    (tmp_path / "d.txt").write_text("notes about Jane Doe")
    (tmp_path / "e.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    (tmp_path / "DICOMDIR").write_bytes(b"index")
    reader = open_reader("dicom", tmp_path)
    found = list(reader.read())
    assert records(found) == []
    assert reasons(found) == [
        "the DICOM file has no pixels",
        "the DICOM file holds a document or a plan and no picture",
        "the file says that its pixels may show who the patient is (BurnedInAnnotation), so it is refused. Remove what the "
        "pixels show, then correct the attribute",
        "the DICOM file has no pixels",
    ]
    assert "Jane" not in repr(found)
    # DICOMDIR is the first name, and no picture; the notes are no row.
    assert [each.file for each in found if isinstance(each, BadRow)] == ["file 2", "file 3", "file 4", "file 6"]
    assert list(reader.left_out.others) == ["file 5"]
    codes = [each.code for each in found if isinstance(each, BadRow)]
    assert codes[2] == "IMAGE_BURNED_IN"


def test_several_sections_of_a_series_can_be_had(tmp_path: Path) -> None:
    for number in range(1, 11):
        write_dicom(tmp_path / f"{number:02}.dcm", SeriesInstanceUID="1.2.9", InstanceNumber=number, Modality="CT")
    found = records(list(DicomReader(tmp_path, per_series=2).read()))
    assert [record.original_labels["slice"] for record in found] == ["3 of 10", "8 of 10"]


def test_pydicom_reads_what_the_tests_write(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT")
    assert pydicom.dcmread(tmp_path / "a.dcm").PatientName == "Doe^Jane"


# Files as they come


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("with_meta", [True, False])
def test_a_file_without_a_preamble_is_read(tmp_path: Path, syntax: UID, with_meta: bool) -> None:
    write_dicom(tmp_path / "whole.dcm", Modality="CT", SeriesInstanceUID="1.2.3", syntax=syntax)
    data = (tmp_path / "whole.dcm").read_bytes()
    folder = tmp_path / "bare"
    folder.mkdir()
    start = 132 if with_meta else 132 + 12 + int.from_bytes(data[140:144], "little")
    (folder / "bare").write_bytes(data[start:])
    assert detect_reader(folder) == "dicom"
    (bare,) = records(read(folder))
    (whole,) = records(read(tmp_path / "whole.dcm"))
    assert (bare.id, bare.caption, bare.read_image()) == (whole.id, whole.caption, whole.read_image())


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT", SeriesInstanceUID="1.2.3", syntax=DeflatedExplicitVRLittleEndian)
    assert [each.caption for each in records(read(tmp_path))] == ["CT."]


@pytest.mark.parametrize(
    "data", [b"", b"\x08\x00", b"\0" * 500, b"\x08\x00\x05\x00" + b"\xff" * 200, b"Mustermann\0" * 20]
)
def test_a_file_that_may_have_been_dicom_is_named(tmp_path: Path, data: bytes) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT")
    (tmp_path / "b").write_bytes(data)
    found = read(tmp_path)
    assert len(records(found)) == 1
    assert [(each.file, each.reason) for each in found if isinstance(each, BadRow)] == [
        ("file 2", "the file is not DICOM")
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        "für".encode() * 300,
        b"<?xml version='1.0'?>" * 20,
        b"\x89PNG\r\n\x1a\n\0\0\0",
        b"%PDF-1.4\n\xe2\xe3",
        b"MZ\x90\0",
    ],
)
def test_a_file_of_another_kind_is_no_row(tmp_path: Path, data: bytes) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT")
    (tmp_path / "b").write_bytes(data)
    reader = open_reader("dicom", tmp_path)
    assert [type(each) for each in reader.read()] == [AtlasRecord]
    assert list(reader.left_out.others) == ["file 2"]


@pytest.mark.parametrize(
    ("syntax", "code", "words"),
    [
        (JPEGLSLossless, "IMAGE_UNREADABLE", "damaged"),
        (MPEG2MPML, "IMAGE_CODING_UNSUPPORTED", "MPEG2"),
    ],
)
def test_pixels_that_cannot_be_read_are_named_with_their_file_and_coding(
    tmp_path: Path, syntax: UID, code: str, words: str
) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT", SeriesInstanceUID="1.2.3")
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    dataset.PixelData = pydicom.encaps.encapsulate([b"no such picture "])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a.dcm")
    (bad,) = read(tmp_path)
    assert isinstance(bad, BadRow)
    assert (bad.file, bad.code) == ("file 1", code)
    assert words in bad.reason


def test_odd_headers_are_no_reason_to_refuse_a_file(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="CT", SeriesInstanceUID="1.2.3")
    data = (tmp_path / "a.dcm").read_bytes()
    odd = b"\x20\x00\x13\x00IS\x04\x00abc \x20\x00\x32\x00DS\x04\x00x\\y \x20\x00\x37\x00DS\x02\x001\\"
    place = data.index(b"\x28\x00\x02\x00US")
    (tmp_path / "a.dcm").write_bytes(data[:place] + odd + data[place:])
    assert [each.caption for each in records(read(tmp_path))] == ["CT."]


def test_a_file_that_says_it_is_synthetic_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", Modality="MR", SyntheticData="YES")
    (bad,) = read(tmp_path)
    assert isinstance(bad, BadRow)
    assert bad.code == "SYNTHETIC_REFUSED"


def test_files_are_numbered_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in (
        "b/1.txt",
        "a-z.txt",
        "a/2.txt",
        ".hidden/3.txt",
        "a/.4.txt",
        "\N{LATIN SMALL LETTER E WITH ACUTE}.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0Mustermann")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "b" / "link.dcm").symlink_to("/dev/zero")
    found = [(each.file, each.reason) for each in read(tmp_path) if isinstance(each, BadRow)]
    assert found == [
        ("file 1", "the file is not DICOM"),
        ("file 2", "the file is not DICOM"),
        ("file 3", "the file is not a regular file"),
        ("file 4", "the file is not DICOM"),
        ("file 5", "the file is a link that leaves the folder"),
        ("file 6", "the file is not DICOM"),
    ]


def test_a_folder_of_links_to_its_blobs_is_read(tmp_path: Path) -> None:
    snapshot = tmp_path / "repository" / "snapshots" / "r1"
    snapshot.mkdir(parents=True)
    write_dicom(tmp_path / "repository" / "blobs" / "1", Modality="CT")
    (snapshot / "a.dcm").symlink_to("../../blobs/1")
    assert detect_reader(snapshot) == "dicom"
    assert len(records(read(snapshot))) == 1


def test_folders_of_links_are_entered_when_asked_and_left_again(tmp_path: Path) -> None:
    write_dicom(tmp_path / "far" / "a.dcm", Modality="CT")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "far").symlink_to("../far")
    (tmp_path / "far" / "back").symlink_to("../set")
    assert read(tmp_path / "set") == []
    assert len(records(list(DicomReader(tmp_path / "set", follow_links=True).read()))) == 1
