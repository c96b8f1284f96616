"""Volumes that come without a label map: some of their sections, with captions that say no more than plane, kind and place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mirage_atlas.demo.cross_sections import Cutter
from mirage_atlas.demo.landmarks import Plane
from mirage_atlas.demo.parts import Opened, Origin
from mirage_atlas.demo.section_records import DISPLAY, Values, spread
from mirage_atlas.demo.volumes import Volume
from mirage_atlas.records import AtlasRecord

_AXIS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class PlainVolume:
    """An examination: the sections of one plane without `left_out` at either end. `read` makes the volume of the files.

    `what` is what captions call it (`MRI of the brain`), `shows` a clause that is true of each section, `windows` are those of
    the CT's sections in turn ("" for MRI). `count_from` is where sections are counted from, index 0 of the plane's axis.
    """

    id: str
    what: str
    shows: str
    plane: Plane
    count_from: str
    labels: dict[str, tuple[str, ...]]
    origin: Origin
    files: tuple[str, ...]
    read: Callable[[Sequence[bytes]], Volume]
    left_out: tuple[int, int] = (1, 1)
    windows: tuple[str, ...] = ("",)

    def open(self, data: Sequence[bytes]) -> Opened:
        """One stream, in an order that soon shows the whole."""
        volume = self.read(data)
        count = max(0, volume.values.shape[_AXIS[self.plane]] - sum(self.left_out))
        return Opened(count, [self._stream(volume, count)])

    def _stream(self, volume: Volume, count: int) -> Iterator[AtlasRecord]:
        cutter = Cutter(volume)
        values = Values.of_ct(volume) if "ct" in self.labels["modality"] else Values.of_other(volume)
        for number in spread(count):
            section = cutter.cut(self.plane, self.left_out[0] + number)
            window = self.windows[number % len(self.windows)]
            png = values.png(section.values)
            shown = f", {window} window" if window else ""
            yield AtlasRecord(
                id=f"{self.id}-{number + 1:03d}",
                caption=f"{self.plane.capitalize()} {self.what}{shown}{self.shows}. "
                f"Section {number + 1} of {count}, counted from {self.count_from}.",
                title=f"{self.what}, {self.plane}{shown}",
                case_id=self.id,
                position=number + 1,
                labels={**self.labels, "plane": (self.plane,), "licence": (self.origin.licence.lower(),)},
                original_labels={
                    **({"window": window} if window else {}),
                    "pixel size in mm": f"{section.pixel_mm:.2f}",
                    "display": DISPLAY[self.plane],
                },
                licence=self.origin.licence,
                source=self.origin.source,
                attribution=self.origin.attribution,
                sha256=hashlib.sha256(png).hexdigest(),
                image_bytes=png,
                pixels=values.info(window),
            )
