"""The one image decoder: PNG, JPEG, WebP and DICOM bytes to RGB, with bounds that are checked before pixels are unpacked.

A DICOM file is read for its pixels only: no other field of it is returned, stored or logged (see dicom.py).
"""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.pixels import PixelInfo, Window

__all__ = [
    "CleanImage",
    "DecodedImage",
    "MediaType",
    "PixelInfo",
    "Window",
    "check_size",
    "clean_image",
    "decode_image",
    "encode_png",
    "encode_thumbnail",
    "sniff_media_type",
]

MediaType = Literal["image/png", "image/jpeg", "image/webp", "application/dicom"]

_PILLOW_FORMATS: dict[str, str] = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


@dataclass(frozen=True)
class DecodedImage:
    """An image as the models see it: `image` is a PIL image in mode RGB, upright; sizes in pixels."""

    image: Image.Image
    media_type: MediaType
    frames: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.image.height


@dataclass(frozen=True)
class CleanImage:
    """An image that was decoded and written again, without any metadata in any of its bytes.

    `data` has 8 bits a channel and is what readers get; a JPEG stays a JPEG, all else is lossless. `pixels_data` is a
    lossless 16-bit greyscale PNG of the same size if the source has more than 8 bits, and `pixels` says what its numbers
    mean; else both are None. `frames` is how many the source has.
    """

    data: bytes
    media_type: MediaType
    width: int
    height: int
    frames: int
    pixels_data: bytes | None
    pixels: PixelInfo | None


def sniff_media_type(data: bytes) -> MediaType:
    """What the bytes are by their own signature, whatever a file name says; raises IMAGE_FORMAT_UNSUPPORTED."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[128:132] == b"DICM":
        return "application/dicom"
    raise MirageError(Code.IMAGE_FORMAT_UNSUPPORTED)


def decode_image(data: bytes, *, frame: int | None = None) -> DecodedImage:
    """Decodes one image to RGB; of a multi-frame DICOM the given frame, else the middle one.

    16-bit greyscale is scaled by its own range, DICOM by its window; EXIF orientation is applied. Raises IMAGE_EMPTY,
    IMAGE_TOO_LARGE (bytes), IMAGE_FORMAT_UNSUPPORTED, IMAGE_TOO_SMALL, IMAGE_TOO_MANY_PIXELS, IMAGE_UNREADABLE.
    """
    if not data:
        raise MirageError(Code.IMAGE_EMPTY)
    if len(data) > limits.IMAGE_BYTES:
        raise MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES, given=len(data))
    media_type = sniff_media_type(data)
    if media_type == "application/dicom":
        # Imported on first use: most processes never meet a DICOM file, and pydicom is slow to load.
        from mirage_core.dicom import decode_dicom

        image, frames = decode_dicom(data, frame=frame)
        return DecodedImage(image, media_type, frames)
    return DecodedImage(_decode_picture(data, media_type), media_type, 1)


def clean_image(data: bytes, *, frame: int | None = None, pixels: PixelInfo | None = None) -> CleanImage:
    """Decodes an image and writes it again without metadata; the same pixels give the same bytes.

    `pixels` says what the numbers of a 16-bit greyscale PNG mean; its first window is shown. Raises what `decode_image`
    raises, IMAGE_BURNED_IN if a DICOM file says that its pixels show annotations, and PIXELS_INVALID if `pixels` is given
    with any other image.
    """
    decoded = decode_image(data, frame=frame)
    buffer = io.BytesIO()
    if decoded.media_type == "image/jpeg":
        decoded.image.save(buffer, "JPEG", quality=95, subsampling=0, optimize=True)
        media_type: MediaType = "image/jpeg"
    else:
        decoded.image.save(buffer, "PNG", compress_level=3)
        media_type = "image/png"
    return CleanImage(buffer.getvalue(), media_type, decoded.width, decoded.height, decoded.frames, None, None)


def check_size(width: int, height: int, *, frames: int = 1) -> None:
    """Raises IMAGE_TOO_SMALL or IMAGE_TOO_MANY_PIXELS where the declared size is beyond the limits."""
    if min(width, height) < limits.IMAGE_SIDE_MIN:
        raise MirageError(Code.IMAGE_TOO_SMALL, min=limits.IMAGE_SIDE_MIN, width=width, height=height)
    if width * height * frames > limits.IMAGE_PIXELS:
        raise MirageError(Code.IMAGE_TOO_MANY_PIXELS, max=limits.IMAGE_PIXELS, given=width * height * frames)


def _decode_picture(data: bytes, media_type: str) -> Image.Image:
    name = _PILLOW_FORMATS[media_type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: the exact check is the next line
            image = Image.open(io.BytesIO(data), formats=[name])
            check_size(*image.size)
            image.load()
        if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
            return greyscale_to_rgb(np.asarray(image, dtype=np.float64))
        return ImageOps.exif_transpose(image).convert("RGB")
    except MirageError:
        raise
    except Image.DecompressionBombError as error:
        raise MirageError(Code.IMAGE_TOO_MANY_PIXELS, max=limits.IMAGE_PIXELS) from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        raise MirageError(Code.IMAGE_UNREADABLE, format=name) from error


def greyscale_to_rgb(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Image.Image:
    """An RGB image of a (height, width) array: its smallest value black, its largest white."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.round(scaled).astype(np.uint8), mode=None).convert("RGB")


def encode_thumbnail(image: Image.Image, *, side: int = 256) -> bytes:
    """A WebP of at most `side` pixels a side."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=2)
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """A PNG without any metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
