"""Labels of the vocabulary and a caption from the coded elements of a DICOM header."""

from __future__ import annotations

from functools import lru_cache

from mirage_atlas.dicom_stacks import Slice, plane_of
from mirage_atlas.facets import facet_values
from mirage_atlas.records import Labels
from mirage_core.dicom.elements import Frame
from mirage_core.dicom.stated import MODALITIES, VIEWS

_WORDS = {"x-ray": "X-ray", "ct": "CT", "mr": "MRI", "us": "Ultrasound", "nm": "Nuclear medicine", "fundus": "Fundus photograph",
          "histology": "Histology", "other": "Image"}  # fmt: skip
_SIDES = {"L": "left", "R": "right", "B": "bilateral"}
_BODY_PARTS = frozenset(
    ["abdomen", "abdomenpelvis", "acjoint", "adrenal", "ankle", "anus", "aorta", "aorticarch", "arm", "artery", "axilla",
     "back", "bileduct", "bladder", "bone", "brain", "breast", "bronchus", "buttock", "calcaneus", "calf", "carotid",
     "cerebellum", "cerebrum", "cerebralart", "cervicalspine", "chest", "chestabdomen", "chestabdpelvis", "circleofwillis",
     "clavicle", "coccyx", "colon", "cornea", "coronaryartery", "cspine", "ctspine", "duodenum", "ear", "elbow", "esophagus",
     "extremity", "eye", "eyelid", "face", "femur", "fibula", "finger", "foot", "forearm", "gallbladder", "hand", "head",
     "headneck", "heart", "hip", "humerus", "iac", "ileum", "ilium", "jaw", "jejunum", "kidney", "knee", "larynx", "leg",
     "liver", "lowerextremity", "lowerleg", "lspine", "lssspine", "lsspine", "lumbarspine", "lung", "mandible", "maxilla",
     "mediastinum", "mouth", "muscle", "neck", "neckchest", "neckchestabdomen", "neckchestabdpelv", "nose", "orbit", "ovary",
     "pancreas", "pancreaticduct", "parotid", "patella", "pelvis", "penis", "pharynx", "prostate", "radius", "radiusulna",
     "rectum", "retina", "rib", "ribs", "sacrum", "scalp", "scapula", "scrotum", "shoulder", "sijoint", "sinus", "sinuses",
     "skin", "skull", "spine", "spleen", "sspine", "sternum", "stomach", "testis", "thigh", "thoracicspine", "thorax", "thumb",
     "thymus", "thyroid", "tibia", "tibiafibula", "tlspine", "tmj", "tmjoint", "toe", "tongue", "tooth", "trachea", "tspine",
     "ulna", "upperarm", "upperextremity", "ureter", "urethra", "uterus", "vagina", "vein", "vulva", "wholebody", "wrist",
     "zygoma"]
)  # fmt: skip
"""Defined terms of Body Part Examined (PS3.16 annex L) and usual ones; any other word could be somebody's name."""


def labels_of(modality: str, frame: Frame) -> Labels:
    """Modality, body part, plane, side and sequence, as far as the headers of a frame say them."""
    labels: Labels = {"modality": (MODALITIES.get(modality, "other"),)}
    part = _body_part(frame)
    if part:
        labels["body_part"] = facet_values([part])
    plane = _plane_name(frame)
    if plane:
        labels["plane"] = (plane,)
    header = frame.elements
    side = frame.either("FrameAnatomySequence", "FrameLaterality").word("FrameLaterality")
    side = _SIDES.get(side or header.word("ImageLaterality") or header.word("Laterality"), "")
    if side:
        labels["side"] = (side,)
    if modality == "MR" and (sequence := _sequence(frame)):
        labels["sequence"] = (sequence,)
    return labels


def _body_part(frame: Frame) -> str:
    """Body Part Examined if it is a defined term, else the standard's words for a coded anatomic region."""
    words = " ".join(frame.elements.words("BodyPartExamined")[:1]).lower()
    if words.replace(" ", "").replace("_", "").replace("-", "") in _BODY_PARTS:
        return words.replace("_", " ")
    for item in frame.either("FrameAnatomySequence", "AnatomicRegionSequence").items("AnatomicRegionSequence"):
        meaning = _region(item.word("CodeValue"), item.word("CodingSchemeDesignator"))
        if meaning:
            return meaning
    return ""


@lru_cache(maxsize=256)
def _region(value: str, scheme: str) -> str:
    """The standard's own words for an anatomic region (CID 4), never those of a file; empty for a code that is not in it."""
    from pydicom.sr import codes
    from pydicom.sr.coding import Code as Concept

    if not value or not scheme:
        return ""
    wanted = Concept(value, scheme, "")
    return next(
        (str(each.meaning).lower() for name in dir(codes.cid4) if (each := getattr(codes.cid4, name)) == wanted), ""
    )


def _plane_name(frame: Frame) -> str:
    view = VIEWS.get(frame.elements.word("ViewPosition"), "")
    normal = plane_of(frame).normal
    if view or normal is None:
        return view
    sizes = [abs(each) for each in normal]
    largest = max(sizes)
    if largest < 0.8:
        return "oblique"
    return ("sagittal", "coronal", "axial")[sizes.index(largest)]


def _sequence(frame: Frame) -> str:
    """t1, t2 or flair by echo, repetition and inversion times in ms (conventional spin echo ranges); empty in between."""
    timing = frame.either("MRTimingAndRelatedParametersSequence", "RepetitionTime")
    repetition = timing.number("RepetitionTime") or 0
    echo = frame.either("MREchoSequence", "EffectiveEchoTime").number("EffectiveEchoTime")
    echo = echo or frame.elements.number("EchoTime") or 0
    inversion = frame.either("MRModifierSequence", "InversionTimes").number("InversionTimes")
    inversion = inversion or frame.elements.number("InversionTime") or 0
    if inversion > 1500 and echo > 60:
        return "flair"
    if repetition > 2000 and echo > 60:
        return "t2"
    return "t1" if 0 < repetition < 1000 and 0 < echo < 30 else ""


def caption_of(each: Slice, place: int, count: int) -> str:
    """`Axial CT of the chest, section 12 of 40.`: nothing but coded headers."""
    labels = each.labels
    plane = labels.get("plane", ("",))[0]
    part = labels.get("body_part", ("",))[0]
    sequence = labels.get("sequence", ("",))[0].upper()
    side = labels.get("side", ("",))[0]
    words = " ".join(filter(None, ("" if part else side, plane, sequence, _WORDS[labels["modality"][0]])))
    of = f" of the {side + ' ' if side else ''}{part}" if part else ""
    where = (
        f", section {place} of {count}"
        if count > 1
        else (f", middle of {each.frames} frames" if each.frames > 1 else "")
    )
    return f"{words[0].upper()}{words[1:]}{of}{where}."
