"""Small image files that cost an unguarded decoder gigabytes or minutes, or fail it in other ways; made here, by kind."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from PIL import Image

# Under 50 million pixels, the most that an image may have.
WIDTH, HEIGHT = 7000, 7100
_MIB = 2**20
_END = 0xFFFFFFFF


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _deflated_zeros(size: int, *, before: bytes = b"") -> bytes:
    """A deflate stream of `before` and so many zeros: a mebibyte is packed once, the same bytes then stand for each."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(before + bytes(_MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(_MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + again * (size // _MIB - 1) + packer.compress(bytes(size % _MIB)) + packer.flush()


def _packed_zeros(size: int) -> bytes:
    """The same in zlib's wrapper."""
    return b"\x78\xda" + _deflated_zeros(size) + struct.pack(">I", size % 65521 << 16 | 1)


def _png(bits: int, colour: int, *, channels: int, interlaced: bool = False, extra: bytes = b"") -> bytes:
    # Adam7: where each pass begins and how far apart its pixels are, across and down.
    passes = ((0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2))
    length = 0
    for left, across, top, down in passes if interlaced else ((0, 1, 0, 1),):
        length += len(range(top, HEIGHT, down)) * (1 + len(range(left, WIDTH, across)) * channels * bits // 8)
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, int(interlaced))
    chunks = _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", _packed_zeros(length)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_grey_16() -> bytes:
    return _png(16, 0, channels=1)


def png_rgb() -> bytes:
    return _png(8, 2, channels=3)


def png_rgba_16() -> bytes:
    return _png(16, 6, channels=4)


def png_interlaced() -> bytes:
    return _png(8, 2, channels=3, interlaced=True)


def png_profile() -> bytes:
    """A colour profile that unpacks to a gigabyte."""
    packed = _packed_zeros(1024 * _MIB)
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"iCCP", b"p\0\0" + packed) + pixels + _chunk(b"IEND", b"")


def jpeg_progressive() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (90, 80, 70)).save(buffer, "JPEG", progressive=True, quality=35, subsampling=0)
    return buffer.getvalue()


def jpeg_repeated_scans() -> bytes:
    """A progressive JPEG whose refining scans come again and again: each goes over all the pixels."""
    buffer = io.BytesIO()
    Image.new("L", (WIDTH, HEIGHT), 90).save(buffer, "JPEG", progressive=True, quality=35)
    data = buffer.getvalue()
    scans = data.split(b"\xff\xda")
    return b"\xff\xda".join([*scans[:-1], *[scans[-1].removesuffix(b"\xff\xd9")] * 400]) + b"\xff\xd9"


def webp_lossless() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (WIDTH, HEIGHT), (90, 80, 70, 60)).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def webp_frames() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (2000, 2000), (number, 0, 0)) for number in range(10)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], quality=0, method=0)
    return buffer.getvalue()


def _element(group: int, element: int, kind: bytes, value: bytes) -> bytes:
    value += b"" if len(value) % 2 == 0 else b" " if kind in (b"CS", b"IS") else b"\0"
    head = struct.pack("<HH", group, element) + kind
    if kind in (b"OB", b"OW", b"SQ", b"UN"):
        return head + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def _dicom(syntax: bytes, body: bytes) -> bytes:
    meta = b"".join(
        _element(2, number, kind, value)
        for number, kind, value in (
            (1, b"OB", b"\0\1"),
            (2, b"UI", b"1.2.840.10008.5.1.4.1.1.7"),
            (3, b"UI", b"1.2.3"),
            (0x10, b"UI", syntax),
        )
    )
    return bytes(128) + b"DICM" + _element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + body


