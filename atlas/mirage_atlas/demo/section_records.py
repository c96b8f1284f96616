"""Records of a volume's sections: pixels in 16 bits with windows, captions and labels out of the map, and the map itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.case_texts import KEYWORDS_MAX
from mirage_atlas.demo import wording
from mirage_atlas.demo.anatomy import COLOURS
from mirage_atlas.demo.cross_sections import Cutter, Found, Section
from mirage_atlas.demo.landmarks import PLANES, Plane
from mirage_atlas.demo.parts import Origin
from mirage_atlas.demo.volumes import Volume
from mirage_atlas.records import AtlasRecord, Labels
from mirage_core.imaging import PixelInfo, Window
from mirage_core.imaging.label_map import encode_label_map
from mirage_core.imaging.png import encode_deep
from mirage_core.regions import Region, RegionMap

CT_WINDOWS = {
    "soft tissue": Window("soft tissue", 40.0, 400.0),
    "lung": Window("lung", -600.0, 1500.0),
    "bone": Window("bone", 400.0, 1800.0),
}
CONTRAST_HU, PLAIN_HU = 130.0, 60.0
"""A CT was made with contrast in the vessels if the mean of its aorta is at least the first, without if it is at most the second;
blood by itself has 30 to 60. Nothing is said of one between them.
"""
_LUNG_MM2, _BONE_MM2 = 4_000.0, 1_500.0
_AIR_HU = -1024
_VALUES_MAX = 64


@dataclass(frozen=True)
class Case:
    """An examination of which sections are taken.

    `what` is what captions call it, `every_mm` the spacing of sections in each plane that is taken, `outlined` who drew the map.
    """

    id: str
    what: str
    modality: str
    every_mm: dict[Plane, float]
    origin: Origin
    outlined: str


class CaseSections:
    """The sections of one case. `streams` yields each plane's in an order that soon shows all of the body."""

    def __init__(self, case: Case, volume: Volume) -> None:
        self._case = case
        self._cutter = Cutter(volume)
        self._values = Values.of_ct(volume) if case.modality == "ct" else Values.of_other(volume)
        self._what = case.what
        if case.modality == "ct" and (aorta := self._cutter.mean("aorta")) is not None:
            self._what += " with contrast" if aorta >= CONTRAST_HU else " without contrast" if aorta <= PLAIN_HU else ""
        self._places = {plane: self._cutter.places(plane, every) for plane, every in case.every_mm.items()}

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def streams(self) -> list[Iterator[AtlasRecord]]:
        """One stream a plane."""
        return [self._stream(plane) for plane in self._places]

    def _places_before(self, plane: Plane) -> list[list[int]]:
        return [places for other, places in self._places.items() if PLANES.index(other) < PLANES.index(plane)]

    def _stream(self, plane: Plane) -> Iterator[AtlasRecord]:
        places = self._places[plane]
        for number in spread(len(places)):
            yield self.record(plane, places[number], number)

    def record(self, plane: Plane, index: int, number: int) -> AtlasRecord:
        """The record of one section; `number` counts the sections of the plane, and alternates the windows."""
        case, section = self._case, self._cutter.cut(plane, index)
        window = window_of(section, number) if case.modality == "ct" else ""
        png = self._values.png(section.values)
        identity = f"{case.id}-{plane}-{index:03d}"
        licence = case.origin.licence.lower()
        labels: Labels = {
            "modality": (case.modality,),
            "plane": (plane,),
            "body_part": tuple(wording.region_words(section.found)),
            "structure": facet_structures(section.found),
            "side": (section.side,) if section.side else (),
            "licence": (licence,),
        }
        names = [each.structure.name for each in section.found]
        synonyms = dict.fromkeys(word for each in section.found for word in each.structure.everyday.split(", ") if word)
        original = {
            "case_id": case.id,
            "structures": "; ".join(names),
            "also called": "; ".join(synonyms),
            "outlined by": case.outlined,
            "level": section.level,
            "window": window,
            "pixel size in mm": f"{section.pixel_mm:.2f}",
            "display": DISPLAY[plane],
        }
        return AtlasRecord(
            id=identity,
            caption=wording.caption(section, self._what, window, identity),
            title=wording.title(section, self._what, window),
            keywords=tuple(dict.fromkeys((*synonyms, *names)))[:KEYWORDS_MAX],
            case_id=case.id,
            position=1 + sum(map(len, self._places_before(plane))) + number,
            labels={name: values for name, values in labels.items() if values},
            original_labels={name: value for name, value in original.items() if value},
            licence=case.origin.licence,
            source=case.origin.source,
            attribution=case.origin.attribution,
            sha256=hashlib.sha256(png).hexdigest(),
            image_bytes=png,
            pixels=self._values.info(window),
            regions=label_map(section),
        )


