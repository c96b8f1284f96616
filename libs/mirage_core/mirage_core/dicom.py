"""DICOM pixels to RGB. Patient, study and device fields are never read beyond what the pixels need."""

import io
import logging
import warnings
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import check_size, greyscale_to_rgb

# What decoding needs; everything else in the file is skipped while it is parsed.
_PIXEL_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData",
    "SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "ModalityLUTSequence", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "SOPClassUID", "Modality",
    "BurnedInAnnotation",
]  # fmt: skip

# pydicom logs element values when a file is odd; those may be a patient's.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def decode_dicom(data: bytes, *, frame: int | None = None) -> tuple[Image.Image, int]:
    """The frame asked for (else the middle one) as RGB, and how many frames there are.

    Greyscale goes through the modality LUT and the file's first window or VOI LUT (without one: 1st to 99th percentile);
    MONOCHROME1 is inverted. Raises IMAGE_UNREADABLE also for a compression that cannot be decoded here (JPEG-LS, JPEG lossless).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data, frame)
    except MirageError:
        raise
    # pydicom and its decoders raise nearly anything on a damaged file; all of it means one thing to the caller.
    except Exception as error:
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM") from error


def is_synthetic(data: bytes) -> bool:
    """True where the file says that its pixels were made, not acquired: Synthetic Data (0008,001C), of the standard's 2023b.

    Never raises; False for what cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(
                io.BytesIO(data), specific_tags=["SyntheticData"], stop_before_pixels=True, force=False
            )
            return str(dataset.get("SyntheticData", "")).strip().upper() == "YES"
    # As above: nearly anything.
    except Exception:
        return False


def _decode(data: bytes, frame: int | None) -> tuple[Image.Image, int]:
    dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=list(_PIXEL_TAGS), force=False)
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise MirageError(Code.IMAGE_BURNED_IN, field="BurnedInAnnotation")
    frames = max(1, int(dataset.get("NumberOfFrames") or 1))
    check_size(int(dataset.Columns), int(dataset.Rows))
    index = frames // 2 if frame is None else frame
    if not 0 <= index < frames:
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
    pixels = pixel_array(dataset, index=index)  # YBR comes out as RGB
    photometric = str(dataset.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        return Image.fromarray(_to_bytes(apply_color_lut(pixels, dataset))), frames
    if int(dataset.get("SamplesPerPixel", 1)) == 3:
        return Image.fromarray(_to_bytes(pixels)), frames
    return _windowed(pixels, dataset, invert=photometric == "MONOCHROME1"), frames


def _to_bytes(colours: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if colours.dtype == np.uint8:
        return colours
    return (colours.astype(np.float64) * (255.0 / np.iinfo(colours.dtype).max)).astype(np.uint8)


def _windowed(pixels: np.ndarray[Any, Any], dataset: pydicom.Dataset, *, invert: bool) -> Image.Image:
    values = np.asarray(apply_modality_lut(pixels, dataset), dtype=np.float64)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        values = np.asarray(apply_voi_lut(apply_modality_lut(pixels, dataset), dataset, index=0), dtype=np.float64)
    else:
        low, high = np.percentile(values, (1, 99))
        if high > low:
            values = np.clip(values, low, high)
    if not np.isfinite(values).all():
        raise MirageError(Code.IMAGE_UNREADABLE, format="DICOM")
    return greyscale_to_rgb(-values if invert else values)
