"""Claims of texts and contents of images as arrays, and the degree to which a claim is true of an image.

A claim leaves an attribute open when its text does not mention it, so that "axial" is true of every axial section.
These truths replace the diagonal of the usual contrastive loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES, Plane
from mirage_atlas.demo.lesions import LOBES, SIGNALS
from mirage_atlas.demo.sections import SectionSpec

SIDES = ("left", "right", "midline")
OPEN = -1
UNMENTIONED_LESION_WEIGHT = 0.3
"""How true a text without a word about lesions is of a section with one."""

LEVEL_SOFTNESS_MM = 4.0
SIZE_SOFTNESS_MM = 5.0
Range = tuple[float, float]


@dataclass(frozen=True)
class Claim:
    """The claims of one text. `levels` maps planes to ranges in mm (|x| for sagittal); None leaves an attribute open.

    `samples` names clinical samples that the text is about; `brain` False means that no rendered section is meant.
    """

    plane: Plane | None = None
    sequence: str | None = None
    levels: tuple[tuple[Plane, Range], ...] = ()
    lesion: bool | None = None
    side: str | None = None
    lobe: str | None = None
    signal: str | None = None
    size: Range | None = None
    samples: frozenset[str] = field(default_factory=frozenset)
    brain: bool = True

    def but(self, **changes: Any) -> Claim:
        """The claim with some attributes changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Shown:
    """The content of one image: a rendered section, a clinical sample by name, or (neither) something outside the
    atlas.
    """

    spec: SectionSpec | None = None
    sample: str | None = None


def full_claim(spec: SectionSpec) -> Claim:
    """Everything that is true of a section, level to 2 mm."""
    lesion = spec.lesion
    return Claim(
        plane=spec.plane,
        sequence=spec.sequence,
        levels=((spec.plane, level_range(spec.plane, spec.level_mm, 2)),),
        lesion=lesion is not None,
        side=spec.side,
        lobe=lesion.lobe if lesion else None,
        signal=lesion.signal if lesion else None,
        size=(lesion.size_mm, lesion.size_mm) if lesion else None,
    )


def level_range(plane: Plane, level_mm: float, around_mm: float) -> Range:
    """A level as a range, of |x| for a sagittal one."""
    level = abs(level_mm) if plane == "sagittal" else level_mm
    return (level - around_mm, level + around_mm)


@dataclass(frozen=True)
class ImageTable:
    """Attributes of N images: int64 [N] indices (-1 for none), float32 [N] level and size (NaN for none)."""

    plane: NDArray[np.int64]
    sequence: NDArray[np.int64]
    side: NDArray[np.int64]
    lobe: NDArray[np.int64]
    signal: NDArray[np.int64]
    lesion: NDArray[np.int64]
    level: NDArray[np.float32]
    size: NDArray[np.float32]
    sample: tuple[str | None, ...]


def image_table(images: list[Shown]) -> ImageTable:
    """Attributes of images as arrays."""

    def index(options: tuple[str, ...], value: str | None) -> int:
        return OPEN if value is None else options.index(value)

    rows = []
    for image in images:
        spec = image.spec
        if spec is None:
            rows.append((OPEN, OPEN, OPEN, OPEN, OPEN, OPEN, np.nan, np.nan))
            continue
        lesion = spec.lesion
        rows.append(
            (
                index(PLANES, spec.plane),
                index(SEQUENCES, spec.sequence),
                index(SIDES, spec.side),
                index(LOBES, lesion.lobe if lesion else None),
                index(SIGNALS, lesion.signal if lesion else None),
                int(lesion is not None),
                abs(spec.level_mm) if spec.plane == "sagittal" else spec.level_mm,
                lesion.size_mm if lesion else np.nan,
            )
        )
    table = np.array(rows, dtype=np.float64)
    plane, sequence, side, lobe, signal, lesion_present = table[:, :6].T.astype(np.int64)
    return ImageTable(
        plane=plane,
        sequence=sequence,
        side=side,
        lobe=lobe,
        signal=signal,
        lesion=lesion_present,
        level=table[:, 6].astype(np.float32),
        size=table[:, 7].astype(np.float32),
        sample=tuple(image.sample for image in images),
    )


def truth(claim: Claim, images: ImageTable) -> NDArray[np.float32]:
    """Returns the degree to which a claim is true of each image: float32 [N] in 0..1."""
    if not claim.brain:
        return np.array([1.0 if s is not None and s in claim.samples else 0.0 for s in images.sample], dtype=np.float32)
    weight = (images.plane >= 0).astype(np.float32)
    for value, options, column in (
        (claim.plane, PLANES, images.plane),
        (claim.sequence, SEQUENCES, images.sequence),
        (claim.side, SIDES, images.side),
        (claim.lobe, LOBES, images.lobe),
        (claim.signal, SIGNALS, images.signal),
    ):
        if value is not None:
            weight *= column == options.index(value)
    if claim.lesion is not None:
        weight *= images.lesion == int(claim.lesion)
    elif claim.lobe is None and claim.signal is None:
        weight *= np.where(images.lesion == 1, UNMENTIONED_LESION_WEIGHT, 1.0)
    if claim.levels:
        near = np.zeros_like(weight)
        for plane, (low, high) in claim.levels:
            outside = np.maximum(np.maximum(low - images.level, images.level - high), 0.0)
            inside = np.exp(-0.5 * (outside / LEVEL_SOFTNESS_MM) ** 2)
            near = np.where(images.plane == PLANES.index(plane), inside, near)
        weight *= near
    if claim.size is not None:
        outside = np.maximum(np.maximum(claim.size[0] - images.size, images.size - claim.size[1]), 0.0)
        weight *= np.nan_to_num(np.exp(-0.5 * (outside / SIZE_SOFTNESS_MM) ** 2), nan=0.0)
    weight = np.where(weight < 0.02, 0.0, weight)
    if claim.samples:
        weight = np.maximum(weight, [float(s is not None and s in claim.samples) for s in images.sample])
    return weight.astype(np.float32)
