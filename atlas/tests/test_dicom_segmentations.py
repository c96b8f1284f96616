"""DICOM segmentations as label maps of the images that they name."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    generate_uid,
)

from mirage_atlas.dicom import DicomReader
from mirage_atlas.records import AtlasRecord

from .dicom_files import read, reasons, records, write_dicom

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
