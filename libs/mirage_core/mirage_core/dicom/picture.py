"""A DICOM file as a picture: modality transformation, window, presentation, palette and colours as PS3.3 states them.

Decisions in cases that the standard leaves open: - A file with a window and a VOI LUT is shown through its first sound
window; through its VOI LUT if no window is sound. - A window that means nothing (width 0 or negative, below 1 for
LINEAR, not a number) is passed over, an unknown VOI LUT function is LINEAR, a slope that is empty or 0 is 1. Without
window and VOI LUT, the 1st to the 99th percentile is shown. - Padding (Pixel Padding Value, values that are not
numbers) is black, also in MONOCHROME1, and does not count for percentiles. - Overlays (60xx) are not drawn, and bits
outside of Bits Stored are dropped. - Pixels that are not square are stretched along the coarser axis, by linear
interpolation of stored values.
"""

import logging
import math
import warnings
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from mirage_core.dicom import luts, vocabulary
from mirage_core.dicom.codecs import Array, Format, Unpacked, unpack
from mirage_core.dicom.elements import DicomFile, Elements, Frame, read
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import grey
from mirage_core.imaging.colours import to_srgb
from mirage_core.imaging.geometry import aspect, squared
from mirage_core.imaging.grey import Bytes, Floats, Shading, Stored
from mirage_core.imaging.sizes import check_size
from mirage_core.pixels import WINDOWS_MAX, PixelInfo, Window

# Elements that pixels need; everything else in the file is skipped while it is parsed.
_KEYWORDS = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "FloatPixelPaddingValue", "FloatPixelPaddingRangeLimit", "DoubleFloatPixelPaddingValue", "DoubleFloatPixelPaddingRangeLimit",
    "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "PresentationLUTShape", "Units",
    "RealWorldValueMappingSequence", "PixelPresentation",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ICCProfile", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "Modality", "BurnedInAnnotation", "RecognizableVisualFeatures",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_ALLOCATED = (1, 8, 16, 32)
_FRAMES_MAX = 1_000_000
# Percentiles of more floating-point values than this are of evenly spaced ones among them.
_SAMPLE = 2**22
_YBR = ("YBR_FULL", "YBR_PARTIAL")

# pydicom logs element values if a file is odd; those may be a patient's.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class DicomPicture:
    """The 8-bit picture (mode L or RGB).

    Of deeper greyscale also the 16-bit values (height, width) and their meaning.
    """

    image: Image.Image
    frames: int
    stored: Stored | None = None
    pixels: PixelInfo | None = None


def read_picture(data: bytes, *, frame: int | None = None, refuse_burned_in: bool = False) -> DicomPicture:
    """Reads the frame asked for (counted from 0; if omitted, the middle one).

    Raises IMAGE_UNREADABLE, IMAGE_CODING_UNSUPPORTED, IMAGE_FRAME_OUT_OF_RANGE, IMAGE_TOO_COSTLY, the size errors, and
    with `refuse_burned_in` IMAGE_BURNED_IN if the file says that its pixels show annotations, or features that a person
    is known by.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data, frame, refuse_burned_in=refuse_burned_in)
    except MirageError:
        raise
    except MemoryError:
        raise MirageError(Code.IMAGE_TOO_COSTLY) from None
    # pydicom and the codecs raise nearly anything on a damaged file, and their words may quote it.
    except Exception:
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM") from None


def says_synthetic(data: bytes) -> bool:
    """True if Synthetic Data (0008,001C) is YES; never raises, False for what cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(data, ("SyntheticData",)).elements.word("SyntheticData") == "YES"
    # As above: nearly anything.
    except Exception:
        return False


