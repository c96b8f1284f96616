"""Names of the structures of label maps, after Terminologia Anatomica, with the everyday word and a group.

A label map has names such as `kidney_left`, `vertebrae_T8` or `rib_left_5` (those of TotalSegmentator, which the maps of the
demonstration use). `structure` turns one into what a reader is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Group = Literal[
    "airways and lungs",
    "bones",
    "digestive organs",
    "glands",
    "heart",
    "muscles",
    "nerves",
    "urinary organs",
    "vessels",
]

COLOURS: dict[Group, str] = {
    "airways and lungs": "#7fb4e6",
    "bones": "#f2e3b3",
    "digestive organs": "#d98e5f",
    "glands": "#c9b458",
    "heart": "#d9534f",
    "muscles": "#b5655b",
    "nerves": "#f5d547",
    "urinary organs": "#b07cc6",
    "vessels": "#e0627f",
}


@dataclass(frozen=True)
class Structure:
    """A named structure. `name` is the English term of Terminologia Anatomica with its side, in lower case but for a vertebra's
    number; `everyday` is what people without Latin call it, or "". `side` is "left", "right" or "".
    """

    name: str
    everyday: str
    group: Group
    side: str = ""

    @property
    def facet(self) -> str:
        """The value of the facet `structure`."""
        return self.name.lower()


_TABLE: dict[str, tuple[str, str, Group]] = {
    "adrenal_gland": ("suprarenal gland", "adrenal gland", "glands"),
    "aorta": ("aorta", "", "vessels"),
    "atrial_appendage": ("auricle of the {side} atrium", "{side} atrial appendage", "heart"),
    "autochthon": ("{side} muscles of the back proper", "deep back muscles", "muscles"),
    "brachiocephalic_trunk": ("brachiocephalic trunk", "innominate artery", "vessels"),
    "brachiocephalic_vein": ("brachiocephalic vein", "innominate vein", "vessels"),
    "brain": ("brain", "", "nerves"),
    "clavicula": ("clavicle", "collarbone", "bones"),
    "colon": ("colon", "large bowel", "digestive organs"),
    "common_carotid_artery": ("common carotid artery", "", "vessels"),
    "costal_cartilages": ("costal cartilages", "rib cartilages", "bones"),
    "duodenum": ("duodenum", "first part of the small bowel", "digestive organs"),
    "esophagus": ("oesophagus", "gullet, esophagus", "digestive organs"),
    "femur": ("femur", "thigh bone", "bones"),
    "gallbladder": ("gallbladder", "", "digestive organs"),
    "gluteus_maximus": ("gluteus maximus", "buttock muscle", "muscles"),
    "gluteus_medius": ("gluteus medius", "buttock muscle", "muscles"),
    "gluteus_minimus": ("gluteus minimus", "buttock muscle", "muscles"),
    "heart": ("heart", "", "heart"),
    "heart_atrium": ("{side} atrium", "upper chamber of the heart", "heart"),
    "heart_myocardium": ("myocardium", "heart muscle", "heart"),
    "heart_ventricle": ("{side} ventricle", "lower chamber of the heart", "heart"),
    "hip": ("hip bone", "hip, pelvis", "bones"),
    "humerus": ("humerus", "upper arm bone", "bones"),
    "iliac_artery": ("iliac artery", "", "vessels"),
    "iliac_vena": ("iliac vein", "", "vessels"),
    "iliopsoas": ("iliopsoas", "hip flexor", "muscles"),
    "inferior_vena_cava": ("inferior vena cava", "great lower vein", "vessels"),
    "intervertebral_discs": ("intervertebral discs", "spinal discs", "bones"),
    "kidney": ("kidney", "", "urinary organs"),
    "liver": ("liver", "", "digestive organs"),
    "lung": ("lung", "", "airways and lungs"),
    "lung_lower_lobe": ("lower lobe of the {side} lung", "", "airways and lungs"),
    "lung_middle_lobe": ("middle lobe of the {side} lung", "", "airways and lungs"),
    "lung_upper_lobe": ("upper lobe of the {side} lung", "", "airways and lungs"),
    "pancreas": ("pancreas", "", "digestive organs"),
    "portal_vein_and_splenic_vein": ("hepatic portal and splenic vein", "portal vein", "vessels"),
    "prostate": ("prostate", "", "glands"),
    "pulmonary_artery": ("pulmonary artery", "lung artery", "vessels"),
    "pulmonary_vein": ("pulmonary veins", "lung veins", "vessels"),
    "sacrum": ("sacrum", "base of the spine", "bones"),
    "scapula": ("scapula", "shoulder blade", "bones"),
    "skull": ("cranium", "skull", "bones"),
    "small_bowel": ("small intestine", "small bowel", "digestive organs"),
    "spinal_cord": ("spinal cord", "", "nerves"),
    "spleen": ("spleen", "", "digestive organs"),
    "sternum": ("sternum", "breastbone", "bones"),
    "stomach": ("stomach", "", "digestive organs"),
    "subclavian_artery": ("subclavian artery", "", "vessels"),
    "superior_vena_cava": ("superior vena cava", "great upper vein", "vessels"),
    "thyroid_gland": ("thyroid gland", "", "glands"),
    "trachea": ("trachea", "windpipe", "airways and lungs"),
    "urinary_bladder": ("urinary bladder", "", "urinary organs"),
    "vertebrae": ("vertebral column", "spine", "bones"),
}
_PARTS = re.compile(r"(?P<base>.+?)(?:_(?P<side>left|right))?(?:_(?P<number>\d+))?")
_VERTEBRA = re.compile(r"vertebrae_([CTLS]\d+)")
_SECTIONS = {"C": "cervical", "T": "thoracic", "L": "lumbar", "S": "sacral"}


def structure(label: str) -> Structure | None:
    """Returns the structure of a map's label; None for one that is not of anatomy that we name."""
    if found := _VERTEBRA.fullmatch(label):
        return Structure(f"vertebra {found[1]}", f"{_SECTIONS[found[1][0]]} vertebra", "bones")
    found = _PARTS.fullmatch(label)
    if found is None:
        return None
    base, side, number = found["base"], found["side"] or "", found["number"]
    if base == "rib" and side and number:
        return Structure(f"{side} rib {number}", "", "bones", side)
    if base not in _TABLE or number:
        return None
    name, everyday, group = _TABLE[base]
    if "{side}" in name:
        name = name.format(side=side)
    elif side:
        name = f"{side} {name}"
    return Structure(name, everyday.format(side=side), group, side)


def vertebra(label: str) -> str:
    """Returns `T8` for `vertebrae_T8`; "" for any other label."""
    found = _VERTEBRA.fullmatch(label)
    return found[1] if found else ""
