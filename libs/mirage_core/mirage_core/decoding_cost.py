"""How much memory the decoding of an image file may take, read from its first bytes without decoding anything."""

import struct

_MIB = 2**20
# What libraries are loaded and what they need besides the file and the pixels.
_FIXED_BYTES = 64 * _MIB
# Bytes for each pixel: the decoded picture, a copy in another mode, and what is computed from it.
_PIXEL_BYTES = 16
_SEGMENTS = 1000


def decoding_bytes(data: bytes) -> int | None:
    """Returns an upper estimate in bytes for a PNG, JPEG or WebP file; None for others, which do not begin with their size."""
    size = _png(data) or _jpeg(data) or _webp(data)
    if size is None:
        return None
    return _FIXED_BYTES + len(data) + size[0] * size[1] * _PIXEL_BYTES


def _png(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    if data[:3] != b"\xff\xd8\xff":
        return None
    start = 2
    for _ in range(_SEGMENTS):
        while data[start : start + 2] == b"\xff\xff":
            start += 1
        if len(data) < start + 9 or data[start] != 0xFF:
            return None
        marker = data[start + 1]
        # The frame headers; C4, C8 and CC are tables and an extension.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, start + 5)
            return width, height
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None
