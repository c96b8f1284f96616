"""The captioned images that quantisation is calibrated and measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from mirage_core.imaging import decode_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

T = TypeVar("T")

_PHRASES = (
    "axial T1",
    "Sagittal MRI of the brain, FLAIR, at the level of the corpus callosum.",
    "chest x-ray, frontal view, enlarged heart",
    "CT of the abdomen with contrast; a 3.5 cm cyst in the left kidney",
    "histology, haematoxylin and eosin, squamous cells",
    "fundus",
    "ultrasound of the right breast: irregular hypoechoic mass with posterior shadowing, BI-RADS 5",
    "What does a meningioma look like on T2-weighted images compared with an abscess of the frontal lobe?",
)


@dataclass(frozen=True)
class CalibrationSet:
    """Captions and RGB images; item i of one belongs to item i of the other where `paired`."""

    captions: tuple[str, ...]
    images: tuple[Image.Image, ...]
    paired: bool

    def __len__(self) -> int:
        return len(self.captions)


def spaced(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced, in order."""
    if len(items) <= count:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).astype(int)]


def read_calibration(folder: Path, *, items: int) -> CalibrationSet:
    """Returns at most `items` records, evenly spaced, of a folder with captions.jsonl.

    Raises ValueError for an empty one.
    """
    from mirage_atlas.jsonl import CaptionsReader
    from mirage_atlas.records import AtlasRecord

    records = [row for row in CaptionsReader(folder).read() if isinstance(row, AtlasRecord)]
    if not records:
        raise ValueError(f"no records in {folder}")
    chosen = spaced(records, items)
    images = tuple(decode_image(record.read_image()).image for record in chosen)
    return CalibrationSet(tuple(record.caption for record in chosen), images, paired=True)


def make_calibration() -> CalibrationSet:
    """Returns phrases and smooth random images of odd sizes, always the same, for builds without captioned images.

    Enough to compare vectors of a tower with the original's, not to say anything about retrieval.
    """
    random = np.random.default_rng(0)
    images = []
    for number in range(len(_PHRASES)):
        coarse = random.integers(0, 256, (5 + number, 7, 3), dtype=np.uint8)
        size = (97 + 61 * number, 233 - 17 * number)
        images.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return CalibrationSet(_PHRASES, tuple(images), paired=False)
