"""DICOM folders: what a record says of a series, which section it shows, what is left out and how it is named."""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
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

Found = list[AtlasRecord | BadRow]
AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def read(path: Path) -> Found:
    return list(open_reader("dicom", path).read())


def records(found: Found) -> list[AtlasRecord]:
    return [each for each in found if isinstance(each, AtlasRecord)]


def reasons(found: Found) -> list[str]:
    return [each.reason for each in found if isinstance(each, BadRow)]


def write_dicom(
    path: Path, *, pixels: bool = True, shade: int = 0, syntax: UID = ExplicitVRLittleEndian, **fields: Any
) -> None:
    """A CT whose ramp begins at `shade`, so that a test can tell which file or frame it sees."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    meta.MediaStorageSOPInstanceUID = fields.get("SOPInstanceUID", generate_uid())
    meta.TransferSyntaxUID = syntax
    dataset = Dataset()
    dataset.file_meta = meta
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
        values[:16] += shade
        dataset.Rows = dataset.Columns = 32
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = fields.get("PhotometricInterpretation", "MONOCHROME2")
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        frames = int(fields.get("NumberOfFrames", 1))
        stacked = np.stack([np.roll(values, 3 * frame, axis=1) for frame in range(frames)])
        dataset.PixelData = stacked.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
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


# Order of sections


def write_series(path: Path, places: list[float], *, series: str = "1.2.9", first: int = 1, **fields: Any) -> None:
    """Sections at these places along the normal, numbered in the order of the list."""
    for number, place in enumerate(places, start=first):
        write_dicom(
            path / f"{number:03}.dcm",
            **{
                "SeriesInstanceUID": series,
                "SOPInstanceUID": f"{series}.{number}",
                "InstanceNumber": number,
                "Modality": "CT",
                "ImageOrientationPatient": AXIAL,
                "ImagePositionPatient": [0, 0, place],
                "shade": number,
                **fields,
            },
        )


def shown(record: AtlasRecord, folder: Path) -> str:
    """The name of the file whose picture a record has."""
    same = []
    for file in sorted(folder.rglob("*.dcm")):
        alone = records(read(file))[0]
        if alone.read_image() == record.read_image():
            same.append(file.name)
    assert len(same) == 1
    return same[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sections_are_ordered_by_their_position(tmp_path: Path, syntax: UID) -> None:
    # Numbered as they were acquired: every other one first.
    write_series(tmp_path, [0, 10, 20, 5, 15], syntax=syntax)
    (record,) = records(read(tmp_path))
    assert record.caption == "Axial CT, section 3 of 5."
    assert record.original_labels["slice"] == "3 of 5"
    assert shown(record, tmp_path) == "002.dcm"


def test_a_localizer_in_the_series_does_not_count(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 0, 0], ImageOrientationPatient=SAGITTAL)
    write_series(tmp_path, [0, 10, 20, 30, 40], first=4)
    (record,) = records(read(tmp_path))
    assert record.caption == "Axial CT, section 3 of 5."
    assert shown(record, tmp_path) == "006.dcm"


def test_times_and_echoes_at_one_position_are_one_section(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 10, 20, 0, 10, 20])
    (record,) = records(read(tmp_path))
    assert record.caption == "Axial CT, section 2 of 3."
    assert shown(record, tmp_path) == "002.dcm"


def test_radial_planes_and_files_without_positions_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, angle in enumerate((0.1, 0.5, 0.9, 1.3, 1.7), start=1):
        write_series(
            tmp_path / "radial",
            [0],
            first=number,
            ImageOrientationPatient=[float(np.cos(angle)), float(np.sin(angle)), 0, 0, 0, -1],
        )
    write_series(tmp_path / "plain", [0, 0, 0], series="1.2.10", ImagePositionPatient=None)
    plain, radial = records(read(tmp_path))
    assert radial.caption.endswith("section 3 of 5.")
    assert plain.caption.endswith("section 2 of 3.")


def test_a_series_that_has_grown_has_the_same_id(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 10, 20])
    (before,) = records(read(tmp_path))
    write_series(tmp_path, [30, 40, 50, 60], first=4)
    (after,) = records(read(tmp_path))
    assert before.id == after.id
    assert before.read_image() != after.read_image()
    assert after.caption == "Axial CT, section 4 of 7."
    # Where earlier versions put it, whichever section that was.
    assert len(after.former_ids) == 7
    assert set(before.former_ids) <= set(after.former_ids)
    assert all(each.startswith(f"{after.id}-") for each in after.former_ids)


# Functional groups


def sequence(**fields: Any) -> Sequence:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return Sequence([item])


def enhanced(places: list[float], *, shared: dict[str, Sequence] | None = None, **own: Any) -> dict[str, Any]:
    """Headers of a file with functional groups and a frame at each place along the normal of sagittal planes."""
    items = []
    for place in places:
        item = Dataset()
        item.PlanePositionSequence = sequence(ImagePositionPatient=[place, 0, 0])
        for name, value in own.items():
            setattr(item, name, value)
        items.append(item)
    common = Dataset()
    common.PlaneOrientationSequence = sequence(ImageOrientationPatient=SAGITTAL)
    for name, value in (shared or {}).items():
        setattr(common, name, value)
    return {
        "NumberOfFrames": len(places),
        "PerFrameFunctionalGroupsSequence": Sequence(items),
        "SharedFunctionalGroupsSequence": Sequence([common]),
    }


def test_an_enhanced_file_is_described_by_the_functional_groups_of_the_frame_shown(tmp_path: Path) -> None:
    region = sequence(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Doe's brain")
    write_dicom(
        tmp_path / "a.dcm",
        Modality="MR",
        SeriesInstanceUID="1.2.3",
        WindowCenter=500,
        WindowWidth=1000,
        # Frames come in any order: the one in the middle is the fourth.
        **enhanced(
            [0, 40, 10, 20, 30],
            shared={
                "FrameAnatomySequence": sequence(FrameLaterality="R", AnatomicRegionSequence=region),
                "MRTimingAndRelatedParametersSequence": sequence(RepetitionTime=4000),
            },
            MREchoSequence=sequence(EffectiveEchoTime=90),
        ),
    )
    (record,) = records(read(tmp_path))
    assert record.caption == "Sagittal T2 MRI of the right brain, section 3 of 5."
    assert record.labels == {
        "modality": ("mr",),
        "plane": ("sagittal",),
        "side": ("right",),
        "sequence": ("t2",),
        "body_part": ("brain",),
        "licence": ("not stated",),
    }
    from mirage_core.imaging import clean_image

    data = (tmp_path / "a.dcm").read_bytes()
    fourth, third = (clean_image(data, frame=frame) for frame in (3, 2))
    assert record.read_image() == (fourth.pixels_data or fourth.data)
    assert record.read_image() != (third.pixels_data or third.data)


def test_a_side_without_a_body_part_is_said(tmp_path: Path) -> None:
    shared = {"FrameAnatomySequence": sequence(FrameLaterality="R")}
    write_dicom(tmp_path / "a.dcm", Modality="MR", SeriesInstanceUID="1.2.3", **enhanced([0, 1, 2], shared=shared))
    (record,) = records(read(tmp_path))
    assert record.caption == "Right sagittal MRI, section 2 of 3."


def test_a_word_that_is_no_defined_body_part_is_not_kept(tmp_path: Path) -> None:
    for number, word in enumerate(("MUSTERMANN", "WHOLE_BODY", "TSPINE")):
        write_dicom(tmp_path / f"{number}.dcm", Modality="CT", SeriesInstanceUID=f"1.2.{number}", BodyPartExamined=word)
    assert [each.labels.get("body_part") for each in records(read(tmp_path))] == [None, ("whole body",), ("tspine",)]


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


LIVER, KIDNEY, LEFT = ("10200004", "SCT"), ("64033007", "SCT"), ("7771000", "SCT")


def code(value: str, scheme: str, meaning: str = "Doe, Jane") -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def write_segmentation(
    path: Path,
    masks: list[tuple[int, np.ndarray[Any, Any]]],
    *,
    image: str = "1.2.3.4",
    segments: dict[int, tuple[tuple[str, str], tuple[str, str] | None]],
    kind: str = "BINARY",
    names_image: bool = True,
) -> None:
    """A segmentation with one frame a mask, all of one image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.66.4")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SegmentationType, dataset.PatientName = "SEG", kind, "Doe^Jane"
    dataset.Rows, dataset.Columns = masks[0][1].shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.PixelRepresentation = len(masks), 0
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    if kind == "FRACTIONAL":
        dataset.MaximumFractionalValue = 200
    dataset.SegmentSequence = Sequence()
    for number, (what, side) in segments.items():
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel = number, "Doe, Jane: lesion"
        segment.SegmentedPropertyTypeCodeSequence = Sequence([code(*what)])
        if side:
            segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = Sequence(
                [code(*side)]
            )
        dataset.SegmentSequence.append(segment)
    dataset.PerFrameFunctionalGroupsSequence = Sequence()
    for number, _ in masks:
        groups, identified, source, derived = Dataset(), Dataset(), Dataset(), Dataset()
        identified.ReferencedSegmentNumber = number
        groups.SegmentIdentificationSequence = Sequence([identified])
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", image
        derived.SourceImageSequence = Sequence([source])
        if names_image:
            groups.DerivationImageSequence = Sequence([derived])
        dataset.PerFrameFunctionalGroupsSequence.append(groups)
    values = np.stack([mask for _, mask in masks])
    packed = np.packbits(values.astype(bool).ravel(), bitorder="little") if bits == 1 else values.astype(np.uint8)
    dataset.PixelData = packed.tobytes() + bytes(packed.size % 2)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)


