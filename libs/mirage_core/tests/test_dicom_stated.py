"""What a DICOM header states in the words of the facets."""

from typing import Any

import numpy as np
import pytest

from mirage_core.dicom.stated import stated
from tests.support.dicom_builder import dicom

RAMP = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (16, 1))
AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("header", "facets"),
    [
        ({"Modality": "CT", "BodyPartExamined": "CHEST", "ImageOrientationPatient": AXIAL},
         {"modality": "ct", "body_part": "chest", "plane": "axial"}),
        ({"Modality": "MR", "BodyPartExamined": "BRAIN", "ImageOrientationPatient": CORONAL},
         {"modality": "mr", "body_part": "brain", "plane": "coronal"}),
        ({"Modality": "MR", "ImageOrientationPatient": SAGITTAL}, {"modality": "mr", "plane": "sagittal"}),
        ({"Modality": "DX", "ViewPosition": "PA"}, {"modality": "x-ray", "plane": "frontal"}),
        ({"Modality": "CT", "ImageOrientationPatient": [0.7, 0.7, 0, 0, 0, -1]}, {"modality": "ct"}),
        ({"Modality": "OT", "BodyPartExamined": "MUSTERMANN"}, {}),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_only_defined_terms_are_taken(header: dict[str, Any], facets: dict[str, str]) -> None:
    assert stated(dicom(RAMP, **header)) == facets


@pytest.mark.parametrize("data", [b"", b"no DICOM at all", bytes(132) + b"DICM", dicom(RAMP, Modality="CT")[:140]])
def test_a_damaged_file_states_nothing(data: bytes) -> None:
    assert stated(data) == {}
