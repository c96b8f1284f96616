"""Coloured pixels of DICOM as a picture: RGB, YBR, palettes and supplemental palettes."""

import numpy as np
from PIL import Image

from mirage_core.dicom.codecs import Unpacked
from mirage_core.dicom.elements import Elements, Frame
from mirage_core.dicom.form import aspect_of
from mirage_core.dicom.greyscale import grey_table, numbers_of, stored_of
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import grey
from mirage_core.imaging.colours import to_srgb
from mirage_core.imaging.geometry import squared
from mirage_core.imaging.grey import Bytes


def coloured(unpacked: Unpacked, frame: Frame) -> Image.Image:
    """Shows pixels of three samples, in sRGB; raises IMAGE_CODING_UNSUPPORTED for other spaces than RGB and YBR."""
    form, samples = unpacked.format, _eight_bits(unpacked)
    if form.photometric.startswith("YBR_PARTIAL"):
        image = _partial_to_rgb(samples)
    elif form.photometric.startswith("YBR"):
        image = Image.fromarray(samples, "YCbCr").convert("RGB")
    elif form.photometric in ("HSV", "ARGB", "CMYK", "XYB"):
        raise MirageError(Code.IMAGE_CODING_UNSUPPORTED, format="DICOM", coding=form.photometric)
    else:
        image = Image.fromarray(samples, "RGB")
    return squared(to_srgb(image, profile_of(frame.elements)), aspect_of(frame))


def _eight_bits(unpacked: Unpacked) -> Bytes:
    """Returns samples of any depth scaled to 8 bits."""
    form, values = unpacked.format, unpacked.values
    if form.allocated == form.stored == 8:
        return np.ascontiguousarray(values)
    out = np.empty(values.shape, np.uint8)
    most = 2**form.stored - 1
    for rows in grey.strips((form.rows, form.columns * 3)):
        kept = values[rows].astype(np.uint32) >> (form.high + 1 - form.stored) & most
        out[rows] = np.rint(kept * (255.0 / most)).astype(np.uint8)
    return out


def _partial_to_rgb(samples: Bytes) -> Image.Image:
    """Returns RGB of Y from 16 to 235, Cb and Cr from 16 to 240: the inverse of YBR_PARTIAL_422 in PS3.3
    C.7.6.3.1.2.
    """
    forward = np.array([[0.2568, 0.5041, 0.0979], [-0.1482, -0.2910, 0.4392], [0.4392, -0.3678, -0.0714]])
    inverse = np.linalg.inv(forward).T
    out = np.empty(samples.shape, np.uint8)
    for rows in grey.strips((samples.shape[0], samples.shape[1] * 3)):
        rgb = (samples[rows].astype(np.float64) - (16.0, 128.0, 128.0)) @ inverse
        out[rows] = np.rint(np.clip(rgb, 0, 255)).astype(np.uint8)
    return Image.fromarray(out)


def profile_of(elements: Elements) -> bytes | None:
    """Returns the ICC profile."""
    content, _ = elements.content("ICCProfile")
    return content or None


def through_palette(unpacked: Unpacked, first: int, colours: Bytes) -> Image.Image:
    """Shows each value in its colour; `first` is the value of the first colour."""
    stored = stored_of(unpacked)
    numbers = numbers_of(unpacked.format)
    table = colours[np.clip(numbers - first, 0, len(colours) - 1).astype(np.intp)]
    return grey.look_up(stored, table)


def has_supplement(frame: Frame) -> bool:
    """True if values from a first one on are shown in colours of a supplemental palette (PS3.3 C.7.6.19)."""
    says = frame.elements.words("PixelPresentation")
    for group in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
        if found := frame.group(group):
            says = says + found.words("PixelPresentation")
    return any(word.upper() in ("COLOR", "MIXED") for word in says)


def supplemented(unpacked: Unpacked, frame: Frame, first: int, colours: Bytes) -> Image.Image:
    """Shows values below `first` in grey, and the others in their colours."""
    stored, numbers = stored_of(unpacked), numbers_of(unpacked.format)
    greys, *_ = grey_table(stored, unpacked.format, frame)
    table = np.repeat(greys[:, None], 3, axis=1)
    coloured = numbers >= first
    table[coloured] = colours[np.clip(numbers[coloured] - first, 0, len(colours) - 1).astype(np.intp)]
    return squared(grey.look_up(stored, table), aspect_of(frame))
