"""Greyscale pixels of DICOM with more than 16 bits or of floating point as a picture."""

import math
from dataclasses import replace

import numpy as np
from PIL import Image

from mirage_core.dicom.codecs import Array, Format, Unpacked
from mirage_core.dicom.elements import Frame
from mirage_core.dicom.form import aspect_of
from mirage_core.dicom.greyscale import DicomPicture, Voi, automatic, is_inverted, rescale, stated_voi
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import grey
from mirage_core.imaging.geometry import squared
from mirage_core.imaging.grey import Floats
from mirage_core.pixels import PixelInfo

# Percentiles of more floating-point values than this are of evenly spaced ones among them.
_SAMPLE = 2**22


def deep(unpacked: Unpacked, frame: Frame) -> DicomPicture:
    """Shows pixels of 17 to 32 bits or of floating point, and scales them into 16 bits.

    The 8-bit picture comes from the values themselves. The numbers that are kept span the smallest to the largest value
    in 65,535 steps, so a value is off by at most half a step; whole numbers that span less are kept as they are.
    """
    form = unpacked.format
    slope, intercept, unit = rescale(frame)
    low, high = math.inf, -math.inf
    for rows in grey.strips((form.rows, form.columns)):
        found = _deep_values(unpacked.values[rows], form, frame)
        found = found[np.isfinite(found)]
        if len(found):
            low, high = min(low, float(found.min())), max(high, float(found.max()))
    if not low <= high:
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
    voi = stated_voi(frame, signed=True) or _deep_automatic(unpacked, frame, slope, intercept)
    step = (high - low) / 65535 if form.floating or high - low > 65535 else 1.0
    step = step if step > 0 else 1.0
    inverted = is_inverted(form, frame)
    greys = np.zeros((form.rows, form.columns), np.uint8)
    stored = np.zeros((form.rows, form.columns), np.uint16)
    for rows in grey.strips(greys.shape):
        found = _deep_values(unpacked.values[rows], form, frame)
        real = np.isfinite(found)
        shaded = voi.shade(found[real] * slope + intercept)
        greys[rows][real] = 255 - shaded if inverted else shaded
        numbers = np.rint((found[real] - low) / step).astype(np.uint16)
        stored[rows][real] = 65535 - numbers if inverted else numbers
    image, windows = Image.fromarray(greys), voi.windows
    scale, start = step * slope, low * slope + intercept
    if inverted:
        unit, total = "", 2 * start + 65535 * scale
        windows = tuple(replace(window, center=total - window.center) for window in windows)
    ratio = aspect_of(frame)
    if ratio != 1.0:
        image = squared(image, ratio)
        stored = np.asarray(squared(Image.fromarray(stored), ratio))
    bits = max(1, round((high - low) / step).bit_length()) if not inverted else 16
    return DicomPicture(image, 1, stored, PixelInfo(bits, scale, start, unit, windows))


def _deep_values(values: Array, form: Format, frame: Frame) -> Floats:
    """Returns stored values; those that are padding are not numbers."""
    if form.floating:
        found = values.astype(np.float64)
        kind = "FloatPixelPadding" if form.allocated == 32 else "DoubleFloatPixelPadding"
        first, limit = frame.elements.number(f"{kind}Value"), frame.elements.number(f"{kind}RangeLimit")
        if first is not None and form.allocated == 32:
            first = float(np.float32(first))
    else:
        raw = values.astype(np.int64) >> (form.high + 1 - form.stored) & (2**form.stored - 1)
        if form.signed:
            raw -= (raw >> form.stored - 1) << form.stored
        found = raw.astype(np.float64)
        first, limit = frame.elements.number("PixelPaddingValue"), frame.elements.number("PixelPaddingRangeLimit")
    if first is not None:
        low, high = sorted((first, first if limit is None else limit))
        found[(found >= low) & (found <= high)] = np.nan
    return found


def _deep_automatic(unpacked: Unpacked, frame: Frame, slope: float, intercept: float) -> Voi:
    form = unpacked.format
    step = max(1, math.isqrt(form.rows * form.columns // _SAMPLE) + 1) if form.rows * form.columns > _SAMPLE else 1
    found = _deep_values(np.ascontiguousarray(unpacked.values[::step, ::step]), form, frame)
    values = found[np.isfinite(found)] * slope + intercept
    low, high = (float(each) for each in np.percentile(values, (1, 99))) if len(values) else (0.0, 0.0)
    if not high > low and len(values):
        low, high = float(values.min()), float(values.max())
    return automatic(low, high)
