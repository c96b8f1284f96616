"""The work on an image file in a decoding child: only small arrays are returned."""

from collections.abc import Mapping
from dataclasses import dataclass

from mirage_core.imaging import decode_image
from mirage_inference.bundles import ImageInput
from mirage_inference.encoder.picture_statistics import Array, picture_statistics
from mirage_inference.encoder.preprocessing import PixelArray, preprocess


@dataclass(frozen=True)
class Seen:
    """An image as the image tower takes it (float32 [3, size, size]) and its picture statistics (float32 [12]).

    `stated` has the facets that the header of a DICOM file states.
    """

    pixels: PixelArray
    statistics: Array
    stated: Mapping[str, str]


def prepare(data: bytes, spec: ImageInput) -> PixelArray:
    """Returns what the image tower takes of an image file; raises the IMAGE_* errors."""
    return preprocess(decode_image(data).image, spec)


def look(data: bytes, spec: ImageInput) -> Seen:
    """Returns what the image tower and the gate take of an image file; raises the IMAGE_* errors."""
    decoded = decode_image(data)
    says: Mapping[str, str] = {}
    if decoded.media_type == "application/dicom":
        # Imported on first use, as `decode_image` does: pydicom is slow to load.
        from mirage_core.dicom.stated import stated

        says = stated(data)
    return Seen(preprocess(decoded.image, spec), picture_statistics(decoded.image), says)
