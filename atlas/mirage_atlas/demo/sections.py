"""A section of the template: what it shows (`SectionSpec`) and its pixels.

Display convention, everywhere: axial and coronal sections are radiological, image left is the patient's right.
A sagittal section is seen from its own side: the right half from the right (the face looks to image right), the left half and the
midline from the left (the face looks to image left). The template is symmetric, so without this a side could not be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.contrast import Sequence
from mirage_atlas.demo.landmarks import Plane
from mirage_atlas.demo.template import ORIGIN_MM, SHAPE

FIELD_MM = 192
"""Side of the square field of view; one pixel of the native section is 1 mm."""

CENTRE_MM = (0, -17, 5)
"""MNI coordinate shown in the middle of every section."""

MIDLINE_MM = 3
"""Sagittal sections up to this |x| are called midline."""

LEVELS_MM: dict[Plane, tuple[int, int]] = {"axial": (-56, 72), "coronal": (-96, 66), "sagittal": (-62, 62)}
"""First and last level along z, y and x that still cut enough brain to be told."""


@dataclass(frozen=True)
class Lesion:
    """A simulated focal lesion: an ellipsoid around an MNI point; `axes_mm` are its radii, `signal` as displayed."""

    side: str
    lobe: str
    size_mm: int
    signal: str
    centre_mm: tuple[float, float, float]
    axes_mm: tuple[float, float, float]


@dataclass(frozen=True)
class SectionSpec:
    """All that decides a rendering: plane, level in mm along its axis, contrast and at most one lesion."""

    plane: Plane
    level_mm: int
    sequence: Sequence
    lesion: Lesion | None = None

    @property
    def side(self) -> str | None:
        """Side of a sagittal section (`left`, `right`, `midline`), else that of the lesion, else none."""
        if self.plane == "sagittal":
            return section_side(self.level_mm)
        return self.lesion.side if self.lesion else None


def section_side(level_mm: float) -> str:
    """Side of a sagittal level: MNI x grows to the right."""
    if abs(level_mm) <= MIDLINE_MM:
        return "midline"
    return "right" if level_mm > 0 else "left"


def section(volume: NDArray[np.float32], plane: Plane, level_mm: int) -> NDArray[np.float32]:
    """One section in display orientation: float32 [FIELD_MM, FIELD_MM], rows downwards.

    Raises IndexError for a level outside the volume.
    """
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    index = level_mm - ORIGIN_MM[axis]
    if not 0 <= index < SHAPE[axis]:
        raise IndexError("level outside the template")
    if plane == "axial":
        cut, across, down = volume[:, :, index], 0, 1
    elif plane == "coronal":
        cut, across, down = volume[:, index, :], 0, 2
    else:
        cut, across, down = volume[index], 1, 2
    field = np.zeros((FIELD_MM, FIELD_MM), dtype=np.float32)
    first = [CENTRE_MM[a] - FIELD_MM // 2 - ORIGIN_MM[a] for a in (across, down)]
    take = [slice(max(f, 0), min(f + FIELD_MM, SHAPE[a])) for f, a in zip(first, (across, down), strict=True)]
    put = [slice(t.start - f, t.stop - f) for t, f in zip(take, first, strict=True)]
    field[put[0], put[1]] = cut[take[0], take[1]]
    return np.ascontiguousarray(_display(field, plane, level_mm))


def coordinates(plane: Plane, level_mm: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """MNI x, y, z in mm of every pixel of a displayed section; float32 [FIELD_MM, FIELD_MM] each."""
    steps = np.arange(FIELD_MM, dtype=np.float32) - FIELD_MM // 2
    across, down = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
    grids: list[NDArray[np.float32]] = [np.full((FIELD_MM, FIELD_MM), level_mm, dtype=np.float32)] * 3
    grids[across] = np.broadcast_to((steps + CENTRE_MM[across])[:, None], (FIELD_MM, FIELD_MM))
    grids[down] = np.broadcast_to((steps + CENTRE_MM[down])[None, :], (FIELD_MM, FIELD_MM))
    x, y, z = (_display(grid, plane, level_mm) for grid in grids)
    return x, y, z


def _display(field: NDArray[np.float32], plane: Plane, level_mm: int) -> NDArray[np.float32]:
    """From [across, down] in MNI directions to rows and columns of the picture."""
    picture = field.T[::-1]
    if plane != "sagittal" or section_side(level_mm) != "right":
        # Axial and coronal: patient's right at image left. Left and middle sagittal: face to image left.
        picture = picture[:, ::-1]
    return picture
