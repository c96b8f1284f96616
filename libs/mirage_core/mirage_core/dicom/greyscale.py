"""Greyscale pixels of DICOM as a picture: modality transformation, window, presentation and padding."""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from mirage_core.dicom import luts, vocabulary
from mirage_core.dicom.codecs import Format, Unpacked
from mirage_core.dicom.elements import Elements, Frame
from mirage_core.dicom.form import aspect_of
from mirage_core.imaging import grey
from mirage_core.imaging.geometry import squared
from mirage_core.imaging.grey import Bytes, Floats, Shading, Stored
from mirage_core.pixels import WINDOWS_MAX, PixelInfo, Window


@dataclass(frozen=True)
class DicomPicture:
    """The 8-bit picture (mode L or RGB).

    Of deeper greyscale also the 16-bit values (height, width) and their meaning.
    """

    image: Image.Image
    frames: int
    stored: Stored | None = None
    pixels: PixelInfo | None = None


def stored_of(unpacked: Unpacked) -> Stored:
    """Returns the bits that are stored of each value, at most 16, as unsigned numbers: of signed ones the smallest
    is 0.
    """
    form, values = unpacked.format, unpacked.values
    out = np.empty((form.rows, form.columns), np.uint16)
    shift, mask, sign = form.high + 1 - form.stored, 2**form.stored - 1, (1 << form.stored >> 1) if form.signed else 0
    for rows in grey.strips(out.shape):
        out[rows] = (values[rows].astype(np.uint32) >> shift & mask) ^ sign
    return out


def numbers_of(form: Format) -> Floats:
    """Returns the stored values, signed or not, of the numbers of `stored_of`."""
    return np.arange(2**form.stored, dtype=np.float64) - ((1 << form.stored >> 1) if form.signed else 0)


@dataclass(frozen=True)
class Voi:
    """The function from values to greys, and the windows to name. `automatic` if the file states none."""

    shade: Shading
    windows: tuple[Window, ...]
    exact: bool = False  # windows are read as LINEAR_EXACT


def greyscale(unpacked: Unpacked, frame: Frame) -> DicomPicture:
    """Shows pixels of at most 16 bits, with their stored values if they have more than 8."""
    stored, form = stored_of(unpacked), unpacked.format
    del unpacked
    ratio = aspect_of(frame)
    padding = _padding(form, frame)
    if ratio != 1.0:
        stored = _stretched(stored, ratio, padding)
    greys, values, voi, mapping = grey_table(stored, form, frame)
    image = grey.look_up(stored, greys)
    if form.stored <= 8 and mapping.bits <= 8:
        return DicomPicture(image, 1)
    kept, info = _meaning(stored, values, voi, mapping, inverted=is_inverted(form, frame), padding=padding)
    return DicomPicture(image, 1, kept, info)


def grey_table(stored: Stored, form: Format, frame: Frame) -> "tuple[Bytes, Floats, Voi, _Modality]":
    """Returns the grey of each stored number, its value, and how both came about."""
    modality = _modality(form, frame)
    values = modality.values
    padding = _padding(form, frame)
    counts = grey.count(stored, len(values))
    if padding.any() and (counts[~padding] > 0).any():
        counts[padding] = 0
    voi = _voi(form, frame, values, counts)
    greys = voi.shade(values)
    if is_inverted(form, frame):
        greys = 255 - greys
    greys[padding] = 0
    return greys, values, voi, modality


@dataclass(frozen=True)
class _Modality:
    """The modality transformation of every stored number; `slope` is 0 if a table and no line gives the values."""

    values: Floats
    slope: float
    intercept: float
    unit: str
    bits: int  # of the numbers to keep


def _modality(form: Format, frame: Frame) -> _Modality:
    numbers = numbers_of(form)
    group = frame.group("PixelValueTransformationSequence")
    if group is None and (items := frame.elements.items("ModalityLUTSequence")):
        lut = luts.read_lut(items[0], signed=form.signed)
        if lut is not None:
            values = lut.apply(numbers).astype(np.float64)
            return _Modality(values, 0.0, 0.0, vocabulary.unit(items[0].word("ModalityLUTType")), lut.bits)
    slope, intercept, unit = rescale(frame)
    return _Modality(numbers * slope + intercept, slope, intercept, unit, form.stored)


