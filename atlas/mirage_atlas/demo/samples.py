"""Clinical DICOM samples of the installed `pydicom-data` and `pydicom` packages, with captions written from what the files say.

Nothing is copied into the project and nothing is downloaded. Only pixels leave a file: identity fields are never read, and
headers burned into ultrasound frames (institution, date, examination number) are cut off.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirage_atlas.demo.licence import SAMPLES_ATTRIBUTION, SAMPLES_LICENCE, SAMPLES_SOURCE
from mirage_atlas.records import AtlasRecord, BadRow, Labels
from mirage_core.errors import MirageError
from mirage_core.imaging import decode_image

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
LONGEST_PX = 640


@dataclass(frozen=True)
class Sample:
    """One file of the packages: caption, facets, the file's own words, and the part of the picture that is kept."""

    file: str
    caption: str
    labels: dict[str, str]
    says: dict[str, str]
    keep: Box = WHOLE

    @property
    def id(self) -> str:
        """The record's id."""
        return "sample-" + Path(self.file).stem.lower().replace("_", "-")


SAMPLES: tuple[Sample, ...] = (
    Sample(
        "RG1_UNCI.dcm",
        "Frontal chest X-ray, posteroanterior view (computed radiography of the thorax).",
        {"modality": "x-ray", "plane": "frontal", "body_part": "chest"},
        {"modality": "CR", "body part": "CHEST", "study": "THORAX", "view": "PA"},
    ),
    Sample(
        "RG3_UNCI.dcm",
        "Frontal X-ray of the right lower leg, anteroposterior; the study is named non-ossifying fibroma of the distal tibia.",
        {
            "modality": "x-ray",
            "plane": "frontal",
            "body_part": "lower leg",
            "side": "right",
            "finding": "non-ossifying fibroma",
        },
        {
            "modality": "CR",
            "body part": "EXTREMITY",
            "study": "Non-ossifying fibroma of distal tibia",
            "view": "AP",
            "laterality": "R",
        },
    ),
    Sample(
        "JPEG2000_UNC.dcm",
        "Whole body bone scan (nuclear medicine, bone scintigraphy).",
        {"modality": "nm", "plane": "frontal", "body_part": "whole body"},
        {"modality": "NM", "body part": "WHOLE BODY", "study": "Whole Body Bone"},
    ),
    Sample(
        "693_UNCR.dcm",
        "Axial CT of the head without contrast, 5 mm section through the upper skull.",
        {"modality": "ct", "plane": "axial", "body_part": "head"},
        {"modality": "CT", "series": "5/5mm Plain", "image type": "AXIAL"},
    ),
    Sample(
        "J2K_pixelrep_mismatch.dcm",
        "Axial CT of the head through the skull base and the petrous bones, 5 mm section.",
        {"modality": "ct", "plane": "axial", "body_part": "head"},
        {"modality": "CT", "body part": "HEAD", "image type": "AXIAL"},
    ),
    Sample(
        "eCT_Supplemental.dcm",
        "Axial CT perfusion map of the brain: regional cerebral blood flow.",
        {"modality": "ct", "plane": "axial", "body_part": "brain"},
        {"modality": "CT", "image type": "PERFUSION RCBF"},
    ),
    Sample(
        "explicit_VR-UN.dcm",
        "Axial CT of the abdomen at the level of the kidneys, pancreas study; shown as stored, with the spine at the top.",
        {"modality": "ct", "plane": "axial", "body_part": "abdomen"},
        {"modality": "CT", "body part": "PANCREAS", "study": "Pancreas", "image type": "AXIAL"},
    ),
    Sample(
        "CT_small.dcm",
        "Axial CT of a thoracic vertebra with contrast, small cut-out of 128 x 128 pixels.",
        {"modality": "ct", "plane": "axial", "body_part": "spine"},
        {"modality": "CT", "study": "e+1", "image type": "AXIAL", "contrast": "ISOVUE300"},
    ),
    Sample(
        "MR-SIEMENS-DICOM-WithOverlays.dcm",
        "Axial T1 MRI of the abdomen and liver with contrast (fat-saturated VIBE); the series is named marked lesion.",
        {"modality": "mr", "plane": "axial", "body_part": "abdomen", "sequence": "t1", "finding": "liver lesion"},
        {
            "modality": "MR",
            "body part": "ABDOMEN",
            "study": "abdomen^liver",
            "series": "marked lesion",
            "protocol": "t1_vibe_fs_tra_bh_dyn",
        },
    ),
    Sample(
        "MR2_UNCI.dcm",
        "Oblique coronal T1 MRI of the shoulder (spin echo).",
        {"modality": "mr", "plane": "coronal", "body_part": "shoulder", "sequence": "t1"},
        {"modality": "MR", "study": "SHOULDER", "protocol": "T1W/SE/1024", "orientation": "oblique coronal"},
    ),
    Sample(
        "OBXXXX1A.dcm",
        "Obstetric ultrasound examination: the transducer's near field with a distance measurement, otherwise without echoes.",
        {"modality": "us", "body_part": "pelvis"},
        {"modality": "US", "image type": "OBSTETRICAL"},
        keep=(0.0, 0.09, 1.0, 1.0),
    ),
    Sample(
        "US1_UNCI.dcm",
        "Power Doppler ultrasound of a lymph node, two views side by side.",
        {"modality": "us", "body_part": "lymph node"},
        {"modality": "US", "image type": "SMALL PARTS", "annotation": "LYMPH NODE"},
        keep=(0.0, 0.19, 1.0, 0.68),
    ),
    Sample(
        "color3d_jpeg_baseline.dcm",
        "Ultrasound of the heart (echocardiogram), sector view of the chambers.",
        {"modality": "us", "body_part": "heart"},
        {"modality": "US", "image type": "EPICARDIAL"},
    ),
    Sample(
        "color-pl.dcm",
        "Transesophageal echocardiogram with colour Doppler.",
        {"modality": "us", "body_part": "heart"},
        {"modality": "US", "study": "Echocardiogram", "series": "Transesophageal Echocardiogram", "image type": "TEE"},
    ),
    Sample(
        "gdcm-US-ALOKA-16.dcm",
        "Ultrasound of the pelvis, two views side by side.",
        {"modality": "us", "body_part": "pelvis"},
        {"modality": "US", "annotation": "PELVIS"},
        keep=(0.0, 0.08, 1.0, 0.92),
    ),
)
"""Left out: test patterns, segmentations, dose grids, doubles in other encodings, and cut-outs too small to be told."""


