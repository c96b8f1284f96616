"""PNG files: the chunks that pixels need, and nothing else; 1 to 16 bits a sample.

Texts, times, unknown chunks, frames of an animation and what comes after the end are left out before the decoder sees
the file, so no packed text is ever unpacked.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import exif, grey
from mirage_core.imaging.colours import apply_gamma, on_white, to_grey_if_grey, to_srgb
from mirage_core.imaging.geometry import aspect, squared, upright
from mirage_core.imaging.sizes import PROFILE_BYTES, check_size
from mirage_core.pixels import PixelInfo

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COMPRESSION = 2
_LARGE = 4_000_000
_CHUNKS_MAX = 100_000
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_GREY, _RGB, _PALETTE, _GREY_ALPHA = 0, 2, 3, 4


@dataclass(frozen=True)
class Png:
    """The parts of a PNG file that its pixels need. `stripped` is the file with nothing else in it."""

    size: tuple[int, int]
    depth: int
    colour: int
    stripped: bytes
    transparent: tuple[int, ...] | None  # of greyscale or RGB: the samples of the pixels that are transparent
    orientation: int
    aspect: float  # a pixel's height by its width
    profile: bytes | None
    gamma: float | None


def parse(data: bytes) -> Png:
    """Reads the chunks of a PNG file up to IEND; raises IMAGE_UNREADABLE and the size errors."""
    chunks = _chunks(data)
    kind, header = chunks[0] if chunks else (b"", b"")
    if kind != b"IHDR" or len(header) != 13:
        raise _unreadable()
    width, height, depth, colour, packing, filtering, lacing = struct.unpack(">IIBBBBB", header)
    if depth not in _DEPTHS.get(colour, ()) or packing or filtering or lacing > 1:
        raise _unreadable()
    check_size(width, height)
    found: dict[bytes, bytes] = {}
    for kind, content in chunks[1:]:
        found.setdefault(kind, content)
    transparency = found.get(b"tRNS", b"")
    key: tuple[int, ...] | None = None
    if len(transparency) == {_GREY: 2, _RGB: 6}.get(colour):
        key = struct.unpack(f">{len(transparency) // 2}H", transparency)
    physical = found.get(b"pHYs", b"")
    kept = [(b"IHDR", header)]
    if colour == _PALETTE:
        kept.append((b"PLTE", found.get(b"PLTE", b"")))
    if colour == _PALETTE and transparency:
        kept.append((b"tRNS", transparency))
    kept += [(b"IDAT", content) for kind, content in chunks if kind == b"IDAT"]
    return Png(
        size=(width, height),
        depth=depth,
        colour=colour,
        stripped=_joined(kept),
        transparent=key,
        orientation=exif.orientation(found.get(b"eXIf", b"")),
        aspect=aspect(*struct.unpack(">II", physical[:8])) if len(physical) == 9 else 1.0,  # densities across and down
        profile=_profile(found.get(b"iCCP", b"")),
        gamma=_gamma(found),
    )


def is_deep_grey(png: Png) -> bool:
    """True if the file has 16 bits a pixel of greyscale, with or without alpha."""
    return png.depth == 16 and png.colour in (_GREY, _GREY_ALPHA)


def picture(png: Png, pixels: PixelInfo | None = None) -> Image.Image:
    """Decodes to mode L or RGB with 8 bits, in sRGB, on white, upright, with square pixels."""
    if is_deep_grey(png):
        return deep_picture(png, pixels)[0]
    image = _open(png.stripped)
    if image.mode == "P":
        image = _through_palette(image)
    elif image.mode in ("LA", "RGBA"):
        image = on_white(image)
    elif image.mode == "1":
        image = image.convert("L")
    if png.transparent is not None:
        image = _whitened(image, png, png.transparent)
    if png.profile:
        image = to_srgb(image, png.profile)
    elif png.gamma is not None:
        image = apply_gamma(image, png.gamma)
    return upright(squared(image, png.aspect), png.orientation)


def deep_picture(png: Png, pixels: PixelInfo | None = None) -> tuple[Image.Image, grey.Stored, PixelInfo]:
    """Decodes 16-bit greyscale: the 8-bit image, the 16-bit values (height, width) and their meaning.

    `pixels` says what the values mean; if it is omitted, the stored values are the values. Raises PIXELS_INVALID if the
    file has values of more bits than `pixels` says.
    """
    stored, hidden, alpha = _deep_values(png)
    used = grey.count(stored, 65536) > 0
    bits = max(1, int(np.flatnonzero(used)[-1]).bit_length())
    if pixels is not None and bits > pixels.bits:
        raise MirageError(Code.PIXELS_INVALID, field="bits")
    image, info = grey.shade_png(stored, pixels or PixelInfo(bits, 1.0, 0.0, ""), hidden=hidden)
    if alpha is not None:
        image = Image.composite(image, Image.new("L", image.size, 255), alpha)
    return image, stored, info


def _deep_values(
    png: Png,
) -> tuple[grey.Stored, "np.ndarray[tuple[int], np.dtype[np.bool_]] | None", Image.Image | None]:
    """Returns upright values with square pixels, which values are transparent, and an alpha channel if there is one."""
    alpha = None
    if png.colour == _GREY_ALPHA:
        # The decoder reads this kind with 8 bits only. Its bytes are those of an 8-bit RGBA image, filters included.
        image = _open(_as_rgba(png.stripped))
        values = np.empty((image.height, image.width), np.uint16)
        for rows in grey.strips((image.height, image.width)):
            raw = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
            values[rows] = raw[..., 0].astype(np.uint16) << 8 | raw[..., 1]
        alpha = image.getchannel("B")
        del image
    else:
        image = _open(png.stripped)
        values = np.asarray(image if image.mode == "I;16" else image.convert("I")).astype(np.uint16, copy=False)
        del image
    if png.aspect != 1.0 or png.orientation != 1:
        values = np.asarray(upright(squared(Image.fromarray(values), png.aspect), png.orientation))
        alpha = alpha and upright(squared(alpha, png.aspect), png.orientation)
    hidden = None
    if png.transparent is not None:
        hidden = np.zeros(65536, np.bool_)
        hidden[png.transparent[0]] = True
    return values, hidden, alpha


def _through_palette(image: Image.Image) -> Image.Image:
    """Returns a palette's image as RGB, on white: the few colours are laid on it, not the many pixels."""
    colours = Image.frombytes("P", (256, 1), bytes(range(256)))
    colours.putpalette(image.getpalette("RGB") or [0, 0, 0])
    if "transparency" in image.info:
        colours.info["transparency"] = image.info["transparency"]
    image.info.pop("transparency", None)
    image.putpalette(on_white(colours.convert("RGBA")).tobytes())
    return image.convert("RGB")


