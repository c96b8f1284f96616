"""The one image decoder and cleaner: PNG, JPEG, WebP and DICOM bytes to pixels, and pixels to files without metadata.

Declared sizes are checked before pixels are unpacked. Metadata is not handed to a decoder: each format has a module that picks
what pixels need (orientation, colour profile, transparency, windows) from a list of what is allowed.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from PIL import Image, UnidentifiedImageError

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import jpeg, png, webp
from mirage_core.imaging.grey import Stored
from mirage_core.imaging.sizes import check_size
from mirage_core.pixels import PixelInfo, Window

__all__ = [
    "CleanImage",
    "DecodedImage",
    "MediaType",
    "PixelInfo",
    "Window",
    "check_size",
    "clean_and_decode",
    "clean_image",
    "decode_image",
    "encode_png",
    "encode_thumbnail",
    "sniff_media_type",
]

MediaType = Literal["image/png", "image/jpeg", "image/webp", "application/dicom"]

_NAMES: dict[MediaType, str] = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WebP",
    "application/dicom": "DICOM",
}


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

    `data` has 8 bits a channel and is what readers get: a JPEG stays a JPEG, a WebP of up to 4 megapixels becomes a WebP without
    loss, all else a PNG. `pixels_data` is a lossless 16-bit greyscale PNG of the same size if the source has more than 8 bits of
    greyscale, and `pixels` says what its numbers mean; else both are None. `frames` is how many the source has (of an animated
    PNG or WebP the first is read, and it counts as 1).
    """

    data: bytes
    media_type: MediaType
    width: int
    height: int
    frames: int
    pixels_data: bytes | None
    pixels: PixelInfo | None


def sniff_media_type(data: bytes) -> MediaType:
    """Returns what the bytes are by their own signature, whatever a file name says; raises IMAGE_FORMAT_UNSUPPORTED.

    A DICOM file without its preamble is known by the elements that it starts with.
    """
    if data[:8] == png.SIGNATURE:
        return "image/png"
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[128:132] == b"DICM":
        return "application/dicom"
    from mirage_core.dicom.layout import looks_like_dicom

    if looks_like_dicom(data):
        return "application/dicom"
    raise MirageError(Code.IMAGE_FORMAT_UNSUPPORTED)


def decode_image(data: bytes, *, frame: int | None = None) -> DecodedImage:
    """Decodes one image to 8-bit RGB in sRGB, upright, with square pixels, transparency on white.

    `frame` counts from 0; if omitted, it is the middle frame of a multi-frame DICOM file. 16-bit greyscale is scaled by its own
    range, DICOM by its window. Raises IMAGE_EMPTY, IMAGE_TOO_LARGE (bytes), IMAGE_FORMAT_UNSUPPORTED, IMAGE_TOO_SMALL,
    IMAGE_TOO_MANY_PIXELS, IMAGE_TOO_COSTLY, IMAGE_CODING_UNSUPPORTED, IMAGE_FRAME_OUT_OF_RANGE and IMAGE_UNREADABLE.
    """
    media_type = _checked_type(data)
    with _guarded(media_type):
        if media_type == "application/dicom":
            # Imported on first use: most processes never meet a DICOM file, and pydicom is slow to load.
            from mirage_core.dicom.picture import read_picture

            picture = read_picture(data, frame=frame)
            return DecodedImage(picture.image.convert("RGB"), media_type, picture.frames)
        _check_frame(frame)
        if media_type == "image/jpeg":
            image = jpeg.picture(jpeg.parse(data))
        elif media_type == "image/png":
            image = png.picture(png.parse(data))
        else:
            image = webp.picture(webp.parse(data))
        return DecodedImage(image if image.mode == "RGB" else image.convert("RGB"), media_type, 1)


def clean_image(data: bytes, *, frame: int | None = None, pixels: PixelInfo | None = None) -> CleanImage:
    """Decodes an image and writes it again without metadata; the same pixels give the same bytes.

    `pixels` says what the values of a 16-bit greyscale PNG mean; its first window is shown. Raises what `decode_image` raises,
    IMAGE_BURNED_IN if a DICOM file says that its pixels may show who the patient is, and PIXELS_INVALID if `pixels` comes with
    another image or has fewer bits than the values.
    """
    return clean_and_decode(data, frame=frame, pixels=pixels)[0]


def clean_and_decode(
    data: bytes, *, frame: int | None = None, pixels: PixelInfo | None = None
) -> tuple[CleanImage, Image.Image]:
    """Returns what `clean_image` returns, and its 8-bit picture in mode L or RGB, which need not be decoded again."""
    media_type = _checked_type(data)
    with _guarded(media_type):
        if media_type == "application/dicom":
            if pixels is not None:
                raise MirageError(Code.PIXELS_INVALID, field="image")
            from mirage_core.dicom.picture import read_picture

            picture = read_picture(data, frame=frame, refuse_burned_in=True)
            return _cleaned(picture.image, picture.stored, picture.pixels, frames=picture.frames)
        _check_frame(frame)
        if media_type == "image/png":
            source = png.parse(data)
            if png.is_deep_grey(source):
                return _cleaned(*png.deep_picture(source, pixels))
        if pixels is not None:
            raise MirageError(Code.PIXELS_INVALID, field="image")
        if media_type == "image/png":
            return _cleaned(png.picture(source))
        if media_type == "image/jpeg":
            encoded, image = jpeg.clean(jpeg.parse(data))
            return CleanImage(encoded, "image/jpeg", image.width, image.height, 1, None, None), image
        image = webp.picture(webp.parse(data))
        if image.width * image.height > webp.LOSSLESS_PIXELS:
            return _cleaned(image)
        return CleanImage(webp.encode(image), "image/webp", image.width, image.height, 1, None, None), image


def _cleaned(
    image: Image.Image, stored: Stored | None = None, info: PixelInfo | None = None, *, frames: int = 1
) -> tuple[CleanImage, Image.Image]:
    clean = CleanImage(
        data=png.encode(image),
        media_type="image/png",
        width=image.width,
        height=image.height,
        frames=frames,
        pixels_data=None if stored is None else png.encode_deep(stored),
        pixels=info,
    )
    return clean, image


def _checked_type(data: bytes) -> MediaType:
    if not data:
        raise MirageError(Code.IMAGE_EMPTY)
    if len(data) > limits.IMAGE_BYTES:
        raise MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES, given=len(data))
    return sniff_media_type(data)


def _check_frame(frame: int | None) -> None:
    if frame not in (None, 0):
        raise MirageError(Code.IMAGE_FRAME_OUT_OF_RANGE, frames=1, given=frame)


@contextmanager
def _guarded(media_type: MediaType) -> Iterator[None]:
    """Turns what decoders raise on a damaged file into catalogue errors; their words, which may quote the file, are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MirageError:
        raise
    except MemoryError:
        raise MirageError(Code.IMAGE_TOO_COSTLY) from None
    except Image.DecompressionBombError:
        raise MirageError(Code.IMAGE_TOO_MANY_PIXELS, max=limits.IMAGE_PIXELS) from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        EOFError,
        LookupError,
        TypeError,
        ArithmeticError,
        struct.error,
        zlib.error,
    ):
        raise MirageError(Code.IMAGE_UNREADABLE, format=_NAMES[media_type]) from None


def encode_thumbnail(image: Image.Image, *, side: int = 256) -> bytes:
    """Returns a WebP of at most `side` pixels a side."""
    factor = min(1.0, side / max(image.size))
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    small = image if factor == 1.0 else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=2, icc_profile=b"")
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """Returns a PNG without any metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3, icc_profile=None)
    return buffer.getvalue()
