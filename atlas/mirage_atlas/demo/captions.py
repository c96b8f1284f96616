"""Captions of sections: varied in wording, true by construction, always naming what was simulated."""

from __future__ import annotations

import numpy as np

from mirage_atlas.demo.contrast import Sequence
from mirage_atlas.demo.landmarks import SINGULAR, Plane, Structure, structures_at
from mirage_atlas.demo.sections import Lesion, SectionSpec, section_side

AXIS: dict[Plane, str] = {"axial": "z", "coronal": "y", "sagittal": "x"}
SEQUENCE_WORDS: dict[Sequence, tuple[str, ...]] = {
    "t1": ("T1", "T1-weighted", "T1w"),
    "t2": ("T2-like", "simulated T2"),
    "flair": ("FLAIR-like", "simulated FLAIR"),
}
NEAREST_MM = 9
"""A structure gives its name to a level only when the level is this close to the structure's middle."""


def choose(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    """One of the options, uniformly."""
    return options[int(rng.integers(len(options)))]


def level_names(plane: Plane, level_mm: float) -> tuple[str, ...]:
    """Names that a section's level may be called by: of structures cut near their middle, nearest first; may be empty."""
    level = abs(level_mm) if plane == "sagittal" else level_mm
    names = []
    for structure in structures_at(plane, level_mm):
        low, high = structure.extent(plane)
        if plane == "sagittal" and not structure.bilateral:
            continue
        if abs(level - (low + high) / 2) <= NEAREST_MM:
            names.append(_named(structure, plane))
    return tuple(names[:4])


def visible_names(plane: Plane, level_mm: float) -> tuple[str, ...]:
    """Names of all structures of the table that the section cuts, singular on sagittal sections off the midline."""
    return tuple(_named(structure, plane) for structure in structures_at(plane, level_mm))


def lesion_phrase(lesion: Lesion, rng: np.random.Generator) -> str:
    """A sentence fragment with the side, lobe, size and signal of a simulated lesion."""
    place = f"{lesion.side} {lesion.lobe}"
    return choose(
        rng,
        (
            f"a simulated {lesion.signal} lesion of {lesion.size_mm} mm in the {place}",
            f"simulated focal lesion, {lesion.signal}, {lesion.size_mm} mm, {place}",
            f"a {lesion.size_mm} mm {lesion.signal} simulated lesion in the {place}",
            f"{place}: simulated {lesion.signal} lesion, about {lesion.size_mm} mm",
        ),
    )


def plain_phrase(rng: np.random.Generator) -> str:
    """A fragment that says that nothing was simulated in the section."""
    return choose(
        rng, ("no lesion", "no focal lesion", "without a simulated lesion", "template anatomy without lesion")
    )


def plane_phrase(plane: Plane, level_mm: float, rng: np.random.Generator) -> str:
    """The plane in words; a sagittal section names its side or the midline, because the display shows it."""
    if plane == "axial":
        return choose(rng, ("axial", "axial", "transverse"))
    if plane == "coronal":
        return "coronal"
    side = section_side(level_mm)
    if side == "midline":
        return choose(rng, ("midline sagittal", "midsagittal"))
    return choose(rng, (f"{side} sagittal", f"sagittal ({side} hemisphere)", f"{side} parasagittal"))


def level_phrase(plane: Plane, level_mm: int, rng: np.random.Generator) -> str:
    """The level by a landmark, in mm, or by both."""
    names = level_names(plane, level_mm)
    mm = f"{AXIS[plane]} = {_signed(level_mm)} mm"
    if not names:
        return choose(rng, (f"at {mm}", f"at the level {mm}"))
    name = names[0] if len(names) == 1 or rng.random() < 0.6 else names[1]
    return choose(
        rng,
        (
            f"at the level of the {name} ({mm})",
            f"through the {name}, {mm}",
            f"at the level of the {name}",
            f"through the {name}",
        ),
    )


def caption(spec: SectionSpec, rng: np.random.Generator) -> str:
    """A caption of one rendering; the same generator state gives the same words."""
    sequence = choose(rng, SEQUENCE_WORDS[spec.sequence])
    plane = plane_phrase(spec.plane, spec.level_mm, rng)
    level = level_phrase(spec.plane, spec.level_mm, rng)
    names = visible_names(spec.plane, spec.level_mm)[:5]
    shown = [names[i] for i in sorted(rng.permutation(len(names))[: int(rng.integers(1, 4))])]
    seen = f", showing the {enumeration(shown)}" if shown and rng.random() < 0.7 else ""
    finding = lesion_phrase(spec.lesion, rng) if spec.lesion else plain_phrase(rng)
    text = choose(
        rng,
        (
            f"{plane} {sequence} brain MRI {level}{seen}; {finding}.",
            f"{sequence} {plane} section of the brain {level}{seen}; {finding}.",
            f"Brain MRI, {sequence}, {plane}, {level}{seen}; {finding}.",
            f"{plane} {sequence} image of the brain {level}; {finding}{seen}.",
        ),
    )
    return text[0].upper() + text[1:]


def enumeration(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _named(structure: Structure, plane: Plane) -> str:
    return SINGULAR.get(structure.name, structure.name) if plane == "sagittal" else structure.name


def _signed(level_mm: int) -> str:
    return f"{level_mm:+d}" if level_mm else "0"