def rescale(frame: Frame) -> tuple[float, float, str]:
    """Returns slope, intercept and unit: of the frame's functional group, else of the data set. A slope of 0 is
    ignored.
    """
    source = frame.group("PixelValueTransformationSequence") or frame.elements
    slope, intercept = source.number("RescaleSlope") or 1.0, source.number("RescaleIntercept") or 0.0
    rescaled = source.has("RescaleSlope") or source.has("RescaleIntercept")
    said, modality = source.word("RescaleType"), frame.elements.word("Modality")
    unit = vocabulary.unit(said)
    if not said and rescaled and modality == "CT":
        unit = "HU"  # Rescale Type is required if it is anything else (C.8.2.1)
    if not unit and rescaled and modality == "PT":
        unit = vocabulary.unit(frame.elements.word("Units"))
    return slope, intercept, unit or _mapped_unit(frame, slope, intercept)


def _mapped_unit(frame: Frame, slope: float, intercept: float) -> str:
    """Returns the unit of a real world value mapping whose line is the same as that of the values; else ""."""
    items = frame.groups("RealWorldValueMappingSequence") or frame.elements.items("RealWorldValueMappingSequence")
    for item in items[:8]:
        if item.number("RealWorldValueSlope") == slope and (item.number("RealWorldValueIntercept") or 0.0) == intercept:
            for code in item.items("MeasurementUnitsCodeSequence")[:1]:
                return vocabulary.ucum(next(iter(code.words("CodeValue")), ""))
    return ""


def is_inverted(form: Format, frame: Frame) -> bool:
    """True if small values are white: MONOCHROME1, or a presentation LUT of shape INVERSE.

    Both together say the same once.
    """
    return form.photometric == "MONOCHROME1" or frame.elements.word("PresentationLUTShape") == "INVERSE"


def _padding(form: Format, frame: Frame) -> npt.NDArray[np.bool_]:
    """Returns which stored numbers are padding (PS3.3 C.7.5.1.1.2)."""
    hidden = np.zeros(2**form.stored, np.bool_)
    first = _sixteen_bits(frame.elements, "PixelPaddingValue", signed=form.signed)
    if first is None:
        return hidden
    limit = _sixteen_bits(frame.elements, "PixelPaddingRangeLimit", signed=form.signed)
    low, high = sorted((first, first if limit is None else limit))
    numbers = numbers_of(form)
    hidden[(numbers >= low) & (numbers <= high)] = True
    return hidden


def _sixteen_bits(elements: Elements, keyword: str, *, signed: bool) -> int | None:
    """Returns a value that is "US or SS" by the sign of the pixels, whatever representation the file names."""
    content, order = elements.content(keyword)
    if len(content) < 2:
        return None
    return int.from_bytes(content[:2], "little" if order == "<" else "big", signed=signed)


def _voi(form: Format, frame: Frame, values: Floats, counts: npt.NDArray[np.int64]) -> Voi:
    stated = stated_voi(frame, signed=form.signed or float(values.min()) < 0)
    if stated is not None:
        return stated
    low, high = grey.percentiles(values, counts, (1.0, 99.0))
    if not high > low:
        # Two per cent or fewer of the pixels differ from the rest: their whole range.
        used = values[counts > 0]
        low, high = float(used.min()), float(used.max())
    return automatic(low, high)


def automatic(low: float, high: float) -> Voi:
    """Returns a window from the lower to the higher value; all is black if they are the same."""
    window = grey.span(low, high, name="automatic")
    if high > low:
        return Voi(grey.linear_exact(window), (window,), exact=True)
    return Voi(lambda values: np.zeros(len(values), np.uint8), (window,), exact=True)


