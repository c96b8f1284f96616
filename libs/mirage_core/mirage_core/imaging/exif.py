"""The one field of EXIF that pixels need: the orientation (TIFF tag 274)."""

from typing import Literal

_ENTRIES_MAX = 512
_ORIENTATION = 0x0112
_SHORT = 3


def orientation(exif: bytes) -> int:
    """Returns the orientation, 1 to 8, of an EXIF block (with or without its `Exif` header); 1 if it states none."""
    tiff = exif[6:] if exif[:6] == b"Exif\0\0" else exif
    order: Literal["little", "big"]
    if tiff[:4] == b"II*\0":
        order = "little"
    elif tiff[:4] == b"MM\0*":
        order = "big"
    else:
        return 1
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for place in range(start + 2, start + 2 + 12 * min(count, _ENTRIES_MAX), 12):
        entry = tiff[place : place + 12]
        if len(entry) < 12:
            return 1
        if int.from_bytes(entry[:2], order) == _ORIENTATION:
            value = int.from_bytes(entry[8:10], order)
            return value if int.from_bytes(entry[2:4], order) == _SHORT and 1 <= value <= 8 else 1
    return 1
