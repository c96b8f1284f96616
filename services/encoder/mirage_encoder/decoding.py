"""The work on an image file in a decoding child: only small arrays are returned."""

from dataclasses import dataclass

from mirage_core.imaging import decode_image
from mirage_inference.bundles import ImageInput
from mirage_inference.encoder.picture_statistics import Array, picture_statistics
from mirage_inference.encoder.preprocessing import PixelArray, preprocess


@dataclass(frozen=True)
class Seen:
    """An image as the image tower takes it (float32 [3, size, size]) and its picture statistics (float32 [12])."""

    pixels: PixelArray
    statistics: Array


def prepare(data: bytes, spec: ImageInput) -> PixelArray:
    """Returns what the image tower takes of an image file; raises the IMAGE_* errors."""
    return preprocess(decode_image(data).image, spec)


def look(data: bytes, spec: ImageInput) -> Seen:
    """Returns what the image tower and the gate take of an image file; raises the IMAGE_* errors."""
    image = decode_image(data).image
    return Seen(preprocess(image, spec), picture_statistics(image))
