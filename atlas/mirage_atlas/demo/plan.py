"""The sections of the demonstration atlas: plain ones at every held-out level, and lesions in every plane and contrast."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES, Plane
from mirage_atlas.demo.lesions import SIGNALS, USUAL_SIGNAL, ZONES, Zone, held_out, in_tissue
from mirage_atlas.demo.sections import LEVELS_MM, Lesion, SectionSpec
from mirage_atlas.demo.template import Template

LEVEL_STEP_MM = 4
"""Levels of the atlas are the multiples of this; training uses none of them."""

CASES_PER_ZONE = 5
CASE_SEED = 20261122


@dataclass(frozen=True)
class Entry:
    """One rendering of the atlas: its id and what it shows."""

    id: str
    spec: SectionSpec

    def generator(self) -> np.random.Generator:
        """A generator that depends on the id alone, for the wording of the caption."""
        return np.random.default_rng(list(hashlib.sha256(self.id.encode()).digest()))


def plan(template: Template) -> tuple[Entry, ...]:
    """All renderings, always the same: 3 contrasts of every level of 3 planes, then each lesion on both sides."""
    entries = []
    for plane in PLANES:
        low, high = LEVELS_MM[plane]
        first = -(-low // LEVEL_STEP_MM) * LEVEL_STEP_MM
        for level in range(first, high + 1, LEVEL_STEP_MM):
            entries += [
                Entry(f"demo-{plane}-{_signed(level)}-{sequence}", SectionSpec(plane, level, sequence))
                for sequence in SEQUENCES
            ]
    rng = np.random.default_rng(CASE_SEED)
    number = 0
    for zone in ZONES:
        for _ in range(CASES_PER_ZONE):
            number += 1
            entries += _case_entries(number, zone, template, rng)
    return tuple(entries)


def _case_entries(number: int, zone: Zone, template: Template, rng: np.random.Generator) -> list[Entry]:
    """One simulated lesion, on either side, cut by three planes in three contrasts: 18 renderings."""
    while True:
        x, y, z = (float(rng.uniform(*span)) for span in (zone.x, zone.y, zone.z))
        size = int(rng.integers(12, zone.largest_mm + 1))
        axes = (
            float(size / 2 * rng.uniform(0.88, 1.12)),
            float(size / 2 * rng.uniform(0.88, 1.12)),
            float(size / 2 * rng.uniform(0.88, 1.12)),
        )
        if held_out((x, y, z)) and in_tissue(template, (x, y, z)) and axes[0] <= x - 1:
            break
    unusual = rng.random() < 0.25
    entries = []
    for side, sign in (("left", -1), ("right", 1)):
        for plane in PLANES:
            level = _nearest_level({"sagittal": sign * x, "coronal": y, "axial": z}[plane], plane)
            for sequence in SEQUENCES:
                signal = USUAL_SIGNAL[sequence]
                if unusual:
                    signal = SIGNALS[1 - SIGNALS.index(signal)]
                lesion = Lesion(side, zone.lobe, size, signal, (sign * x, y, z), axes)
                name = f"demo-lesion-{number:02d}-{side}-{plane}-{sequence}"
                entries.append(Entry(name, SectionSpec(plane, level, sequence, lesion)))
    return entries


def _nearest_level(position_mm: float, plane: Plane) -> int:
    low, high = LEVELS_MM[plane]
    level = round(position_mm / LEVEL_STEP_MM) * LEVEL_STEP_MM
    return max(-(-low // LEVEL_STEP_MM) * LEVEL_STEP_MM, min(high // LEVEL_STEP_MM * LEVEL_STEP_MM, level))


def _signed(level_mm: int) -> str:
    return f"{'p' if level_mm >= 0 else 'm'}{abs(level_mm):02d}"
