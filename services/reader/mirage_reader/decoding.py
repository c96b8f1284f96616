"""The work on an image file in a decoding child: a small copy without metadata, for a reading model or a note."""

from PIL import Image

from mirage_core.imaging import decode_image
from mirage_core.imaging.jpeg import encode


def small_jpeg(data: bytes, side: int) -> bytes:
    """Returns a JPEG of at most `side` pixels a side, decoded and written again; raises the IMAGE_* errors."""
    image = decode_image(data).image
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return encode(image)