def _read(data: bytes, index: int | None, *, refuse_burned_in: bool) -> DicomPicture:
    file = read(data, _KEYWORDS)
    if refuse_burned_in:
        _refuse_burned_in(file.elements)
    form = image_format(file)
    if index is None:
        index = form.frames // 2
    if not 0 <= index < form.frames:
        raise MirageError(Code.IMAGE_FRAME_OUT_OF_RANGE, frames=form.frames, given=index)
    frame = Frame(file.elements, index)
    unpacked = unpack(file, form, index)
    if unpacked.format.samples == 3:
        return DicomPicture(_coloured(unpacked, frame), form.frames)
    if form.photometric == "PALETTE COLOR":
        palette = luts.read_palette(file.elements, signed=form.signed)
        if palette is None or form.floating or form.stored > 16:
            raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
        image = to_srgb(_through_palette(unpacked, *palette), _profile(file.elements))
        return DicomPicture(squared(image, _aspect(frame)), form.frames)
    if _has_supplement(frame):
        palette = luts.read_palette(file.elements, signed=form.signed)
        if palette is not None and not form.floating and form.stored <= 16:
            return DicomPicture(_supplemented(unpacked, frame, *palette), form.frames)
    return replace(_greyscale(unpacked, frame), frames=form.frames)


def _refuse_burned_in(elements: Elements) -> None:
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        if any(word.upper().startswith("Y") for word in elements.words(keyword)):
            raise MirageError(Code.IMAGE_BURNED_IN, field=keyword)


def image_format(file: DicomFile) -> Format:
    """Reads the Image Pixel module, fills in what is missing if it follows from the rest, and checks sizes."""
    elements = file.elements
    rows, columns = elements.whole("Rows"), elements.whole("Columns")
    if rows is None or columns is None or not file.keyword:
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
    check_size(columns, rows)
    photometric = elements.word("PhotometricInterpretation")
    samples = elements.whole("SamplesPerPixel") or (3 if photometric.startswith(("RGB", "YBR")) else 1)
    if samples not in (1, 3):
        raise MirageError(Code.IMAGE_CODING_UNSUPPORTED, format="DICOM", coding=f"{samples} samples a pixel")
    if not photometric:
        photometric = "MONOCHROME2" if samples == 1 else "RGB"
    frames = max(1, elements.whole("NumberOfFrames") or 1)
    if frames > _FRAMES_MAX:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    floating = file.keyword != "PixelData"
    if floating:
        allocated = 32 if file.keyword == "FloatPixelData" else 64
    else:
        allocated = elements.whole("BitsAllocated") or _allocated(file, rows * columns * samples * frames)
        if allocated not in _ALLOCATED:
            raise MirageError(Code.IMAGE_CODING_UNSUPPORTED, format="DICOM", coding=f"{allocated} bits a sample")
    stored = elements.whole("BitsStored") or allocated
    stored = stored if 1 <= stored <= allocated else allocated
    high = elements.whole("HighBit")
    if high is None or not stored - 1 <= high < allocated:
        high = stored - 1
    return Format(
        rows=rows,
        columns=columns,
        samples=samples,
        photometric=photometric,
        planar=elements.whole("PlanarConfiguration") or 0,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=elements.whole("PixelRepresentation") == 1,
        frames=frames,
        floating=floating,
    )


