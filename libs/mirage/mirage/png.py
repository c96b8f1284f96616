"""PNG files read with the standard library alone: chunks, texts and pixels, all of bounded size (W3C, PNG, third
edition).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FILE_BYTES = 64 * 2**20
PIXELS = 16 * 2**20
TEXT_BYTES = 2**20
_TEXTS = 256


class PngError(ValueError):
    """Raised for a file that is not a whole PNG, or is beyond the bounds here; the text says which."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a PNG: its type of four letters, and its content."""

    kind: bytes
    data: bytes


def is_png(data: bytes) -> bool:
    """Returns True if the bytes begin as a PNG."""
    return data[:8] == SIGNATURE


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yields the chunks up to the end of the image.

    Raises PngError for a file that is not a PNG, is cut off or damaged.
    """
    if not is_png(data):
        raise PngError("the file is not a PNG")
    if len(data) > FILE_BYTES:
        raise PngError("the file is too large")
    start = 8
    while True:
        head = data[start : start + 8]
        if len(head) < 8:
            raise PngError("the file is cut off")
        length, kind = struct.unpack(">I4s", head)
        content = data[start + 8 : start + 8 + length]
        checksum = data[start + 8 + length : start + 12 + length]
        if len(content) < length or len(checksum) < 4:
            raise PngError("the file is cut off")
        if zlib.crc32(kind + content) != int.from_bytes(checksum, "big"):
            raise PngError("the file is damaged")
        yield Chunk(kind, content)
        if kind == b"IEND":
            return
        start += 12 + length


def texts(data: bytes) -> list[tuple[str, str]]:
    """Keyword and text of each tEXt, zTXt and iTXt chunk, in the file's order; raises PngError."""
    found: list[tuple[str, str]] = []
    for chunk in chunks(data):
        if chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            if len(found) == _TEXTS:
                raise PngError("the file holds too many texts")
            found.append(text(chunk))
    return found


def text(chunk: Chunk) -> tuple[str, str]:
    """Returns keyword and text of a text chunk.

    Raises PngError if it is another chunk, or longer than a text may be.
    """
    keyword, separator, rest = chunk.data.partition(b"\0")
    if not separator or not 1 <= len(keyword) <= 79:
        raise PngError("a text of the file has no keyword")
    encoding = "latin-1"
    if chunk.kind == b"zTXt":
        rest = inflate(rest[1:], most=TEXT_BYTES)
    elif chunk.kind == b"iTXt":
        encoding = "utf-8"
        packed, rest = rest[:1] == b"\1", rest[2:]
        # A language and a translated keyword come before the text.
        pieces = rest.split(b"\0", 2)
        if len(pieces) < 3:
            raise PngError("a text of the file is damaged")
        rest = inflate(pieces[2], most=TEXT_BYTES) if packed else pieces[2]
    if len(rest) > TEXT_BYTES:
        raise PngError("a text of the file is too long")
    try:
        return keyword.decode("latin-1"), rest.decode(encoding)
    except UnicodeDecodeError as error:
        raise PngError("a text of the file is damaged") from error


def inflate(packed: bytes, *, most: int) -> bytes:
    """Inflates a zlib stream to at most so many bytes; raises PngError for more, and for damaged data."""
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(packed, most + 1)
    except zlib.error as error:
        raise PngError("the file is damaged") from error
    if len(content) > most:
        raise PngError("the file unpacks to more than it may")
    if not unpacker.eof:
        raise PngError("the file is cut off")
    return content


@dataclass(frozen=True)
class Picture:
    """Pixels of a PNG: `rgb` holds height x width x 3 bytes, row by row."""

    width: int
    height: int
    rgb: bytes


def read_picture(data: bytes) -> Picture:
    """The pixels of an RGB PNG with 8 bits a colour and no interlacing; raises PngError for any other."""
    size: tuple[int, int] | None = None
    packed = bytearray()
    for chunk in chunks(data):
        if chunk.kind == b"IHDR" and size is None:
            if len(chunk.data) != 13:
                raise PngError("the file is damaged")
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunk.data)
            if (depth, colour, interlaced) != (8, 2, 0):
                raise PngError("the file is no plain RGB picture")
            if not 0 < width * height <= PIXELS:
                raise PngError("the picture has too many pixels")
            size = width, height
        elif chunk.kind == b"IDAT":
            packed += chunk.data
    if size is None:
        raise PngError("the file is damaged")
    width, height = size
    stride = width * 3
    lines = inflate(bytes(packed), most=(stride + 1) * height)
    if len(lines) != (stride + 1) * height:
        raise PngError("the file is cut off")
    rows, above = [], bytes(stride)
    for start in range(0, len(lines), stride + 1):
        above = _unfiltered(lines[start], lines[start + 1 : start + 1 + stride], above)
        rows.append(above)
    return Picture(width, height, b"".join(rows))


def _unfiltered(kind: int, line: bytes, above: bytes) -> bytes:
    """A row's bytes from what a filter (section 9) made of them; three bytes are a pixel."""
    if kind == 0:
        return line
    row = bytearray(line)
    match kind:
        case 1:
            for i in range(3, len(row)):
                row[i] = (row[i] + row[i - 3]) & 255
        case 2:
            for i, up in enumerate(above):
                row[i] = (row[i] + up) & 255
        case 3:
            for i, up in enumerate(above):
                row[i] = (row[i] + ((row[i - 3] if i > 2 else 0) + up) // 2) & 255
        case 4:
            for i, up in enumerate(above):
                left, corner = (row[i - 3], above[i - 3]) if i > 2 else (0, 0)
                row[i] = (row[i] + _paeth(left, up, corner)) & 255
        case _:
            raise PngError("the file is damaged")
    return bytes(row)


def _paeth(left: int, up: int, corner: int) -> int:
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner
