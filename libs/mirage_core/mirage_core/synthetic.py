"""Finds image files that say that a model made them.

Metadata is searched, not parsed: the marks are unmistakable, and uploaded XML or EXIF is never interpreted.
"""

import re
import zlib
from collections.abc import Iterator

from mirage_core.dicom import is_synthetic
from mirage_core.dicom.layout import looks_like_dicom

# The marks: our own text, or the IPTC's terms for images that a trained model made, wholly or in part. These are in XMP,
# in IPTC's IIM and in a C2PA manifest alike; EXIF's texts may have two bytes a character.
_MARKS = re.compile(
    rb"(?:digitalsourcetype/|digsrctype:)(?:compositewith)?trainedalgorithmic(?:media|data)"
    rb"|(?<![a-z_])ai_generated[\"'\s:=\0>]{1,8}(?:true|1|yes)\b",
    re.IGNORECASE,
)
# The texts of a file are unpacked up to this size; the rest is not searched.
_UNPACKED_BYTES = 16 * 2**20
_PIECES = 100_000


def is_marked(data: bytes) -> bool:
    """Returns True if the metadata of a PNG, JPEG, WebP or DICOM file says that a model made it.

    False for any other file.

    Never raises: a damaged file is searched as far as it can be read.
    """
    pieces = _metadata(data)
    if pieces is None:
        return looks_like_dicom(data) and is_synthetic(data)
    return any(_says(piece) for piece in pieces)


def _says(piece: bytes) -> bool:
    return any(_MARKS.search(text) for text in (piece, piece.replace(b"\0", b"")))


def _metadata(data: bytes) -> Iterator[bytes] | None:
    """Returns the pieces of a PNG, JPEG or WebP file that can hold a text; None for another file."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _of_png(data)
    if data[:3] == b"\xff\xd8\xff":
        return _of_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _of_webp(data)
    return None


def _of_png(data: bytes) -> Iterator[bytes]:
    start, left = 8, _UNPACKED_BYTES
    for _ in range(_PIECES):
        head = data[start : start + 8]
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length = int.from_bytes(head[:4], "big")
        if head[4:] not in (b"IHDR", b"PLTE", b"IDAT", b"iCCP", b"fdAT"):
            content = data[start + 8 : start + 8 + length]
            yield content
            text = _png_text(head[4:], content, most=left)
            left -= len(text)
            yield text
        start += 12 + length


def _png_text(kind: bytes, content: bytes, *, most: int) -> bytes:
    """Keyword and text of a chunk with a packed text, or an international one; else nothing."""
    keyword, _, rest = content.partition(b"\0")
    if kind == b"zTXt":
        packed = rest[1:]
    elif kind == b"iTXt":
        # Compression flags, a language and a translated keyword come before the text.
        pieces = rest[2:].split(b"\0", 2)
        if len(pieces) < 3 or rest[:1] != b"\1":
            return keyword + b"\0" + pieces[-1]
        packed = pieces[2]
    else:
        return b""
    try:
        return keyword + b"\0" + (zlib.decompressobj().decompress(packed, most) if most > 0 else b"")
    except zlib.error:
        return b""


def _of_jpeg(data: bytes) -> Iterator[bytes]:
    """The application segments and comments before the picture; extended XMP, which is cut anywhere, as one."""
    start = 2
    joined = bytearray()
    for _ in range(_PIECES):
        # Any number of 0xFF may come before a marker.
        while data[start : start + 2] == b"\xff\xff":
            start += 1
        marker, length = data[start : start + 2], int.from_bytes(data[start + 2 : start + 4], "big")
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA) or length < 2:
            break
        if 0xE0 <= marker[1] <= 0xEF or marker[1] == 0xFE:
            content = data[start + 4 : start + 2 + length]
            yield content
            if content.startswith(b"http://ns.adobe.com/xmp/extension/\0"):
                joined += content[75:]
            elif marker[1] == 0xEB:  # JUMBF, of which C2PA's manifests are made
                joined += content[16:]
        start += 2 + length
    yield bytes(joined)


def _of_webp(data: bytes) -> Iterator[bytes]:
    start = 12
    for _ in range(_PIECES):
        kind, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if len(kind) < 4:
            return
        if kind not in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF", b"ICCP"):
            yield data[start + 8 : start + 8 + length]
        start += 8 + length + length % 2
