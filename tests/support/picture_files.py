"""Writes small PNG, JPEG and WebP files part by part, so that a test can write what no library would."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

Chunk = tuple[bytes, bytes]
_ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _rows(samples: np.ndarray, depth: int) -> bytes:
    """Rows of (height, width, channels), each after the filter type None."""
    if depth == 16:
        rows = samples.astype(">u2").reshape(samples.shape[0], -1).view(np.uint8)
    elif depth == 8:
        rows = samples.astype(np.uint8).reshape(samples.shape[0], -1)
    else:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(samples.shape[0], -1, 1), axis=2)[:, :, 8 - depth :]
        rows = np.packbits(bits.reshape(samples.shape[0], -1), axis=1)
    return np.insert(rows, 0, 0, axis=1).tobytes()


def png(
    samples: np.ndarray,
    *,
    depth: int = 8,
    colour: int | None = None,
    laced: bool = False,
    palette: bytes = b"",
    before: Sequence[Chunk] = (),
    after: Sequence[Chunk] = (),
    hidden: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """A PNG of (height, width) or (height, width, channels); chunks `before` and `after` the pixels, bytes `hidden` behind the
    packed pixels within IDAT, and a `tail` behind the end."""
    pixels = samples[..., None] if samples.ndim == 2 else samples
    if colour is None:
        colour = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    if laced:
        passes = [pixels[top::down, left::right] for top, left, down, right in _ADAM7]
        raw = b"".join(_rows(each, depth) for each in passes if each.size)
    else:
        raw = _rows(pixels, depth)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, int(laced))
    parts = [SIGNATURE, chunk(b"IHDR", header)]
    # Where they stand matters to PNG: profile and gamma come before the palette, transparency after it.
    early = [each for each in before if each[0] not in (b"tRNS", b"bKGD", b"hIST")]
    parts += [chunk(*each) for each in early]
    if palette:
        parts.append(chunk(b"PLTE", palette))
    parts += [chunk(*each) for each in before if each not in early]
    parts.append(chunk(b"IDAT", zlib.compress(raw) + hidden))
    parts += [chunk(*each) for each in after]
    return b"".join(parts) + chunk(b"IEND", b"") + tail


def exif(orientation: int, *, order: str = "<", text: bytes = b"") -> bytes:
    """A TIFF block with an orientation, an image description and an artist."""
    entries = [(0x010E, 2, text), (0x0112, 3, struct.pack(order + "HH", orientation, 0)), (0x013B, 2, text)]
    body, extra = struct.pack(order + "H", len(entries)), b""
    for tag, kind, value in entries:
        count = len(value) if kind == 2 else 1
        if len(value) > 4:
            field = struct.pack(order + "I", 8 + 2 + 12 * len(entries) + 4 + len(extra))
            extra += value
        else:
            field = value.ljust(4, b"\0")
        body += struct.pack(order + "HHI", tag, kind, count) + field
    return (
        (b"II*\0" if order == "<" else b"MM\0*")
        + struct.pack(order + "I", 8)
        + body
        + struct.pack(order + "I", 0)
        + extra
    )


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 90} | options)
    return buffer.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """The (marker, content) of a JPEG's segments; the content of a scan is its header, what follows it has marker 0."""
    found, place = [], 2
    while place < len(data):
        marker = data[place + 1]
        if marker == 0xD9:
            found.append((marker, data[place + 2 :]))
            break
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        found.append((marker, data[place + 4 : place + 2 + length]))
        place += 2 + length
        if marker == 0xDA:
            end = place
            while data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8)):
                end += 1
            found.append((0, data[place:end]))
            place = end
    return found


def with_segments(data: bytes, added: bytes, *, before: int = 0xDA) -> bytes:
    """The JPEG with bytes added in front of its first segment of a kind."""
    place = 2
    while data[place + 1] != before:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data[:place] + added + data[place:]


def webp(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **{"quality": 90} | options)
    return buffer.getvalue()


def riff(chunks: Sequence[Chunk]) -> bytes:
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for kind, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunks(data: bytes) -> list[Chunk]:
    found, place = [], 12
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        found.append((data[place : place + 4], data[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    return found


def extended_webp(image: Image.Image, *, flags: int = 0x2C, added: Sequence[Chunk] = (), **options: object) -> bytes:
    """A WebP of the extended form, with chunks added behind its pixels."""
    plain = [each for each in webp_chunks(webp(image, **options)) if each[0] != b"VP8X"]
    size = (image.width - 1).to_bytes(3, "little") + (image.height - 1).to_bytes(3, "little")
    return riff([(b"VP8X", bytes((flags, 0, 0, 0)) + size), *plain, *added])
