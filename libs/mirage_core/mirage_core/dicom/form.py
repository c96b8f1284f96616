"""The form of a DICOM file's pixels: the Image Pixel module, and how high a pixel is by its width."""

import math

from mirage_core.dicom.codecs import Format
from mirage_core.dicom.elements import DicomFile, Frame
from mirage_core.errors import Code, MirageError
from mirage_core.imaging.geometry import aspect
from mirage_core.imaging.sizes import check_size

_ALLOCATED = (1, 8, 16, 32)
_FRAMES_MAX = 1_000_000


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


def aspect_of(frame: Frame) -> float:
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
