"""One frame of pixels out of a DICOM file, native or compressed, as an array of the stored numbers.

Sizes are checked against the data set in the codestream's own header before a codec sees it. gdcm (JPEG with 12 bits, JPEG
Lossless) and pyjpegls (JPEG-LS) are loaded with pydicom, by the first DICOM file; Pillow decodes 8-bit JPEG, JPEG 2000 and HTJ2K.
"""

import io
import re
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from pydicom.encaps import get_frame
from pydicom.uid import UID_dictionary

from mirage_core.dicom import layout
from mirage_core.dicom.elements import DicomFile
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import jpeg

Array = np.ndarray[Any, Any]

NATIVE = frozenset((layout.IMPLICIT, layout.EXPLICIT, layout.DEFLATED, layout.BIG_ENDIAN))
_ENCAPSULATED = "1.2.840.10008.1.2.1.98"
_RLE = "1.2.840.10008.1.2.5"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_LOSSLESS, _EXTENDED = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.51"
_JPEG = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.(5\d|6[0-6]|70)")
_JPEG_LS = frozenset(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"))
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 92, 93, 201, 202, 203))
# Names that pydicom's dictionary does not have yet.
_NEWER = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
_TILES_MAX = 4096
# OpenJPEG unpacks a whole tile with about 6 bytes a sample.
_TILE_SAMPLES_MAX = 64_000_000
_PACKETS_MAX = 2_000_000
_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_FRAME_MARKERS = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7))


