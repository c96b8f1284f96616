"""The shape of a picture: which way is up, and pixels that are not square."""

from PIL import Image

from mirage_core import limits

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A quotient outside of this says nothing about pixels, and one that is closer to 1 is not worth a change.
_ASPECT_MAX = 20.0
_ASPECT_SAME = 0.01


def upright(image: Image.Image, turn: int) -> Image.Image:
    """Returns the image turned and mirrored as EXIF's orientation (1 to 8) says; of any mode, so 16-bit too."""
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def aspect(height: float, width: float) -> float:
    """Returns a pixel's height by its width, given both in any unit; 1 if they are close to each other or absurd."""
    if not height > 0 or not width > 0:
        return 1.0
    quotient = height / width
    if not 1 / _ASPECT_MAX <= quotient <= _ASPECT_MAX or abs(quotient - 1) < _ASPECT_SAME:
        return 1.0
    return quotient


def squared_size(size: tuple[int, int], pixel_aspect: float) -> tuple[int, int]:
    """Returns the (width, height) that an image has once its pixels are square.

    The coarser axis is stretched, so that no detail is lost; if the result had too many pixels, the finer one is shrunk.
    """
    width, height = size
    if pixel_aspect > 1:
        stretched, shrunk = (width, round(height * pixel_aspect)), (round(width / pixel_aspect), height)
    else:
        stretched, shrunk = (round(width / pixel_aspect), height), (width, round(height * pixel_aspect))
    if stretched[0] * stretched[1] <= limits.IMAGE_PIXELS:
        return stretched
    return shrunk if min(shrunk) >= limits.IMAGE_SIDE_MIN else size


def squared(
    image: Image.Image, pixel_aspect: float, *, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    """Returns the image with square pixels; `pixel_aspect` is a pixel's height by its width."""
    size = squared_size(image.size, pixel_aspect) if pixel_aspect != 1.0 else image.size
    return image if size == image.size else image.resize(size, resample)
