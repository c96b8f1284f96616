"""DICOM files that tests write, and the rows that the reader makes of a folder."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    generate_uid,
)

from mirage_atlas.readers import open_reader
from mirage_atlas.records import AtlasRecord, BadRow

Found = list[AtlasRecord | BadRow]


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
