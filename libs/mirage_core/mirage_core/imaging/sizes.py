"""Bounds on images, checked on what a header declares before any pixel is unpacked."""

from mirage_core import limits
from mirage_core.errors import Code, MirageError

# A progressive JPEG has about ten scans. Each one costs a pass over all pixels, however few bytes it has.
SCANS_MAX = 64
SCAN_PIXELS_MAX = 32 * limits.IMAGE_PIXELS
# Real colour profiles have 0.5 to 600 KiB (printers' have tables).
PROFILE_BYTES = 2 * 2**20


def check_size(width: int, height: int) -> None:
    """Raises IMAGE_TOO_SMALL or IMAGE_TOO_MANY_PIXELS if the declared size is outside of the limits."""
    if min(width, height) < limits.IMAGE_SIDE_MIN:
        raise MirageError(Code.IMAGE_TOO_SMALL, min=limits.IMAGE_SIDE_MIN, width=width, height=height)
    if width * height > limits.IMAGE_PIXELS:
        raise MirageError(Code.IMAGE_TOO_MANY_PIXELS, max=limits.IMAGE_PIXELS, given=width * height)


def check_scans(scans: int, width: int, height: int) -> None:
    """Raises IMAGE_TOO_COSTLY if a JPEG has more scans, or more pixels in all its scans, than any real one."""
    if scans > SCANS_MAX or scans * width * height > SCAN_PIXELS_MAX:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
