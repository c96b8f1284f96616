"""Reads DICOM files and shows their pixels as PS3.3 defines. Patient, study and device elements are skipped while a
file is parsed.

`layout` finds where the elements start, `elements` reads those that pixels need, `codecs` unpacks a frame, `luts` and
`shading` turn stored values into greys and colours, `picture` puts it together. The names here load pydicom and the
codecs on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def decode_dicom(data: bytes, *, frame: int | None = None) -> tuple["Image.Image", int]:
    """Returns the frame asked for (if omitted, the middle one) as RGB, and how many frames there are.

    Raises IMAGE_UNREADABLE, IMAGE_CODING_UNSUPPORTED, IMAGE_FRAME_OUT_OF_RANGE, IMAGE_TOO_COSTLY and the size errors.
    """
    from mirage_core.dicom.picture import read_picture

    picture = read_picture(data, frame=frame)
    return picture.image.convert("RGB"), picture.frames


def is_synthetic(data: bytes) -> bool:
    """True if the file says that its pixels were made, not acquired: Synthetic Data (0008,001C), of the standard's
    2023b.

    Never raises; False for what cannot be read.
    """
    from mirage_core.dicom.picture import says_synthetic

    return says_synthetic(data)
