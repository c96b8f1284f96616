"""Captions and titles of sections, out of what their label map shows and nothing else.

They name plane, window, level and the structures that matter, in several wordings; the same section always gets the same words.
They state no finding and never "normal", because the maps do not say.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from mirage_atlas.demo.anatomy import Group
from mirage_atlas.demo.captions import choose, enumeration
from mirage_atlas.demo.cross_sections import Found, Section

SHARE = 0.1
"""A caption names a structure if the section shows at least this share of its largest area in the plane."""
NAMED = 6
"""Most structures that a caption names."""
_WEIGHTS: dict[Group, float] = {
    "airways and lungs": 1.0,
    "bones": 0.5,
    "digestive organs": 1.3,
    "glands": 1.3,
    "heart": 1.3,
    "muscles": 0.3,
    "nerves": 0.4,
    "urinary organs": 1.3,
    "vessels": 1.1,
}
_WINDOW_WEIGHT = 4.0
_OF_WINDOW: dict[str, Group] = {"lung": "airways and lungs", "bone": "bones"}
"""The window of a section says what it is for: structures of that kind count `_WINDOW_WEIGHT` times."""
_ONE_PLACE = frozenset({"liver", "spleen", "stomach", "gallbladder"})
"""Organs of which the patient's side is said if the section shows them on one."""


def chosen_structures(section: Section, window: str = "") -> list[Found]:
    """The structures that a caption names, those that matter most first.

    What matters is weighed by kind, by area, and by how much of the structure the section shows: a section through its middle
    counts more than one through its end. Ribs and vertebrae are left out: they are said together.
    """
    named = [
        each
        for each in section.found
        if not each.structure.name.startswith(("vertebra ", "left rib ", "right rib ")) and each.share >= SHARE
    ]
    named.sort(key=lambda each: -_weight(each, window))
    return named[:NAMED]


def title(section: Section, what: str, window: str) -> str:
    """A short name: `CT of the chest, axial, T8, lung window`."""
    place = section.level or (
        section.side if section.side == "midline" else f"{section.side} side" if section.side else ""
    )
    return ", ".join(filter(None, (what, section.plane, place, f"{window} window" if window else "")))


def caption(section: Section, what: str, window: str, key: str) -> str:
    """One or two sentences. `what` is such as `CT of the chest with contrast`; `key` decides the wording."""
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    plane = _plane(section, rng)
    level = _level(section, rng)
    shown = f" ({window} window)" if window else ""
    names = [_named(each, rng) for each in chosen_structures(section, window)]
    names += _together(section, window)
    if not names:
        return _sentence(f"{plane} section{level}, {what}{shown}.")
    all_names = enumeration(names)
    some = choose(
        rng,
        (
            f"{plane} {what}{level}{shown}, showing {all_names}.",
            f"{what}, {plane} section{level}{shown}. It shows {all_names}.",
            f"{plane} section{level}: {what}{shown}. You see {all_names}.",
            f"{plane} {what}{shown}{level}. Shown: {all_names}.",
        ),
    )
    return _sentence(some)


def _weight(found: Found, window: str) -> float:
    group = found.structure.group
    weight = _WEIGHTS[group] * (_WINDOW_WEIGHT if _OF_WINDOW.get(window) == group else 1.0)
    return weight * math.sqrt(found.share) * math.log(1 + found.area_mm2)


def _plane(section: Section, rng: np.random.Generator) -> str:
    if section.plane == "axial":
        return choose(rng, ("axial", "axial", "transverse"))
    if section.plane == "coronal":
        return choose(rng, ("coronal", "coronal", "frontal (coronal)"))
    if section.side == "midline":
        return choose(rng, ("midline sagittal", "midsagittal"))
    return (
        choose(rng, (f"{section.side} sagittal", f"sagittal ({section.side} of the midline)"))
        if section.side
        else "sagittal"
    )


def _level(section: Section, rng: np.random.Generator) -> str:
    if not section.level:
        return ""
    upper, _, lower = section.level.partition("/")
    if lower:
        return choose(
            rng, (f" between the bodies of {upper} and {lower}", f" at the level of the disc {upper}/{lower}")
        )
    return choose(
        rng, (f" at the level of {upper}", f" at the level of vertebra {upper}", f" through the body of {upper}")
    )


def _named(found: Found, rng: np.random.Generator) -> str:
    structure = found.structure
    name = f"the {structure.name}"
    if structure.everyday and rng.random() < 0.5:
        name += f" ({structure.everyday.split(', ')[0]})"
    if structure.name in _ONE_PLACE and found.side and rng.random() < 0.6:
        name += f" (on the patient's {found.side})"
    return name


def _together(section: Section, window: str) -> list[str]:
    """The vertebrae of a section along the spine as a range, and in a bone window the ribs."""
    names = [each.structure.name for each in section.found]
    said = []
    spine = [name.removeprefix("vertebra ") for name in names if name.startswith("vertebra ")]
    if section.plane != "axial" and spine:
        ordered = sorted(spine, key=lambda name: ("CTLS".index(name[0]), int(name[1:])))
        said.append(
            f"the vertebrae from {ordered[0]} to {ordered[-1]}" if len(ordered) > 1 else f"vertebra {ordered[0]}"
        )
    ribs = [name for name in names if " rib " in name]
    if window == "bone" and ribs:
        said.append("ribs" if len(ribs) > 1 else f"the {ribs[0]}")
    return said


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def region_words(found: Sequence[Found]) -> list[str]:
    """The parts of the body that the structures belong to, those of the largest share of the section first."""
    areas: dict[str, float] = {}
    for each in found:
        for part, labels in _PARTS.items():
            if each.label.startswith(labels):
                areas[part] = areas.get(part, 0.0) + each.area_mm2
    if not any(each.label.startswith("scapula_") for each in found):
        # An arm next to the trunk is not a shoulder.
        areas.pop("shoulder", None)
    return [part for part in sorted(areas, key=lambda part: -areas[part]) if areas[part] >= _PART_MM2]


_PART_MM2 = 400.0
_PARTS: dict[str, tuple[str, ...]] = {
    "chest": ("lung_", "heart", "pulmonary_", "sternum", "trachea"),
    "abdomen": (
        "liver",
        "spleen",
        "stomach",
        "kidney",
        "pancreas",
        "duodenum",
        "small_bowel",
        "gallbladder",
        "adrenal_",
    ),
    "pelvis": ("hip_", "sacrum", "urinary_bladder", "prostate"),
    "spine": ("vertebrae", "spinal_cord", "sacrum", "intervertebral"),
    "shoulder": ("humerus_", "clavicula_"),
    "hip": ("femur_",),
    "neck": ("thyroid_", "vertebrae_C"),
}
