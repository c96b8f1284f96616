"""WebP files: the chunks that pixels need, and nothing else; of an animation the first frame."""

import io
import struct
from dataclasses import dataclass

from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import exif
from mirage_core.imaging.colours import on_white, to_srgb
from mirage_core.imaging.geometry import upright
from mirage_core.imaging.sizes import PROFILE_BYTES, check_size

# Coding without loss needs about 16 bytes a pixel: a larger image becomes a PNG.
LOSSLESS_PIXELS = 4_000_000
_CHUNKS_MAX = 10_000
_ALPHA, _ANIMATED = 0x10, 0x02


@dataclass(frozen=True)
class Webp:
    """The parts of a WebP file that its pixels need. `stripped` is the file with nothing else in it."""

    stripped: bytes
    orientation: int
    profile: bytes | None


def parse(data: bytes) -> Webp:
    """Reads the chunks of a WebP file within its stated length; raises IMAGE_UNREADABLE and the size errors."""
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    found: dict[bytes, bytes] = {}
    place = 12
    for _ in range(_CHUNKS_MAX):
        if place + 8 > end:
            break
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        content = data[place + 8 : min(place + 8 + length, end)]
        if len(content) < length:
            raise _unreadable()
        found.setdefault(kind, content)
        place += 8 + length + length % 2
    else:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    profile = found.get(b"ICCP")
    return Webp(
        stripped=_stripped(found),
        orientation=exif.orientation(found.get(b"EXIF", b"")),
        profile=profile if profile and len(profile) <= PROFILE_BYTES else None,
    )


def picture(webp: Webp) -> Image.Image:
    """Decodes to mode RGB in sRGB, on white, upright."""
    image = Image.open(io.BytesIO(webp.stripped), formats=["WEBP"])
    check_size(*image.size)
    image.load()
    rgb = on_white(image) if image.mode == "RGBA" else image.convert("RGB")
    return upright(to_srgb(rgb, webp.profile), webp.orientation)


def encode(image: Image.Image) -> bytes:
    """Codes an RGB image of at most `LOSSLESS_PIXELS` pixels as a WebP without loss and without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=0, method=0, icc_profile=b"")
    return buffer.getvalue()


def _unreadable() -> MirageError:
    return MirageError(Code.IMAGE_UNREADABLE, format="WebP")


def _stripped(found: dict[bytes, bytes]) -> bytes:
    """Returns a RIFF file with the picture alone; raises IMAGE_UNREADABLE without one."""
    if b"VP8 " in found or b"VP8L" in found:
        kind = b"VP8 " if b"VP8 " in found else b"VP8L"
        check_size(*_size(kind, found[kind]))
        if b"VP8X" in found and b"ALPH" in found and kind == b"VP8 ":
            header = bytes((_ALPHA,)) + bytes(3) + found[b"VP8X"][4:10]
            return _riff([(b"VP8X", header), (b"ALPH", found[b"ALPH"]), (kind, found[kind])])
        return _riff([(kind, found[kind])])
    canvas, frame = found.get(b"VP8X", b""), found.get(b"ANMF", b"")
    if len(canvas) < 10 or len(frame) < 24:
        raise _unreadable()
    check_size(1 + int.from_bytes(canvas[4:7], "little"), 1 + int.from_bytes(canvas[7:10], "little"))
    header = bytes((_ANIMATED | canvas[0] & _ALPHA,)) + bytes(3) + canvas[4:10]
    return _riff([(b"VP8X", header), (b"ANIM", found.get(b"ANIM", b"")[:6].ljust(6, b"\0")), (b"ANMF", frame)])


def _riff(chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for kind, c in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _size(kind: bytes, content: bytes) -> tuple[int, int]:
    """Returns (width, height) as the bitstream's own header states them."""
    if kind == b"VP8 " and len(content) >= 10 and content[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", content[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(content) >= 5 and content[:1] == b"\x2f":
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise _unreadable()