def _allocated(file: DicomFile, samples: int) -> int:
    """Returns the bits a sample that the length of native pixels gives; 8 for others, whose codestream says more."""
    return 8 * (file.pixels[1] // samples) if file.pixels[1] else 8


# Colours
# ------------------------------------------------------------------------------------------------------------------


def _coloured(unpacked: Unpacked, frame: Frame) -> Image.Image:
    form, samples = unpacked.format, _eight_bits(unpacked)
    if form.photometric.startswith("YBR_PARTIAL"):
        image = _partial_to_rgb(samples)
    elif form.photometric.startswith("YBR"):
        image = Image.fromarray(samples, "YCbCr").convert("RGB")
    elif form.photometric in ("HSV", "ARGB", "CMYK", "XYB"):
        raise MirageError(Code.IMAGE_CODING_UNSUPPORTED, format="DICOM", coding=form.photometric)
    else:
        image = Image.fromarray(samples, "RGB")
    return squared(to_srgb(image, _profile(frame.elements)), _aspect(frame))


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


def _profile(elements: Elements) -> bytes | None:
    content, _ = elements.content("ICCProfile")
    return content or None


def _through_palette(unpacked: Unpacked, first: int, colours: Bytes) -> Image.Image:
    stored = _stored(unpacked)
    numbers = _numbers(unpacked.format)
    table = colours[np.clip(numbers - first, 0, len(colours) - 1).astype(np.intp)]
    return grey.look_up(stored, table)


def _has_supplement(frame: Frame) -> bool:
    """True if values from a first one on are shown in colours of a supplemental palette (PS3.3 C.7.6.19)."""
    says = frame.elements.words("PixelPresentation")
    for group in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence"):
        if found := frame.group(group):
            says = says + found.words("PixelPresentation")
    return any(word.upper() in ("COLOR", "MIXED") for word in says)


def _supplemented(unpacked: Unpacked, frame: Frame, first: int, colours: Bytes) -> Image.Image:
    stored, numbers = _stored(unpacked), _numbers(unpacked.format)
    greys, *_ = _grey_table(stored, unpacked.format, frame)
    table = np.repeat(greys[:, None], 3, axis=1)
    coloured = numbers >= first
    table[coloured] = colours[np.clip(numbers[coloured] - first, 0, len(colours) - 1).astype(np.intp)]
    return squared(grey.look_up(stored, table), _aspect(frame))


# Greyscale
# ----------------------------------------------------------------------------------------------------------------


def _stored(unpacked: Unpacked) -> Stored:
    """Returns the bits that are stored of each value, at most 16, as unsigned numbers: of signed ones the smallest
    is 0.
    """
    form, values = unpacked.format, unpacked.values
    out = np.empty((form.rows, form.columns), np.uint16)
    shift, mask, sign = form.high + 1 - form.stored, 2**form.stored - 1, (1 << form.stored >> 1) if form.signed else 0
    for rows in grey.strips(out.shape):
        out[rows] = (values[rows].astype(np.uint32) >> shift & mask) ^ sign
    return out


def _numbers(form: Format) -> Floats:
    """Returns the stored values, signed or not, of the numbers of `_stored`."""
    return np.arange(2**form.stored, dtype=np.float64) - ((1 << form.stored >> 1) if form.signed else 0)


@dataclass(frozen=True)
class _Voi:
    """The function from values to greys, and the windows to name. `automatic` if the file states none."""

    shade: Shading
    windows: tuple[Window, ...]
    exact: bool = False  # windows are read as LINEAR_EXACT


def _greyscale(unpacked: Unpacked, frame: Frame) -> DicomPicture:
    if unpacked.format.floating or unpacked.format.stored > 16:
        return _deep(unpacked, frame)
    stored, form = _stored(unpacked), unpacked.format
    del unpacked
    ratio = _aspect(frame)
    padding = _padding(form, frame)
    if ratio != 1.0:
        stored = _stretched(stored, ratio, padding)
    greys, values, voi, mapping = _grey_table(stored, form, frame)
    image = grey.look_up(stored, greys)
    if form.stored <= 8 and mapping.bits <= 8:
        return DicomPicture(image, 1)
    kept, info = _meaning(stored, values, voi, mapping, inverted=_inverted(form, frame), padding=padding)
    return DicomPicture(image, 1, kept, info)


def _grey_table(stored: Stored, form: Format, frame: Frame) -> "tuple[Bytes, Floats, _Voi, _Modality]":
    """Returns the grey of each stored number, its value, and how both came about."""
    modality = _modality(form, frame)
    values = modality.values
    padding = _padding(form, frame)
    counts = grey.count(stored, len(values))
    if padding.any() and (counts[~padding] > 0).any():
        counts[padding] = 0
    voi = _voi(form, frame, values, counts)
    greys = voi.shade(values)
    if _inverted(form, frame):
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
    numbers = _numbers(form)
    group = frame.group("PixelValueTransformationSequence")
    if group is None and (items := frame.elements.items("ModalityLUTSequence")):
        lut = luts.read_lut(items[0], signed=form.signed)
        if lut is not None:
            values = lut.apply(numbers).astype(np.float64)
            return _Modality(values, 0.0, 0.0, vocabulary.unit(items[0].word("ModalityLUTType")), lut.bits)
    slope, intercept, unit = _rescale(frame)
    return _Modality(numbers * slope + intercept, slope, intercept, unit, form.stored)


def _rescale(frame: Frame) -> tuple[float, float, str]:
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


def _inverted(form: Format, frame: Frame) -> bool:
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
    numbers = _numbers(form)
    hidden[(numbers >= low) & (numbers <= high)] = True
    return hidden


def _sixteen_bits(elements: Elements, keyword: str, *, signed: bool) -> int | None:
    """Returns a value that is "US or SS" by the sign of the pixels, whatever representation the file names."""
    content, order = elements.content(keyword)
    if len(content) < 2:
        return None
    return int.from_bytes(content[:2], "little" if order == "<" else "big", signed=signed)


def _voi(form: Format, frame: Frame, values: Floats, counts: npt.NDArray[np.int64]) -> _Voi:
    stated = _stated_voi(frame, signed=form.signed or float(values.min()) < 0)
    if stated is not None:
        return stated
    low, high = grey.percentiles(values, counts, (1.0, 99.0))
    if not high > low:
        # Two per cent or fewer of the pixels differ from the rest: their whole range.
        used = values[counts > 0]
        low, high = float(used.min()), float(used.max())
    return _automatic(low, high)


def _automatic(low: float, high: float) -> _Voi:
    window = grey.span(low, high, name="automatic")
    if high > low:
        return _Voi(grey.linear_exact(window), (window,), exact=True)
    return _Voi(lambda values: np.zeros(len(values), np.uint8), (window,), exact=True)


def _stated_voi(frame: Frame, *, signed: bool) -> _Voi | None:
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
        return _Voi(shade(windows[0]), tuple(windows), exact=shade is not grey.linear)
    for item in source.items("VOILUTSequence")[:8]:
        lut = luts.read_lut(item, signed=signed)
        if lut is not None:
            window = grey.span(lut.first, lut.first + len(lut.entries) - 1, name="VOI LUT")
            return _Voi(partial(luts.greys, lut), (window,), exact=True)
    return None


def _meaning(
    stored: Stored, values: Floats, voi: _Voi, modality: _Modality, *, inverted: bool, padding: npt.NDArray[np.bool_]
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


# More than 16 bits, and floating point
# ------------------------------------------------------------------------------------


def _deep(unpacked: Unpacked, frame: Frame) -> DicomPicture:
    """Shows pixels of 17 to 32 bits or of floating point, and scales them into 16 bits.

    The 8-bit picture comes from the values themselves. The numbers that are kept span the smallest to the largest value
    in 65,535 steps, so a value is off by at most half a step; whole numbers that span less are kept as they are.
    """
    form = unpacked.format
    slope, intercept, unit = _rescale(frame)
    low, high = math.inf, -math.inf
    for rows in grey.strips((form.rows, form.columns)):
        found = _deep_values(unpacked.values[rows], form, frame)
        found = found[np.isfinite(found)]
        if len(found):
            low, high = min(low, float(found.min())), max(high, float(found.max()))
    if not low <= high:
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
    voi = _stated_voi(frame, signed=True) or _deep_automatic(unpacked, frame, slope, intercept)
    step = (high - low) / 65535 if form.floating or high - low > 65535 else 1.0
    step = step if step > 0 else 1.0
    inverted = _inverted(form, frame)
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
    ratio = _aspect(frame)
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


def _deep_automatic(unpacked: Unpacked, frame: Frame, slope: float, intercept: float) -> _Voi:
    form = unpacked.format
    step = max(1, math.isqrt(form.rows * form.columns // _SAMPLE) + 1) if form.rows * form.columns > _SAMPLE else 1
    found = _deep_values(np.ascontiguousarray(unpacked.values[::step, ::step]), form, frame)
    values = found[np.isfinite(found)] * slope + intercept
    low, high = (float(each) for each in np.percentile(values, (1, 99))) if len(values) else (0.0, 0.0)
    if not high > low and len(values):
        low, high = float(values.min()), float(values.max())
    return _automatic(low, high)


# Shape
# --------------------------------------------------------------------------------------------------------------------


def _aspect(frame: Frame) -> float:
    """Returns a pixel's height by its width: of its spacing (between rows, then between columns), else of the aspect
    ratio.
    """
    measures = frame.either("PixelMeasuresSequence", "PixelSpacing")
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = (measures if keyword == "PixelSpacing" else frame.elements).numbers(keyword)
        if len(values) >= 2 and all(math.isfinite(each) and each > 0 for each in values[:2]):
            return aspect(values[0], values[1])
    values = frame.elements.numbers("PixelAspectRatio")
    return aspect(values[0], values[1]) if len(values) >= 2 else 1.0


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