def sample_path(file: str) -> Path | None:
    """Returns the path of a sample file in an installed package, or None; packages are located, not imported."""
    for package, folder in (("data_store", "data"), ("pydicom", "data/test_files")):
        found = importlib.util.find_spec(package)
        for root in (found.submodule_search_locations or []) if found else []:
            path = Path(root) / folder / file
            if path.is_file():
                return path
    return None


def sample_picture(sample: Sample, data: bytes) -> bytes:
    """The kept part of a sample as PNG bytes, at most LONGEST_PX on its longer side; raises MirageError when undecodable."""
    image = decode_image(data).image
    left, top, right, bottom = sample.keep
    box = (
        round(left * image.width),
        round(top * image.height),
        round(right * image.width),
        round(bottom * image.height),
    )
    image = image.crop(box)
    image.thumbnail((LONGEST_PX, LONGEST_PX))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def read_samples() -> Iterator[AtlasRecord | BadRow]:
    """Records of all samples that are installed and decode; the others as bad rows, numbered by their place in the table."""
    for line, sample in enumerate(SAMPLES, start=1):
        path = sample_path(sample.file)
        if path is None:
            yield BadRow(line, "the sample's package is not installed", sample.file)
            continue
        try:
            picture = sample_picture(sample, path.read_bytes())
        except (MirageError, OSError):
            yield BadRow(line, "the sample could not be decoded", sample.file)
            continue
        labels: Labels = {name: (value,) for name, value in sample.labels.items()}
        labels["licence"] = (SAMPLES_LICENCE,)
        yield AtlasRecord(
            id=sample.id,
            caption=sample.caption,
            labels=labels,
            original_labels={**sample.says, "file": sample.file},
            licence=SAMPLES_LICENCE,
            source=SAMPLES_SOURCE,
            attribution=SAMPLES_ATTRIBUTION,
            sha256=hashlib.sha256(picture).hexdigest(),
            image_bytes=picture,
        )
