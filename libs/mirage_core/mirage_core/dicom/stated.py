"""Statements of a DICOM header about the image in the words of our facets: modality, plane or view, part of the body.

Only coded values and defined terms are read, never a free text.
"""

import math
import warnings

from mirage_core.dicom.elements import Frame, read

MODALITIES = {
    "CR": "x-ray", "DX": "x-ray", "RF": "x-ray", "XA": "x-ray", "MG": "x-ray", "IO": "x-ray", "PX": "x-ray", "CT": "ct",
    "MR": "mr", "US": "us", "IVUS": "us", "NM": "nm", "PT": "nm", "OP": "fundus", "SM": "histology", "GM": "histology",
}  # fmt: skip
VIEWS = {"AP": "frontal", "PA": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
# Defined terms of Body Part Examined (PS3.16 annex L), without spaces, that a facet has one word for.
_BODY_PARTS = {
    "ABDOMEN": "abdomen", "ABDOMENPELVIS": "abdomen", "LIVER": "abdomen", "BRAIN": "brain", "BREAST": "breast", "CHEST": "chest",
    "THORAX": "chest", "LUNG": "chest", "EYE": "eye", "RETINA": "eye", "HAND": "hand", "HEAD": "head", "SKULL": "head",
    "HEART": "heart", "HIP": "hip", "KIDNEY": "kidney", "LEG": "lower leg", "LOWERLEG": "lower leg", "NECK": "neck",
    "PELVIS": "pelvis", "SHOULDER": "shoulder", "SKIN": "skin", "SPINE": "spine", "CSPINE": "spine", "TSPINE": "spine",
    "LSPINE": "spine", "LUMBARSPINE": "spine", "TOOTH": "teeth", "JAW": "teeth", "WHOLEBODY": "whole body",
}  # fmt: skip
_KEYWORDS = (
    "Modality", "BodyPartExamined", "ViewPosition", "ImageOrientationPatient", "NumberOfFrames", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_STEEPEST = 0.8
"""A plane has a name if its normal is at least this much along one axis of the body."""


def stated(data: bytes) -> dict[str, str]:
    """Returns the facets that a DICOM file states, by name; empty for what cannot be read. Never raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _stated(data)
    # pydicom raises nearly anything on a damaged file.
    except Exception:
        return {}


def _stated(data: bytes) -> dict[str, str]:
    header = read(data, _KEYWORDS).elements
    frame = Frame(header, (header.whole("NumberOfFrames") or 1) // 2)
    found = {
        "modality": MODALITIES.get(header.word("Modality"), ""),
        "plane": VIEWS.get(header.word("ViewPosition"), "") or _plane(frame),
        "body_part": _BODY_PARTS.get("".join(c for c in header.word("BodyPartExamined").upper() if c.isalpha()), ""),
    }
    return {name: value for name, value in found.items() if value}


def _plane(frame: Frame) -> str:
    cosines = frame.either("PlaneOrientationSequence", "ImageOrientationPatient").numbers("ImageOrientationPatient")
    if len(cosines) != 6:
        return ""
    (a, b, c), (d, e, f) = cosines[:3], cosines[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.sqrt(sum(each * each for each in normal))
    sizes = [abs(each) / length for each in normal] if length > 0.01 else [0.0]
    return ("sagittal", "coronal", "axial")[sizes.index(max(sizes))] if max(sizes) >= _STEEPEST else ""
