"""Sections of a volume as they are displayed: which ones are taken, their pixels, and what their label map shows.

Axial and coronal sections are radiological: the patient's right is at image left; front or head is up. In a sagittal section
the front is at image left and the head is up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_atlas.demo import anatomy
from mirage_atlas.demo.anatomy import Structure
from mirage_atlas.demo.landmarks import PLANES, Plane
from mirage_atlas.demo.volumes import Volume

SHOWN_MM2 = 3_000.0
"""Sections are taken from the first that shows named structures of this area to the last."""
AREA_MM2 = 30.0
"""A structure is said to be on a section if its area there is at least this."""
MIDLINE_MM = 6.0
"""A sagittal section this near to the middle of the spine is called midline."""
ONE_SIDED = 0.9
"""A structure is said to be on the patient's left or right if at least this share of its area on the section is."""
BODY_SHARE = 0.35
"""A section is through the body of a vertebra if it shows at least this share of the body's largest area."""
SIDES_PX = (320, 640)
"""The longer side of a picture is brought into this range."""
_ACROSS: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""Axes of the volume that are a section's columns and rows, and the one that it cuts."""


@dataclass(frozen=True)
class Found:
    """A structure on a section: its number in the map, area, and the patient's side that it is on ("" for both or the middle).

    `share` is its area as a part of its largest area on any section of this plane.
    """

    number: int
    structure: Structure
    label: str
    area_mm2: float
    share: float
    side: str


@dataclass(frozen=True)
class Section:
    """A section in display orientation: values and map of the same shape [row, column], square pixels of `pixel_mm`.

    `found` has the structures on it, the largest first. `level` is the vertebra at whose body an axial section is, or two of them
    (`T8/T9`) if it is between their bodies; `side` is that of a sagittal section. Both are "" if the map does not say.
    """

    plane: Plane
    values: NDArray[np.int16]
    map: NDArray[np.uint8]
    pixel_mm: float
    found: tuple[Found, ...]
    level: str
    side: str


