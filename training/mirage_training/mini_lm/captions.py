"""Captions to describe, each with what it says: like the demonstration's, and of other images."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from mirage_atlas.demo.captions import caption, choose
from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES, SINGULAR, STRUCTURES
from mirage_atlas.demo.lesions import SIGNALS, ZONES
from mirage_atlas.demo.samples import SAMPLES
from mirage_atlas.demo.sections import LEVELS_MM, Lesion, SectionSpec

NAMES = {
    name: structure.name for structure in STRUCTURES for name in (structure.name, SINGULAR.get(structure.name, ""))
}
NAMES.pop("", None)
"""Plural and singular names of the landmark table to the table's own."""
_STRUCTURE = re.compile("|".join(sorted(map(re.escape, NAMES), key=len, reverse=True)))
_LOBE = re.compile(r"\b(?:left|right) thalamus\b")
"""Where a lesion lies, not what the section shows."""

OTHER_MODALITIES: dict[str, tuple[str, ...]] = {
    "x-ray": ("X-ray", "radiograph", "plain film"),
    "ct": ("CT", "CT scan", "computed tomography"),
    "mr": ("MRI", "MR image", "magnetic resonance image"),
    "us": ("ultrasound", "sonogram", "ultrasound image"),
    "nm": ("scintigraphy", "nuclear medicine scan"),
}
OTHER_PARTS = ("chest", "abdomen", "pelvis", "spine", "knee", "shoulder", "heart", "liver", "kidney", "neck", "hand", "foot",
               "hip", "breast", "lower leg", "head", "thyroid", "lymph node")  # fmt: skip
