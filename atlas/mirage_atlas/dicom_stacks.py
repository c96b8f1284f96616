"""Stacks of sections in a DICOM series or file: their order, and the ones in the middle."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirage_atlas.records import Labels
from mirage_core.dicom.elements import Frame

_Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """Orientation and position of a frame: unit normal and position in mm; None if the file does not say."""

    normal: _Vector | None = None
    position: _Vector | None = None

    def along(self, normal: _Vector) -> float | None:
        """The place along a normal, in mm to two decimals: sections at the same place are the same section."""
        return None if self.position is None else round(_dot(self.position, normal), 2)


@dataclass(frozen=True)
class Slice:
    """One file of a series: where it is and what its headers say of the frame that is shown.

    `section` is the place of that frame in a stack within the file, and how many sections this has; (0, 0) without a stack.
    """

    path: Path
    file: int
    number: int
    instance: str
    size: tuple[int, int]
    plane: Plane
    labels: Labels
    frames: int
    frame: int
    section: tuple[int, int] = (0, 0)


def plane_of(frame: Frame) -> Plane:
    """Orientation and position of a frame; orientations that span no plane are left out."""
    cosines = _numbers(frame, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _numbers(frame, "PlanePositionSequence", "ImagePositionPatient", 3)
    normal = None
    if cosines:
        (a, b, c), (d, e, f) = cosines[:3], cosines[3:]
        cross = (b * f - c * e, c * d - a * f, a * e - b * d)
        length = math.sqrt(_dot(cross, cross))
        normal = (cross[0] / length, cross[1] / length, cross[2] / length) if length > 0.01 else None
    return Plane(normal, (position[0], position[1], position[2]) if position else None)


def _numbers(frame: Frame, group: str, keyword: str, count: int) -> list[float]:
    """So many finite numbers; none if there are more or fewer."""
    values = frame.either(group, keyword).numbers(keyword)
    return values if len(values) == count and all(map(math.isfinite, values)) else []


def largest_stack(slices: list[Slice]) -> list[Slice]:
    """The sections of a series in their order: of its largest stack of planes, one for each position.

    Without orientations, or if every plane has its own (radial planes), the order is that of the instance numbers.
    """
    ordered = sorted(slices, key=lambda each: (each.number, each.instance))
    stacks: list[list[Slice]] = []
    for each in ordered:
        for stack in stacks:
            if _is_parallel(stack[0], each):
                stack.append(each)
                break
        else:
            stacks.append([each])
    largest = max(stacks, key=len)
    return _sections(ordered if len(largest) == 1 else largest)


def _is_parallel(first: Slice, second: Slice) -> bool:
    if first.size != second.size or (first.plane.normal is None) != (second.plane.normal is None):
        return False
    if first.plane.normal is None or second.plane.normal is None:
        return True
    return _dot(first.plane.normal, second.plane.normal) > 0.999


def _sections(stack: list[Slice]) -> list[Slice]:
    """The slices by position along the normal; of several at one position (echoes, times, directions) the first."""
    normal = stack[0].plane.normal
    places = [each.plane.along(normal) if normal is not None else None for each in stack]
    if any(place is None for place in places) or len(set(places)) == 1:
        return stack
    at: dict[float, Slice] = {}
    for place, each in zip(places, stack, strict=True):
        if place is not None:
            at.setdefault(place, each)
    return [at[place] for place in sorted(at)]


def middle_of(planes: list[Plane]) -> tuple[int, tuple[int, int]]:
    """The frame in the middle of a file's largest stack, and its place in that and the stack's size: (0, 0) without positions."""
    stacks: dict[int, list[int]] = defaultdict(list)
    first: list[_Vector] = []
    for index, plane in enumerate(planes):
        if plane.normal is None or plane.position is None:
            return len(planes) // 2, (0, 0)
        normal = plane.normal
        number = next((n for n, known in enumerate(first) if _dot(known, normal) > 0.999), len(first))
        if number == len(first):
            first.append(normal)
        stacks[number].append(index)
    number = max(stacks, key=lambda n: len(stacks[n]))
    at: dict[float, int] = {}
    for index in stacks[number]:
        place = planes[index].along(first[number])
        if place is not None:
            at.setdefault(place, index)
    if len(at) == 1:
        return len(planes) // 2, (0, 0)
    places = sorted(at)
    return at[places[len(places) // 2]], (len(places) // 2 + 1, len(places))


def spread(slices: list[Slice], count: int) -> list[tuple[int, Slice]]:
    """Up to `count` of the slices with their places, in the middle of equal parts."""
    count = min(count, len(slices))
    places = [int((i + 0.5) * len(slices) / count) for i in range(count)]
    return [(place + 1, slices[place]) for place in places]


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))
