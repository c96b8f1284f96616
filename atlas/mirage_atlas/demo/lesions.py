"""Simulated focal lesions: their possible places, how they are drawn, and the places that training does not use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.contrast import Sequence
from mirage_atlas.demo.landmarks import Plane, Range
from mirage_atlas.demo.sections import LEVELS_MM, Lesion, coordinates
from mirage_atlas.demo.template import Template, voxel

SIGNALS = ("hyperintense", "hypointense")
BRIGHTNESS: dict[tuple[Sequence, str], float] = {
    ("t1", "hyperintense"): 1.0,
    ("t1", "hypointense"): 0.16,
    ("t2", "hyperintense"): 1.0,
    ("t2", "hypointense"): 0.10,
    ("flair", "hyperintense"): 1.0,
    ("flair", "hypointense"): 0.12,
}
"""Displayed brightness of the lesion's core; not a pathology's real value, only clearly brighter or darker than tissue."""

USUAL_SIGNAL: dict[Sequence, str] = {"t1": "hypointense", "t2": "hyperintense", "flair": "hyperintense"}
SIZES_MM: Range = (10, 34)
HELD_OUT_CELL_MM = 8


@dataclass(frozen=True)
class Zone:
    """A box in MNI mm (x of the right side) inside one lobe, with the largest lesion that fits into it."""

    lobe: str
    x: Range
    y: Range
    z: Range
    largest_mm: int = 34


ZONES: tuple[Zone, ...] = (
    Zone("frontal lobe", (14, 40), (28, 56), (-4, 44)),
    Zone("frontal lobe", (16, 44), (4, 28), (34, 60)),
    Zone("parietal lobe", (14, 50), (-66, -36), (32, 60)),
    Zone("occipital lobe", (12, 36), (-94, -76), (-6, 28), 26),
    Zone("temporal lobe", (44, 62), (-46, 2), (-26, 2), 26),
    Zone("temporal lobe", (30, 48), (-8, 14), (-38, -24), 22),
    Zone("cerebellum", (12, 40), (-76, -50), (-50, -28), 28),
    Zone("basal ganglia", (14, 28), (-8, 16), (-4, 12), 20),
    Zone("thalamus", (9, 18), (-28, -10), (2, 14), 16),
)
LOBES: tuple[str, ...] = tuple(dict.fromkeys(zone.lobe for zone in ZONES))


def held_out(centre_mm: tuple[float, float, float]) -> bool:
    """True if a lesion centred here is kept from training: one in four 8 mm cells of (|x|, y, z), the same on both
    sides.
    """
    cell = [int(np.floor(v / HELD_OUT_CELL_MM)) for v in (abs(centre_mm[0]), centre_mm[1], centre_mm[2])]
    return (cell[0] * 7 + cell[1] * 13 + cell[2] * 29) % 4 == 0


def draw_lesion(
    template: Template,
    rng: np.random.Generator,
    *,
    plane: Plane,
    level_mm: int,
    sequence: Sequence,
    want_held_out: bool,
) -> Lesion | None:
    """A lesion that this section cuts near its middle, or none when no zone is cut after some tries.

    Its centre is in tissue, its whole width on one side of the midline; `want_held_out` chooses the kind of cell.
    """
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    low, high = LEVELS_MM[plane]
    if not low <= level_mm <= high:
        return None
    for _ in range(60):
        zone = ZONES[int(rng.integers(len(ZONES)))]
        side = "right" if rng.random() < 0.5 else "left"
        if plane == "sagittal":
            side = "right" if level_mm > 0 else "left"
        size = int(rng.integers(SIZES_MM[0], zone.largest_mm + 1))
        point = [float(rng.uniform(*span)) for span in (zone.x, zone.y, zone.z)]
        level = abs(level_mm) if plane == "sagittal" else level_mm
        point[axis] = level + float(rng.uniform(-0.2, 0.2)) * size
        spans = (zone.x, zone.y, zone.z)
        axes = tuple(float(size / 2 * rng.uniform(0.85, 1.15)) for _ in range(3))
        if not spans[axis][0] <= point[axis] <= spans[axis][1] or axes[0] > point[0] - 1:
            continue
        signed = (point[0] if side == "right" else -point[0], point[1], point[2])
        if held_out(signed) != want_held_out or not in_tissue(template, signed):
            continue
        usual = USUAL_SIGNAL[sequence]
        other = SIGNALS[1 - SIGNALS.index(usual)]
        signal = usual if rng.random() < 0.75 else other
        return Lesion(side, zone.lobe, size, signal, signed, (axes[0], axes[1], axes[2]))
    return None


def lesion_mask(lesion: Lesion, plane: Plane, level_mm: int) -> NDArray[np.float32]:
    """Returns the part of each pixel of the displayed section that the lesion fills: float32 0..1, with a soft edge
    of about 2 mm.
    """
    grids = coordinates(plane, level_mm)
    squares = [((grid - c) / a) ** 2 for grid, c, a in zip(grids, lesion.centre_mm, lesion.axes_mm, strict=True)]
    distance = np.sqrt(squares[0] + squares[1] + squares[2])
    edge = (1.0 - distance) * (min(lesion.axes_mm) / 2.0)
    mask: NDArray[np.float32] = np.clip(0.5 + edge, 0.0, 1.0).astype(np.float32)
    return mask


def with_lesion(
    picture: NDArray[np.float32], tissue: NDArray[np.float32], mask: NDArray[np.float32], brightness: float
) -> NDArray[np.float32]:
    """Returns the section with the lesion drawn on brain tissue only; all arrays have the same shape, 0..1."""
    share = mask * np.clip(tissue * 1.6, 0.0, 1.0)
    laid_in: NDArray[np.float32] = picture * (1.0 - share) + brightness * share
    return laid_in


def in_tissue(template: Template, point_mm: tuple[float, float, float]) -> bool:
    """True if the voxel at an MNI point is mostly grey or white matter."""
    index = voxel(*point_mm)
    return bool(template.grey[index] + template.white[index] > 0.7)