OTHER_PLANES: dict[str, tuple[str, ...]] = {
    "x-ray": ("frontal", "lateral", ""),
    "ct": ("axial", "coronal", "sagittal", ""),
    "mr": ("axial", "coronal", "sagittal", ""),
    "us": ("", ""),
    "nm": ("", "frontal"),
}
FINDINGS = (
    "a fracture", "a mass", "an effusion", "a cyst", "consolidation", "a nodule", "oedema", "calcification", "a stone",
    "an abscess", "a haematoma", "thickening of the wall", "narrowing", "dilatation", "a tumour", "free fluid", "free air",
    "degenerative changes", "a tear", "a thrombus", "an aneurysm", "enlarged lymph nodes", "atelectasis", "a hernia",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One caption and what it says: facet words, a lesion or a finding, and the structures that it names.

    `finding` is None if the caption does not mention findings, and "" if it says that there is none.
    """

    caption: str
    modality: str
    part: str
    plane: str = ""
    sequence: str = ""
    section_side: str = ""
    structures: tuple[str, ...] = field(default=())
    lesion: Lesion | None = None
    finding: str | None = None

    @property
    def brain(self) -> bool:
        """True for a section of the demonstration atlas's kind."""
        return bool(self.sequence) and self.part == "brain"


def named_structures(text: str) -> tuple[str, ...]:
    """Structures of the landmark table that a text names, by the table's names, in their order of appearance."""
    return tuple(dict.fromkeys(NAMES[found] for found in _STRUCTURE.findall(text)))


def brain_spec(rng: np.random.Generator, *, like: SectionSpec | None = None) -> SectionSpec:
    """Returns any section, or one near `like`, as the neighbours of a retrieval are."""
    plane = PLANES[int(rng.integers(3))] if like is None or rng.random() < 0.25 else like.plane
    sequence = SEQUENCES[int(rng.integers(3))] if like is None or rng.random() < 0.35 else like.sequence
    low, high = LEVELS_MM[plane]
    if like is not None and plane == like.plane:
        level = int(np.clip(like.level_mm + 4 * int(rng.integers(-3, 4)), low, high))
    else:
        level = int(rng.integers(low, high + 1))
    lesion = None
    if rng.random() < (0.5 if like is None else (0.85 if like.lesion else 0.15)):
        lesion = _lesion(rng, like.lesion if like and rng.random() < 0.7 else None)
    spec = SectionSpec(plane, level, sequence, lesion)
    if lesion and spec.side in ("left", "right") and spec.side != lesion.side:
        # A sagittal section shows one side, so its lesion is on that side.
        return replace(spec, lesion=replace(lesion, side=spec.side))
    return spec


def _lesion(rng: np.random.Generator, like: Lesion | None) -> Lesion:
    zone = ZONES[int(rng.integers(len(ZONES)))]
    size = int(rng.integers(10, 35))
    signal = SIGNALS[int(rng.integers(2))]
    side = ("left", "right")[int(rng.integers(2))]
    if like is not None:
        side = like.side if rng.random() < 0.7 else side
        return Lesion(side, like.lobe, size, like.signal if rng.random() < 0.7 else signal, (0, 0, 0), (1, 1, 1))
    return Lesion(side, zone.lobe, size, signal, (0, 0, 0), (1, 1, 1))


def brain_caption(spec: SectionSpec, rng: np.random.Generator) -> Seen:
    """The atlas's caption of a section, in one of its many wordings."""
    text = caption(spec, rng)
    return Seen(
        caption=text,
        modality="mr",
        part="brain",
        plane=spec.plane,
        sequence=spec.sequence,
        section_side=(spec.side or "") if spec.plane == "sagittal" else "",
        structures=named_structures(_LOBE.sub(" ", text)),
        lesion=spec.lesion,
        finding="a lesion" if spec.lesion else "",
    )


def other_caption(rng: np.random.Generator, *, like: Seen | None = None) -> Seen:
    """A caption of another kind of image; half of the time its finding is a made-up word, which can only be copied."""
    if rng.random() < 0.12:
        sample = SAMPLES[int(rng.integers(len(SAMPLES)))]
        words = sample.labels
        return Seen(sample.caption, words["modality"], words["body_part"], words.get("plane", ""))
    modality = like.modality if like and rng.random() < 0.6 else choose(rng, tuple(OTHER_MODALITIES))
    part = like.part if like and rng.random() < 0.6 else choose(rng, OTHER_PARTS)
    plane = choose(rng, OTHER_PLANES[modality])
    finding = (
        choose(rng, FINDINGS)
        if rng.random() < 0.5
        else f"{choose(rng, ('a ', '', 'an old ', 'a small '))}{invented(rng)}"
    )
    noun = choose(rng, OTHER_MODALITIES[modality])
    said: str | None = finding
    if rng.random() < 0.15:
        tail, said = choose(rng, (".", ", normal.", " without abnormality.")), None
        said = None if tail == "." else ""
    else:
        tail = choose(rng, (f" showing {finding}.", f" with {finding}.", f": {finding}.", f" demonstrating {finding}."))
    head = choose(rng, (f"{plane} {noun} of the {part}", f"{part} {noun}, {plane}" if plane else f"{part} {noun}"))
    text = " ".join(head.split()) + tail
    return Seen(text[0].upper() + text[1:], modality, part, plane, finding=said)


_ONSETS = ("b", "br", "c", "ch", "cl", "d", "f", "fl", "g", "gl", "h", "k", "l", "m", "n", "p", "ph", "pl", "r", "s", "st",
           "t", "th", "tr", "v", "x", "z", "")  # fmt: skip
_NUCLEI = ("a", "e", "i", "o", "u", "ae", "eu", "io", "y", "ea")
_ENDINGS = (
    "oma",
    "itis",
    "osis",
    "ia",
    "ectasia",
    "cele",
    "lith",
    "plasia",
    "trophy",
    "al mass",
    "ic change",
    "oid lesion",
)


def invented(rng: np.random.Generator) -> str:
    """Returns an invented word that sounds medical, so that only copying helps."""
    stem = "".join(choose(rng, _ONSETS) + choose(rng, _NUCLEI) for _ in range(int(rng.integers(1, 4))))
    return stem + choose(rng, ("l", "n", "r", "m", "d", "c")) + choose(rng, _ENDINGS)
