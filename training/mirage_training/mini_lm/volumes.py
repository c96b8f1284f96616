"""Captions of labelled volumes like those of the demonstration, of sections that are made up."""

from __future__ import annotations

import numpy as np

from mirage_atlas.demo import anatomy, wording
from mirage_atlas.demo.anatomy import Structure
from mirage_atlas.demo.captions import choose
from mirage_atlas.demo.cross_sections import Found, Section
from mirage_atlas.demo.label_names import TOTAL, TOTAL_MR
from mirage_atlas.demo.landmarks import PLANES

_CASES = (
    ("CT of chest and upper abdomen", True),
    ("CT of abdomen and pelvis", True),
    ("CT of the upper abdomen", True),
    ("MRI of the abdomen", False),
    ("CT of the chest", True),
    ("MRI of the pelvis", False),
)
_CONTRAST = (" with contrast", " without contrast", "")
_WINDOWS = ("soft tissue", "lung", "bone")
_SPINE = tuple(
    f"{part}{number}" for part, last in (("C", 7), ("T", 12), ("L", 5), ("S", 1)) for number in range(1, last + 1)
)
_NOTHING = np.zeros((1, 1))


def volume_caption(rng: np.random.Generator) -> str:
    """The caption of a section in the demonstration's words; which structures it shows is drawn."""
    what, is_ct = _CASES[int(rng.integers(len(_CASES)))]
    what += choose(rng, _CONTRAST) if is_ct else ""
    names = list((TOTAL if is_ct else TOTAL_MR).values())
    plane = PLANES[int(rng.integers(3))]
    start = int(rng.integers(len(_SPINE)))
    spine = _SPINE[start : start + int(rng.integers(1, 12))]
    labels = [names[int(each)] for each in rng.permutation(len(names))[: int(rng.integers(1, 14))]]
    structures = [
        found for label in labels if not label.startswith("vertebrae") and (found := anatomy.structure(label))
    ]
    if plane != "axial" and rng.random() < 0.8:
        structures += [found for each in spine if (found := anatomy.structure(f"vertebrae_{each}"))]
    level = ""
    if plane == "axial" and rng.random() < 0.8:
        level = spine[0] if rng.random() < 0.6 or len(spine) < 2 else f"{spine[0]}/{spine[1]}"
    section = Section(
        plane=plane,
        values=_NOTHING.astype(np.int16),
        map=_NOTHING.astype(np.uint8),
        pixel_mm=1.0,
        found=tuple(_found(each, rng) for each in structures),
        level=level,
        side=choose(rng, ("left", "right", "midline")) if plane == "sagittal" else "",
    )
    window = choose(rng, _WINDOWS) if is_ct else ""
    return wording.caption(section, what, window, str(int(rng.integers(1 << 40))))


def _found(structure: Structure, rng: np.random.Generator) -> Found:
    side = structure.side or choose(rng, ("left", "right", ""))
    return Found(1, structure, "", float(rng.uniform(30, 5000)), float(rng.uniform(0.05, 1.0)), side)