def outlined(folder: Path) -> tuple[int, int]:
    """Writes an image that segmentations name; returns its rows and columns."""
    write_dicom(folder / "1.dcm", SOPInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3")
    image = pydicom.dcmread(folder / "1.dcm")
    return int(image.Rows), int(image.Columns)


def numbers_of(record: AtlasRecord) -> tuple[dict[str, int], np.ndarray[Any, Any]]:
    assert record.regions is not None
    with Image.open(io.BytesIO(record.regions.png)) as image:
        return {each.name: each.id for each in record.regions.legend}, np.asarray(image)


@pytest.mark.parametrize(("kind", "full"), [("BINARY", 1), ("FRACTIONAL", 150)])
def test_a_segmentation_becomes_the_label_map_of_the_image_that_it_names(tmp_path: Path, kind: str, full: int) -> None:
    shape = outlined(tmp_path)
    liver, kidney = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    liver[2:9, 2:9] = kidney[10:13, 10:14] = full
    liver[0, 0] = full // 3
    segments = {1: (LIVER, None), 2: (KIDNEY, LEFT)}
    write_segmentation(tmp_path / "seg.dcm", [(1, liver), (2, kidney)], segments=segments, kind=kind)

    found = read(tmp_path)
    (record,) = records(found)
    ids, numbers = numbers_of(record)
    assert reasons(found) == []
    assert set(ids) == {"liver", "left kidney"}
    assert np.array_equal(numbers == ids["liver"], liver == full)
    assert np.array_equal(numbers == ids["left kidney"], kidney == full)
    assert "doe" not in repr(record).lower()


def test_frames_of_labels_are_read_by_their_values(tmp_path: Path) -> None:
    shape = outlined(tmp_path)
    labels = np.zeros(shape, np.uint8)
    labels[2:9, 2:9], labels[10:13, 10:14] = 1, 2
    write_segmentation(
        tmp_path / "seg.dcm", [(0, labels)], segments={1: (LIVER, None), 2: (KIDNEY, LEFT)}, kind="LABELMAP"
    )

    (record,) = records(read(tmp_path))
    ids, numbers = numbers_of(record)
    assert np.array_equal(numbers == ids["left kidney"], labels == 2)


def test_where_segments_overlap_the_smaller_one_is_kept_and_it_is_reported(tmp_path: Path) -> None:
    shape = outlined(tmp_path)
    large, small = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    large[2:12, 2:12] = small[4:6, 4:6] = 1
    write_segmentation(tmp_path / "a.dcm", [(1, small)], segments={1: (KIDNEY, None)})
    write_segmentation(tmp_path / "b.dcm", [(1, large)], segments={1: (LIVER, None)})

    reader = DicomReader(tmp_path)
    (record,) = records(list(reader.read()))
    ids, numbers = numbers_of(record)
    assert np.array_equal(numbers == ids["kidney"], small == 1)
    assert (numbers == ids["liver"]).sum() == 96
    assert len(reader.left_out.overlaps) == 1


def test_a_segment_without_a_known_code_gets_a_number_and_never_the_files_own_words(tmp_path: Path) -> None:
    shape = outlined(tmp_path)
    segments: dict[int, tuple[tuple[str, str], tuple[str, str] | None]] = {4: (("X1", "99PRIVATE"), None)}
    write_segmentation(tmp_path / "seg.dcm", [(4, np.ones(shape, np.uint8))], segments=segments)
    (record,) = records(read(tmp_path))
    assert set(numbers_of(record)[0]) == {"segment 4"}


def test_segmentations_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    shape = outlined(tmp_path)
    mask = np.ones(shape, np.uint8)
    write_segmentation(tmp_path / "a.dcm", [(1, mask)], segments={1: (LIVER, None)}, names_image=False)
    assert reasons(read(tmp_path)) == ["the segmentation does not name the images that it is about"]
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-200])
    assert len(reasons(read(tmp_path))) == 1
    write_segmentation(tmp_path / "a.dcm", [(1, np.ones((40, 40), np.uint8))], segments={1: (LIVER, None)})
    assert reasons(read(tmp_path)) == ["the segmentation has another size than its image"]
    write_segmentation(tmp_path / "a.dcm", [(1, mask)], segments={1: (LIVER, None)}, image="9.9.9")
    (record,) = records(read(tmp_path))
    assert record.regions is None