class Cutter:
    """Cuts one volume; areas, levels and the middle are computed once."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._areas = {plane: self._areas_along(plane) for plane in PLANES}
        self._largest = {plane: areas.max(axis=0) for plane, areas in self._areas.items()}
        self._names = {n: label for n, label in volume.names.items() if self._largest["axial"][n] > 0}
        self._structures = {n: s for n, label in self._names.items() if (s := anatomy.structure(label)) is not None}

    def places(self, plane: Plane, every_mm: float) -> list[int]:
        """Indices of the sections to take: evenly spaced from the first that shows a structure to the last."""
        axis = _ACROSS[plane][2]
        shown = np.flatnonzero(self._areas[plane][:, 1:].sum(axis=1) >= SHOWN_MM2)
        if not shown.size:
            return []
        step = max(1, round(every_mm / self._volume.spacing[axis]))
        first, last = int(shown[0]), int(shown[-1])
        return list(range(first + (last - first) % step // 2, last + 1, step))

    def cut(self, plane: Plane, index: int) -> Section:
        """Returns the section at an index of the axis that the plane cuts."""
        across, down, axis = _ACROSS[plane]
        values, labels = (np.take(array, index, axis).T for array in (self._volume.values, self._volume.map))
        if plane != "axial":
            values, labels = values[::-1], labels[::-1]
        width_mm, height_mm = (self._volume.spacing[a] * self._volume.values.shape[a] for a in (across, down))
        pixel = min(self._volume.spacing[across], self._volume.spacing[down])
        pixel = max(width_mm, height_mm) / min(max(max(width_mm, height_mm) / pixel, SIDES_PX[0]), SIDES_PX[1])
        size = round(width_mm / pixel), round(height_mm / pixel)
        return Section(
            plane,
            _resized(values, size),
            np.asarray(Image.fromarray(np.ascontiguousarray(labels)).resize(size, Image.Resampling.NEAREST)),
            pixel,
            self._found(plane, index, labels),
            self._level(index) if plane == "axial" else "",
            self._side(index) if plane == "sagittal" else "",
        )

    def mean(self, label: str) -> float | None:
        """Returns the mean value inside a structure, without its outermost voxels; None if the volume does not have it."""
        number = next((n for n, name in self._names.items() if name == label), None)
        if number is None:
            return None
        box = self._box(number)
        inside = np.pad(self._volume.map[box] == number, 1)
        core = inside.copy()
        for axis in range(3):
            core &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
        chosen = core if core.sum() >= 100 else inside
        return float(self._volume.values[box][chosen[1:-1, 1:-1, 1:-1]].mean())

    @cached_property
    def middle_mm(self) -> float | None:
        """The position of the middle of the spine along x in mm; None without a vertebra in the map."""
        bones = self._numbers(lambda label: label == "spinal_cord" or label.startswith("vertebrae"))
        areas = self._areas["sagittal"][:, bones].sum(axis=1)
        if not areas.sum():
            return None
        return float((areas * np.arange(areas.size)).sum() / areas.sum()) * self._volume.spacing[0]

    def _box(self, *numbers: int) -> tuple[slice, slice, slice]:
        """The part of the volume that structures are in."""
        spans = []
        for plane in ("sagittal", "coronal", "axial"):
            there = np.flatnonzero(self._areas[plane][:, list(numbers)].sum(axis=1))
            spans.append(slice(int(there[0]), int(there[-1]) + 1))
        return spans[0], spans[1], spans[2]

    def _areas_along(self, plane: Plane) -> NDArray[np.float64]:
        """Area in mm2 of each number of the map on each section of a plane: [index, number]."""
        across, down, axis = _ACROSS[plane]
        turned = np.moveaxis(self._volume.map, axis, 0)
        counts = np.stack([np.bincount(each.ravel(), minlength=256) for each in turned])
        return counts.astype(np.float64) * (self._volume.spacing[across] * self._volume.spacing[down])

    def _found(self, plane: Plane, index: int, labels: NDArray[np.uint8]) -> tuple[Found, ...]:
        areas, largest = self._areas[plane][index], self._largest[plane]
        found = []
        for number, structure in self._structures.items():
            if areas[number] < AREA_MM2:
                continue
            side = structure.side
            if not side and plane != "sagittal" and self.middle_mm is not None:
                columns = (np.flatnonzero((labels == number).any(axis=0)), (labels == number).sum(axis=0))
                right = float(
                    (columns[1] * (np.arange(labels.shape[1]) * self._volume.spacing[0] < self.middle_mm)).sum()
                )
                share = right / max(1, int(columns[1].sum()))
                side = "right" if share >= ONE_SIDED else "left" if share <= 1 - ONE_SIDED else ""
            label = self._names[number]
            found.append(
                Found(number, structure, label, float(areas[number]), float(areas[number] / largest[number]), side)
            )
        return tuple(sorted(found, key=lambda each: -each.area_mm2))

    @cached_property
    def _bodies(self) -> Mapping[str, tuple[int, int]]:
        """First and last axial section through the body of each vertebra: what of it is in front of the canal.

        The processes of a vertebra reach down behind the body of the next one, so they do not count.
        """
        cord = self._numbers(lambda label: label == "spinal_cord")
        fronts = np.full(self._volume.map.shape[2], np.nan)
        if cord:
            box = self._box(*cord)
            fronts[box[2]] = _mean_place(np.isin(self._volume.map[box], cord).sum(axis=0).T) + box[1].start
        bodies = {}
        for number, label in self._names.items():
            name = anatomy.vertebra(label)
            if not name:
                continue
            box = self._box(number)
            rows = (self._volume.map[box] == number).sum(axis=0).T
            # Without a canal the front half of the vertebra is taken for its body.
            middle = box[1].start + float(_mean_place(rows.sum(axis=0)[None])[0])
            front = np.where(np.isnan(fronts[box[2]]), middle, fronts[box[2]]) - box[1].start
            area = np.where(np.arange(rows.shape[1])[None] < front[:, None], rows, 0).sum(axis=1)
            through = np.flatnonzero(area >= BODY_SHARE * area.max()) if area.max() else np.zeros(0, np.int64)
            if through.size:
                bodies[name] = (box[2].start + int(through[0]), box[2].start + int(through[-1]))
        return bodies

    def _level(self, index: int) -> str:
        inside = [name for name, (low, high) in self._bodies.items() if low <= index <= high]
        if len(inside) == 1:
            return inside[0]
        if len(inside) > 1:
            return max(inside, key=lambda name: min(index - self._bodies[name][0], self._bodies[name][1] - index))
        above = [(low, name) for name, (low, _) in self._bodies.items() if low > index]
        below = [(high, name) for name, (_, high) in self._bodies.items() if high < index]
        if not above or not below:
            return ""
        (low, upper), (high, lower) = min(above), max(below)
        return f"{upper}/{lower}" if (low - high) * self._volume.spacing[2] <= 20 else ""

    def _side(self, index: int) -> str:
        if self.middle_mm is None:
            return ""
        off = index * self._volume.spacing[0] - self.middle_mm
        return "midline" if abs(off) <= MIDLINE_MM else "left" if off > 0 else "right"

    def _numbers(self, wanted: Callable[[str], bool]) -> list[int]:
        return [number for number, label in self._names.items() if wanted(label)]


def _mean_place(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean index of each row of counts; NaN for an empty one."""
    total = counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        places: NDArray[np.float64] = (counts * np.arange(counts.shape[1])).sum(axis=1) / total
    return places


def _resized(values: NDArray[np.int16], size: tuple[int, int]) -> NDArray[np.int16]:
    if (values.shape[1], values.shape[0]) == size:
        return np.ascontiguousarray(values)
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32)).resize(size, Image.Resampling.BICUBIC)
    low, high = int(values.min()), int(values.max())
    resized: NDArray[np.int16] = np.clip(np.rint(np.asarray(image)), low, high).astype(np.int16)
    return resized