DISPLAY: dict[Plane, str] = {
    "axial": "image left is the patient's right, the front is up",
    "coronal": "image left is the patient's right, the head is up",
    "sagittal": "the front is at image left, the head is up",
}


def spread(count: int) -> list[int]:
    """0 to count - 1 in an order whose beginning is spread over the whole: halves, then quarters, then eighths, ..."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [number for number in reversed_bits if number < count]


def window_of(section: Section, number: int) -> str:
    """The window of a CT section: soft tissue, but every other one through lungs in theirs, and some with much bone in its."""
    lungs = sum(each.area_mm2 for each in section.found if each.structure.group == "airways and lungs")
    bones = sum(each.area_mm2 for each in section.found if each.structure.group == "bones")
    if lungs >= _LUNG_MM2:
        return ("soft tissue", "lung", "soft tissue", "lung", "bone" if bones >= _BONE_MM2 else "soft tissue", "lung")[
            number % 6
        ]
    return "bone" if bones >= _BONE_MM2 and number % 3 == 2 else "soft tissue"


def facet_structures(found: tuple[Found, ...]) -> tuple[str, ...]:
    """Values of the facet `structure`, those of the largest area first; ribs are one value, because there are 24."""
    names = (("ribs" if " rib " in each.structure.name else each.structure.facet) for each in found)
    return tuple(dict.fromkeys(names))[:_VALUES_MAX]


def label_map(section: Section) -> RegionMap:
    """The structures that the record names, as numbers of a palette: those of the map, the others set to 0."""
    shown = np.zeros(256, np.uint8)
    legend = []
    for each in sorted(section.found, key=lambda each: each.number):
        shown[each.number] = each.number
        group = each.structure.group
        legend.append(Region(each.number, each.structure.name, group, COLOURS[group]))
    return RegionMap(encode_label_map(shown[section.map], legend), tuple(legend))


class Values:
    """Stores the values of a volume as value - lowest, with the windows that show them."""

    def __init__(self, lowest: int, highest: int, unit: str, windows: dict[str, Window]) -> None:
        self._lowest, self._highest = lowest, highest
        self._unit = unit
        self._windows = windows

    @classmethod
    def of_ct(cls, volume: Volume) -> Values:
        """Hounsfield units from air up, shown in the usual windows."""
        return cls(_AIR_HU, max(int(volume.values.max()), _AIR_HU + 1), "HU", CT_WINDOWS)

    @classmethod
    def of_other(cls, volume: Volume) -> Values:
        """Shown from the 1st to the 99.5th percentile of what is on the structures and around them, that is not empty."""
        lowest, highest = int(volume.values.min()), int(volume.values.max())
        used = volume.values[volume.values > lowest]
        low, high = (float(np.percentile(used, share)) for share in (1.0, 99.5))
        window = Window("automatic", (low + high) / 2, max(1.0, high - low))
        return cls(lowest, highest, "", {"": window})

    def info(self, window: str) -> PixelInfo:
        """Says what the numbers mean; the window that is shown comes first."""
        windows = (self._windows[window], *(each for name, each in self._windows.items() if name != window))
        bits = max(1, (self._highest - self._lowest).bit_length())
        return PixelInfo(bits, 1.0, float(self._lowest), self._unit, windows)

    def png(self, values: NDArray[np.int16]) -> bytes:
        """A 16-bit PNG of a section's values [row, column]."""
        stored = (np.clip(values, self._lowest, self._highest).astype(np.int32) - self._lowest).astype(np.uint16)
        return encode_deep(stored)