@dataclass(frozen=True)
class Format:
    """The Image Pixel module (PS3.3 C.7.6.3): sizes in pixels, bits of one sample, and the meaning of samples."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    high: int
    signed: bool
    frames: int
    floating: bool = False


@dataclass(frozen=True)
class Unpacked:
    """Stored numbers of shape (rows, columns) or (rows, columns, samples), and the format that they have now."""

    values: Array
    format: Format


def unpack(file: DicomFile, form: Format, index: int) -> Unpacked:
    """Unpacks a frame. Raises IMAGE_CODING_UNSUPPORTED, IMAGE_UNREADABLE, IMAGE_TOO_COSTLY and what codecs raise."""
    syntax = file.transfer_syntax
    if syntax in NATIVE:
        return _native(_native_frame(file, form, index), form, swap_pairs=file.words and syntax == layout.BIG_ENDIAN,
                       big_endian=syntax == layout.BIG_ENDIAN, bit=_first_bit(form, index))  # fmt: skip
    if syntax == _ENCAPSULATED:
        return _native(_encapsulated_frame(file, form, index), form)
    if syntax == _DEFLATED_FRAMES:
        size = _frame_bytes(form)
        return _native(
            zlib.decompressobj(-zlib.MAX_WBITS).decompress(_encapsulated_frame(file, form, index), size), form
        )
    if syntax == _RLE:
        return _run_lengths(_encapsulated_frame(file, form, index), form)
    if _JPEG.fullmatch(syntax):
        return _jpeg(_encapsulated_frame(file, form, index), form)
    if syntax in _JPEG_LS:
        return _jpeg_ls(_encapsulated_frame(file, form, index), form)
    if syntax in _JPEG_2000:
        return _jpeg_2000(_encapsulated_frame(file, form, index), form)
    # A UID that the standard does not know is not repeated: it could hold anything.
    raise _unsupported(_NEWER.get(syntax) or UID_dictionary.get(syntax, ("an unknown transfer syntax",))[0])


def _damaged() -> MirageError:
    return MirageError(Code.IMAGE_UNREADABLE, format="DICOM")


def _unsupported(coding: str) -> MirageError:
    return MirageError(Code.IMAGE_CODING_UNSUPPORTED, format="DICOM", coding=coding)


# Native
# -------------------------------------------------------------------------------------------------------------------


def _samples_stored(form: Format) -> int:
    """Returns how many samples a frame holds: two for each pixel if chroma is shared by pairs."""
    shared = form.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")
    return form.rows * form.columns * (2 if shared and form.samples == 3 else form.samples)


def _frame_bytes(form: Format) -> int:
    return (_samples_stored(form) * form.allocated + 7) // 8


def _first_bit(form: Format, index: int) -> int:
    """Returns where a frame of 1-bit pixels starts in its first byte; frames follow each other without padding."""
    return _samples_stored(form) * index % 8 if form.allocated == 1 else 0


def _native_frame(file: DicomFile, form: Format, index: int) -> memoryview:
    start, length = file.pixels
    if length is None:
        raise _damaged()
    bits = _samples_stored(form) * form.allocated
    first, last = bits * index // 8, (bits * (index + 1) + 7) // 8
    value = memoryview(file.body)[start : start + length]
    if last > len(value):
        raise _damaged()
    # Bytes that are swapped in pairs are taken with their neighbours.
    return value[first:] if form.allocated == 8 and first % 2 else value[first : last + last % 2]


def _native(
    data: bytes | memoryview, form: Format, *, swap_pairs: bool = False, big_endian: bool = False, bit: int = 0
) -> Unpacked:
    count = _samples_stored(form)
    if form.allocated == 1:
        values = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[bit : bit + count]
    else:
        kind = f"{'f' if form.floating else 'u'}{form.allocated // 8}"
        values = np.frombuffer(data, (">" if big_endian else "<") + kind, count=-1)[: count + count % 2]
        if swap_pairs and form.allocated == 8:
            values = values[: len(values) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        values = values[:count]
    if len(values) < count:
        raise _damaged()
    if form.samples == 1:
        return Unpacked(values.reshape(form.rows, form.columns), form)
    if count == form.rows * form.columns * 2:
        return Unpacked(_shared_chroma(values, form), replace(form, photometric=form.photometric.removesuffix("_422")))
    if form.planar == 1:
        return Unpacked(np.stack(list(values.reshape(form.samples, form.rows, form.columns)), axis=-1), form)
    return Unpacked(values.reshape(form.rows, form.columns, form.samples), form)


def _shared_chroma(values: Array, form: Format) -> Array:
    """Returns (rows, columns, 3) of values that come as Y1 Y2 Cb Cr for each pair of pixels (PS3.3 C.7.6.3.1.2)."""
    if form.columns % 2:
        raise _damaged()
    pairs = values.reshape(form.rows, form.columns // 2, 4)
    out = np.empty((form.rows, form.columns // 2, 2, 3), values.dtype)
    out[..., 0] = pairs[..., :2]
    out[..., 1] = pairs[..., 2:3]
    out[..., 2] = pairs[..., 3:4]
    return out.reshape(form.rows, form.columns, 3)


# Encapsulated
# -------------------------------------------------------------------------------------------------------------


def _encapsulated_frame(file: DicomFile, form: Format, index: int) -> bytes:
    start, length = file.pixels
    if file.keyword != "PixelData":
        raise _damaged()
    # Compressed pixels have an undefined length; a few writers state one.
    body = file.body if length is None else file.body[: start + length]
    stream = io.BytesIO(body)
    stream.seek(start)
    offsets, _ = file.elements.content("ExtendedOffsetTable")
    lengths, _ = file.elements.content("ExtendedOffsetTableLengths")
    frame = get_frame(
        stream,
        index,
        number_of_frames=form.frames,
        extended_offsets=(offsets, lengths) if offsets and len(offsets) == len(lengths) else None,
    )
    if not frame:
        raise _damaged()
    return frame


def _run_lengths(data: bytes, form: Format) -> Unpacked:
    """Unpacks RLE (PS3.5 annex G): a segment for each byte of each sample, the most significant byte first."""
    size, wide = form.rows * form.columns, form.allocated // 8
    if len(data) < 64 or form.allocated % 8:
        raise _damaged()
    segments, *offsets = struct.unpack_from("<16I", data)
    if segments != form.samples * wide:
        raise _damaged()
    ends = [*offsets[1:segments], len(data)]
    out = np.empty((form.samples, form.rows, form.columns, wide), np.uint8)
    for number, (start, end) in enumerate(zip(offsets[:segments], ends, strict=True)):
        if not 64 <= start <= end <= len(data):
            raise _damaged()
        plane = np.frombuffer(_runs(data, start, end, size), np.uint8)
        out[number // wide, :, :, wide - 1 - number % wide] = plane.reshape(form.rows, form.columns)
    values = out.view(f"<u{wide}")[..., 0]
    if form.samples == 1:
        return Unpacked(values[0], form)
    form = replace(form, photometric=form.photometric.replace("_422", ""))
    return Unpacked(np.stack(list(values), axis=-1), form)


def _runs(data: bytes, place: int, end: int, size: int) -> bytearray:
    """Unpacks one segment to exactly `size` bytes, and never to much more; raises IMAGE_UNREADABLE if it has fewer."""
    out = bytearray()
    while len(out) < size and place < end:
        head = data[place]
        if head < 128:
            out += data[place + 1 : min(place + 2 + head, end)]
            place += 2 + head
        elif head > 128:
            out += data[place + 1 : place + 2] * (257 - head)
            place += 2
        else:
            place += 1
    if len(out) < size:
        raise _damaged()
    del out[size:]
    return out


def _header(data: bytes) -> tuple[int, int, int, int, int]:
    """Returns the frame marker, precision, height, width and number of components of a JPEG or JPEG-LS codestream."""
    place = 2
    for _ in range(1000):
        found = _MARKER.search(data, place)
        if found is None or data[:2] != b"\xff\xd8":
            break
        marker, place = data[found.end() - 1], found.end()
        if marker in _FRAME_MARKERS and place + 8 <= len(data):
            precision, height, width, components = struct.unpack_from(">BHHB", data, place + 2)
            return marker, precision, height, width, components
        if 0xD0 <= marker <= 0xD9 or marker == 0x01:
            continue
        place += int.from_bytes(data[place : place + 2], "big")
    raise _damaged()


def _check_header(height: int, width: int, components: int, form: Format) -> None:
    if (height, width, components) != (form.rows, form.columns, form.samples):
        raise _damaged()


def _jpeg(data: bytes, form: Format) -> Unpacked:
    """Decodes JPEG by what the codestream is, whatever process the transfer syntax names."""
    marker, precision, height, width, components = _header(data)
    _check_header(height, width, components, form)
    if marker == 0xF7:
        return _jpeg_ls(data, form)
    if marker == 0xC3 or precision == 12:
        return _with_gdcm(data, form, precision, lossless=marker == 0xC3)
    if precision != 8 or marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise _unsupported("a JPEG process that is not in use")
    image = jpeg.decode(jpeg.parse(data, unmarked_is_rgb=form.photometric == "RGB"))
    form = replace(form, allocated=8, stored=8, high=7, photometric="RGB" if components == 3 else form.photometric)
    return Unpacked(np.asarray(image), form)


def _with_gdcm(data: bytes, form: Format, precision: int, *, lossless: bool) -> Unpacked:
    """Decodes a JPEG that was parsed and written again: gdcm ends the process if a header is not as it expects."""
    syntax = _LOSSLESS if lossless else _EXTENDED
    data = _checked_jpeg(data, form, precision, lossless=lossless)
    try:
        import gdcm
    except ImportError:
        raise _unsupported(UID_dictionary[syntax][0]) from None

    for level in (gdcm.Trace.DebugOff, gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff):
        level()
    wide = 1 if precision <= 8 else 2
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((form.columns, form.rows, 1))
    image.SetDataElement(element)
    # As RGB, so that gdcm leaves the samples as they are.
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2" if form.samples == 1 else "RGB")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if form.samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(form.samples, 8 * wide, precision, precision - 1, int(form.signed)))
    text = image.GetBuffer()
    if text is None:
        raise _damaged()
    # It hands out bytes as text.
    values = np.frombuffer(text.encode("utf-8", "surrogateescape"), f"<u{wide}")
    shape = (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)
    return Unpacked(values.reshape(shape), _narrowed(form, precision, 8 * wide))


def _checked_jpeg(data: bytes, form: Format, precision: int, *, lossless: bool) -> bytes:
    """Returns the codestream with one frame header, which fits, and nothing but tables and scans; raises IMAGE_UNREADABLE."""
    parsed = jpeg.parse(data, marked=False)
    if (parsed.height, parsed.width, parsed.components, parsed.precision) != (
        form.rows,
        form.columns,
        form.samples,
        precision,
    ):
        raise _damaged()
    if (parsed.frame == 0xC3) != lossless or not 2 <= precision <= 16:
        raise _damaged()
    return parsed.stripped


def _jpeg_ls(data: bytes, form: Format) -> Unpacked:
    try:
        import jpeg_ls
    except ImportError:
        raise _unsupported("JPEG-LS") from None
    marker, precision, height, width, components = _header(data)
    _check_header(height, width, components, form)
    if marker != 0xF7 or not 2 <= precision <= 16:
        raise _damaged()
    # Without an end mark, CharLS looks for more bits for many seconds.
    buffer, info = jpeg_ls.decode_pixel_data(data if data[-16:].rstrip(b"\0").endswith(_END) else data + _END)
    wide = 1 if precision <= 8 else 2
    values = np.frombuffer(buffer, f"<u{wide}")
    form = replace(_narrowed(form, precision, 8 * wide), photometric=form.photometric.replace("_422", ""))
    if components == 1:
        return Unpacked(values.reshape(height, width), form)
    if info["interleave_mode"] == 0:
        return Unpacked(np.stack(list(values.reshape(components, height, width)), axis=-1), form)
    return Unpacked(values.reshape(height, width, components), form)


def _narrowed(form: Format, precision: int, allocated: int) -> Format:
    """Returns the format of samples that a codestream codes with `precision` bits, of which no more than Bits Stored
    count.
    """
    stored = min(form.stored, precision)
    high = form.high if form.high < precision and form.high >= stored - 1 else stored - 1
    return replace(form, allocated=allocated, stored=stored, high=high)


def _jpeg_2000(data: bytes, form: Format) -> Unpacked:
    precision, signed, transformed = _check_jpeg_2000(data, form)
    image = Image.open(io.BytesIO(data), formats=["JPEG2000"])
    image.load()
    if form.samples == 3:
        # Pillow scales samples of any depth to 8 bits.
        if image.mode != "RGB":
            raise _damaged()
        photometric = "RGB" if transformed or form.photometric in ("YBR_RCT", "YBR_ICT") else form.photometric
        form = replace(form, allocated=8, stored=8, high=7, photometric=photometric.replace("_422", ""))
        return Unpacked(np.asarray(image), form)
    values = np.asarray(image)
    if image.mode not in ("L", "I;16") or precision > 16:
        raise _unsupported(f"JPEG 2000 with {precision} bits")
    allocated = 8 * values.dtype.itemsize
    # Pillow shifts samples up to 8 or 16 bits, and signed ones into the positive.
    values = values >> (allocated - precision)
    if signed:
        values ^= values.dtype.type(1 << precision - 1)
    return Unpacked(values, _narrowed(form, precision, allocated))


def _check_jpeg_2000(data: bytes, form: Format) -> tuple[int, bool, bool]:
    """Returns precision, sign and whether components were transformed.

    Raises if the header asks for more than the image has.

    Tiles, layers and resolutions are bounded, because each costs memory and time however few bytes are there.
    """
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(data) < start + 42:
        raise _damaged()
    sizes = struct.unpack_from(">8IH", data, start + 8)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = sizes
    if not tile_width or not tile_height or right <= left or bottom <= top or tile_left > left or tile_top > top:
        raise _damaged()
    _check_header(bottom - top, right - left, components, form)
    each = data[start + 42 : start + 42 + 3 * components]
    if len(each) < 3 * components or any(value != 1 for place, value in enumerate(each) if place % 3):
        raise _damaged()
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    across, down = min(tile_width, right - left), min(tile_height, bottom - top)
    if tiles > _TILES_MAX or across * down * components > _TILE_SAMPLES_MAX:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    coding = data.find(b"\xff\x52", start + 42 + 3 * components)
    if coding < 0 or len(data) < coding + 12:
        raise _damaged()
    layers, transform, levels = struct.unpack_from(">HBB", data, coding + 6)
    if levels > 32:
        raise _damaged()
    if tiles * layers * (levels + 1) * components > _PACKETS_MAX:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    return (each[0] & 0x7F) + 1, bool(each[0] & 0x80), bool(transform)