def _whitened(image: Image.Image, png: Png, transparent: Sequence[int]) -> Image.Image:
    """Returns an L or RGB image with white for the pixels whose samples, with all their bits, are the transparent
    ones.
    """
    if png.colour == _GREY:
        key = transparent[0] * 255 // (2**png.depth - 1)
        return image.point([255 if value == key else value for value in range(256)])
    key_bytes = np.array(transparent, ">u2").view(np.uint8)
    high, low = np.array(image), None
    if png.depth == 16:
        # The decoder keeps the first byte of each sample; with the other byte order it keeps the second.
        lower = Image.open(io.BytesIO(png.stripped), formats=["PNG"])
        lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
        low = np.asarray(lower)
    for rows in grey.strips((image.height, image.width)):
        if low is None:
            match = (high[rows] == key_bytes[1::2]).all(axis=2)
        else:
            match = ((high[rows] == key_bytes[0::2]) & (low[rows] == key_bytes[1::2])).all(axis=2)
        high[rows][match] = 255
    return Image.fromarray(high)


def encode(image: Image.Image) -> bytes:
    """Codes an L or RGB image as a PNG without metadata; an RGB image that is grey everywhere as greyscale."""
    if image.mode == "RGB":
        image = to_grey_if_grey(image)
    return _saved(image)


def encode_deep(stored: grey.Stored) -> bytes:
    """Codes a (height, width) array as a 16-bit greyscale PNG without metadata."""
    return _saved(Image.fromarray(stored))


def _saved(image: Image.Image) -> bytes:
    # Looking for runs of a byte alone is the fastest, and of filtered greys it gives the smallest files too.
    runs = image.mode != "RGB" or image.width * image.height > _LARGE
    options = {"compress_type": zlib.Z_RLE} if runs else {"compress_level": COMPRESSION}
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=None, **options)
    return buffer.getvalue()


def _unreadable() -> MirageError:
    return MirageError(Code.IMAGE_UNREADABLE, format="PNG")


def _open(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    image.load()
    return image


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns the chunks up to IEND. Checksums of those that the decoder gets are checked.

    The others' do not matter.
    """
    chunks: list[tuple[bytes, bytes]] = []
    place = len(SIGNATURE)
    for _ in range(_CHUNKS_MAX):
        head = data[place : place + 8]
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8:
            raise _unreadable()
        if kind == b"IEND":
            return chunks
        content = data[place + 8 : place + 8 + length]
        if len(content) < length or length > 2**31 - 1:
            raise _unreadable()
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"tRNS"):
            checksum = data[place + 8 + length : place + 12 + length]
            if checksum != zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big"):
                raise _unreadable()
            chunks.append((kind, content))
        elif kind in (b"eXIf", b"pHYs", b"iCCP", b"gAMA", b"sRGB"):
            chunks.append((kind, content))
        place += 12 + length
    raise MirageError(Code.IMAGE_TOO_COSTLY)


def _joined(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [SIGNATURE]
    for kind, content in [*chunks, (b"IEND", b"")]:
        checksum = zlib.crc32(content, zlib.crc32(kind))
        parts += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)]
    return b"".join(parts)


def _as_rgba(stripped: bytes) -> bytes:
    """Returns a 16-bit grey-and-alpha file relabelled as 8-bit RGBA: high and low byte of the grey, then of alpha."""
    header = bytearray(stripped[12:29])  # from the chunk's name to the end of its content
    header[12], header[13] = 8, 6
    return stripped[:12] + bytes(header) + zlib.crc32(header).to_bytes(4, "big") + stripped[33:]


def _profile(content: bytes) -> bytes | None:
    _, _, rest = content.partition(b"\0")
    if rest[:1] != b"\0":
        return None
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(rest[1:], PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _gamma(found: dict[bytes, bytes]) -> float | None:
    """Returns gAMA, unless the file has a profile or says that it is sRGB, which come first."""
    content = found.get(b"gAMA", b"")
    if b"iCCP" in found or b"sRGB" in found or len(content) != 4:
        return None
    return int.from_bytes(content, "big") / 100_000
