"""A DICOM file as a picture: modality transformation, window, presentation, palette and colours as PS3.3 states them.

Decisions in cases that the standard leaves open:

- A file with a window and a VOI LUT is shown through its first sound window; through its VOI LUT if no window is sound.
- A window that means nothing (width 0 or negative, below 1 for LINEAR, not a number) is passed over, an unknown VOI LUT function
  is LINEAR, a slope that is empty or 0 is 1. Without window and VOI LUT, the 1st to the 99th percentile is shown.
- Padding (Pixel Padding Value, values that are not numbers) is black, also in MONOCHROME1, and does not count for percentiles.
- Overlays (60xx) are not drawn, and bits outside of Bits Stored are dropped.
- Pixels that are not square are stretched along the coarser axis, by linear interpolation of stored values.
"""

import logging
import warnings
from dataclasses import replace

from mirage_core.dicom import luts
from mirage_core.dicom.codecs import unpack
from mirage_core.dicom.colours import coloured, has_supplement, profile_of, supplemented, through_palette
from mirage_core.dicom.deep import deep
from mirage_core.dicom.elements import Elements, Frame, read
from mirage_core.dicom.form import aspect_of, image_format
from mirage_core.dicom.greyscale import DicomPicture, greyscale
from mirage_core.errors import Code, MirageError
from mirage_core.imaging.colours import to_srgb
from mirage_core.imaging.geometry import squared

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

# pydicom logs element values if a file is odd; those may be a patient's.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


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
        return DicomPicture(coloured(unpacked, frame), form.frames)
    if form.photometric == "PALETTE COLOR":
        palette = luts.read_palette(file.elements, signed=form.signed)
        if palette is None or form.floating or form.stored > 16:
            raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
        image = to_srgb(through_palette(unpacked, *palette), profile_of(file.elements))
        return DicomPicture(squared(image, aspect_of(frame)), form.frames)
    if has_supplement(frame):
        palette = luts.read_palette(file.elements, signed=form.signed)
        if palette is not None and not form.floating and form.stored <= 16:
            return DicomPicture(supplemented(unpacked, frame, *palette), form.frames)
    draw = deep if unpacked.format.floating or unpacked.format.stored > 16 else greyscale
    return replace(draw(unpacked, frame), frames=form.frames)


def _refuse_burned_in(elements: Elements) -> None:
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        if any(word.upper().startswith("Y") for word in elements.words(keyword)):
            raise MirageError(Code.IMAGE_BURNED_IN, field=keyword)