def _image(rows: int, columns: int, *, bits: int = 16, frames: int | None = None) -> bytes:
    short = struct.Struct("<H").pack
    return b"".join(
        _element(group, number, kind, value)
        for group, number, kind, value in (
            (8, 0x60, b"CS", b"OT"),
            (0x28, 2, b"US", short(1)),
            (0x28, 4, b"CS", b"MONOCHROME2"),
            *(() if frames is None else ((0x28, 8, b"IS", str(frames).encode()),)),
            (0x28, 0x10, b"US", short(rows)),
            (0x28, 0x11, b"US", short(columns)),
            (0x28, 0x100, b"US", short(bits)),
            (0x28, 0x101, b"US", short(bits)),
            (0x28, 0x102, b"US", short(bits - 1)),
            (0x28, 0x103, b"US", short(0)),
        )
    )


def _fragments(*fragments: bytes) -> bytes:
    items = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, len(each) + len(each) % 2) + each + bytes(len(each) % 2)
        for each in (b"", *fragments)
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HH", 0x7FE0, 0x10) + b"OB\0\0" + struct.pack("<I", _END) + items + end


def dicom_deflated() -> bytes:
    """Pixel data that unpacks to a gigabyte, for an image of 64 x 64."""
    head = _image(64, 64, bits=8) + struct.pack("<HH", 0x7FE0, 0x10) + b"OW\0\0" + struct.pack("<I", 1024 * _MIB)
    return _dicom(b"1.2.840.10008.1.2.1.99", _deflated_zeros(1024 * _MIB, before=head))


def dicom_jpeg_2000() -> bytes:
    buffer = io.BytesIO()
    image = Image.new("I;16", (WIDTH, HEIGHT), 0)
    image.putpixel((5, 5), 60_000)
    image.save(buffer, "JPEG2000", no_jp2=True, irreversible=True, quality_mode="rates", quality_layers=[200])
    return _dicom(b"1.2.840.10008.1.2.4.91", _image(HEIGHT, WIDTH) + _fragments(buffer.getvalue()))


def dicom_rle() -> bytes:
    segment = b"\x81\x00" * (WIDTH * HEIGHT // 128 + 1)
    starts = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13)
    return _dicom(b"1.2.840.10008.1.2.5", _image(HEIGHT, WIDTH) + _fragments(starts + segment + segment))


def dicom_frames() -> bytes:
    """A billion frames, by its own account."""
    pixels = _element(0x7FE0, 0x10, b"OW", bytes(64 * 64 * 2))
    return _dicom(b"1.2.840.10008.1.2.1", _image(64, 64, frames=10**9) + pixels)


def dicom_fragments() -> bytes:
    """A frame in two million empty pieces."""
    return _dicom(b"1.2.840.10008.1.2.4.50", _image(64, 64, bits=8) + _fragments(*[b""] * 2_000_000))


def dicom_nested() -> bytes:
    """A sequence in a sequence, thousands of times."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, _END)
    sequence = struct.pack("<HH", 0x5200, 0x9230) + b"SQ\0\0" + struct.pack("<I", _END)
    return _dicom(b"1.2.840.10008.1.2.1", _image(64, 64) + (sequence + item) * 20_000)


def dicom_jpeg_larger() -> bytes:
    """64 x 64 by its header, 49.7 million pixels by the JPEG in it."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(buffer, "JPEG", quality=20)
    return _dicom(b"1.2.840.10008.1.2.4.50", _image(64, 64, bits=8) + _fragments(buffer.getvalue()))


def noise(side: int) -> bytes:
    """An ordinary JPEG, large in bytes: about 1.1 for each pixel."""
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


BOMBS: Mapping[str, Callable[[], bytes]] = {
    make.__name__: cache(make)
    for make in (
        png_grey_16,
        png_rgb,
        png_rgba_16,
        png_interlaced,
        png_profile,
        jpeg_progressive,
        jpeg_repeated_scans,
        webp_lossless,
        webp_frames,
        dicom_deflated,
        dicom_jpeg_2000,
        dicom_rle,
        dicom_frames,
        dicom_fragments,
        dicom_nested,
        dicom_jpeg_larger,
    )
}
