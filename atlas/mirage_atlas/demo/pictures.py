"""Single pictures of the demonstration: each file of an archive with a caption that was written by looking at it.

Only pixels leave a file. What is burned into a picture is cut off, and a DICOM header is read for nothing but how to show them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from mirage_atlas.demo.parts import Opened, Origin
from mirage_atlas.records import AtlasRecord, BadRow, Labels
from mirage_core.errors import MirageError
from mirage_core.imaging import decode_image, encode_png

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
LONGEST_PX = 1024


@dataclass(frozen=True)
class Picture:
    """One file: `labels` are facets without the licence, `keep` the part of the picture that is kept, as shares of its sides.

    Of a file with several frames, the middle one is taken. A picture that is stored upside down is `upturned`, one whose
    patient's right is at image right `mirrored`.
    """

    id: str
    file: str
    title: str
    caption: str
    labels: dict[str, tuple[str, ...]]
    origin: Origin
    keep: Box = WHOLE
    upturned: bool = False
    mirrored: bool = False


def record(picture: Picture, data: bytes) -> AtlasRecord | BadRow:
    """The record of a picture out of its file's bytes; a bad row if they cannot be decoded."""
    try:
        image = decode_image(data).image
    except MirageError as error:
        return BadRow(0, "the picture could not be decoded", picture.id, str(error.code))
    left, top, right, bottom = picture.keep
    image = image.crop(
        (round(left * image.width), round(top * image.height), round(right * image.width), round(bottom * image.height))
    )
    if picture.upturned:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if picture.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.thumbnail((LONGEST_PX, LONGEST_PX))
    if image.getbbox() is None:
        return BadRow(0, "the picture is empty", picture.id)
    png = encode_png(image)
    labels: Labels = {**picture.labels, "licence": (picture.origin.licence.lower(),)}
    return AtlasRecord(
        id=picture.id,
        caption=picture.caption,
        title=picture.title,
        labels=labels,
        original_labels={},
        licence=picture.origin.licence,
        source=picture.origin.source,
        attribution=picture.origin.attribution,
        sha256=hashlib.sha256(png).hexdigest(),
        image_bytes=png,
    )


@dataclass(frozen=True)
class Gallery:
    """Single pictures."""

    pictures: tuple[Picture, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """One a picture."""
        return tuple(each.file for each in self.pictures)

    def open(self, data: Sequence[bytes]) -> Opened:
        """One stream."""
        rows = (record(*each) for each in zip(self.pictures, data, strict=True))
        return Opened(len(self.pictures), [rows])