def stated_voi(frame: Frame, *, signed: bool) -> Voi | None:
    """Returns the windows or the VOI LUT of the frame's functional group, else of the data set.

    None if none is sound.
    """
    source = frame.group("FrameVOILUTSequence") or frame.elements
    function = source.word("VOILUTFunction")
    least = 1.0 if function not in ("SIGMOID", "LINEAR_EXACT") else 0.0
    windows: list[Window] = []
    explanations = source.words("WindowCenterWidthExplanation")
    pairs = zip(source.numbers("WindowCenter"), source.numbers("WindowWidth"), strict=False)
    for number, (center, width) in enumerate(pairs):
        if (
            math.isfinite(center)
            and math.isfinite(width)
            and width > 0
            and width >= least
            and len(windows) < WINDOWS_MAX
        ):
            text = explanations[number] if number < len(explanations) else ""
            windows.append(Window(vocabulary.window_name(text, number + 1), center, width))
    if windows:
        shade = {"SIGMOID": grey.sigmoid, "LINEAR_EXACT": grey.linear_exact}.get(function, grey.linear)
        return Voi(shade(windows[0]), tuple(windows), exact=shade is not grey.linear)
    for item in source.items("VOILUTSequence")[:8]:
        lut = luts.read_lut(item, signed=signed)
        if lut is not None:
            window = grey.span(lut.first, lut.first + len(lut.entries) - 1, name="VOI LUT")
            return Voi(partial(luts.greys, lut), (window,), exact=True)
    return None


def _meaning(
    stored: Stored, values: Floats, voi: Voi, modality: _Modality, *, inverted: bool, padding: npt.NDArray[np.bool_]
) -> tuple[Stored, PixelInfo]:
    """Returns the numbers to keep and their meaning: value = number * slope + intercept.

    Where small values are shown white, the values are mirrored within their range and lose their unit, so that a window shows
    them as the picture does. Padding that a window would show bright is kept as the darkest number that occurs.
    """
    slope, intercept, unit, windows = modality.slope, modality.intercept, modality.unit, voi.windows
    if slope == 0.0:
        kept = values.astype(np.uint16)  # the table's entries
        slope, intercept = 1.0, 0.0
    else:
        kept = np.arange(len(values)).astype(np.uint16)
        intercept = float(values[0])
    bits = modality.bits
    greys = voi.shade(values)
    if inverted:
        most = 2**bits - 1
        total = 2 * intercept + most * slope
        kept, unit, greys = (most - kept).astype(np.uint16), "", 255 - greys
        half = 0.0 if voi.exact else 1.0  # LINEAR's half step, on the other side
        windows = tuple(replace(window, center=total - window.center + half) for window in windows)
    bright = padding & (greys > 0)
    if bright.any():
        shown = np.flatnonzero((grey.count(stored, len(values)) > 0) & ~padding)
        if len(shown):
            kept[bright] = kept[shown[np.argmin(kept[shown] * np.sign(slope))]]
    out = stored if np.array_equal(kept, np.arange(len(kept))) else _taken(stored, kept)
    return out, PixelInfo(bits, slope, intercept, unit, windows)


def _taken(stored: Stored, table: npt.NDArray[np.uint16]) -> Stored:
    out = np.empty_like(stored)
    for rows in grey.strips((stored.shape[0], stored.shape[1])):
        np.take(table, stored[rows], out=out[rows], mode="clip")
    return out


def _stretched(stored: Stored, ratio: float, padding: npt.NDArray[np.bool_]) -> Stored:
    """Returns stored values with square pixels.

    Next to padding the nearest value is taken, so that none is mixed with it.
    """
    image = Image.fromarray(stored)
    smooth = np.asarray(squared(image, ratio))
    if not padding.any():
        return smooth
    nearest = np.asarray(squared(image, ratio, resample=Image.Resampling.NEAREST))
    hidden = Image.fromarray(padding[stored].astype(np.uint8) * 255)
    return np.where(np.asarray(squared(hidden, ratio)) > 0, nearest, smooth)
