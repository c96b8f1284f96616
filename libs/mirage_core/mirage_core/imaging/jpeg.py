"""JPEG files: the segments that pixels need, and nothing else.

`parse` rewrites a file from an allow-list: frame header, tables, scans, and an application segment of our own that
states the colour space. Everything that can hold a text (APP0 to APP15, comments, thumbnails, what is between segments
or after the end) is left out before the decoder sees the file.
"""

import io
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image, ImageChops

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import exif
from mirage_core.imaging.colours import is_srgb, to_srgb
from mirage_core.imaging.geometry import aspect, squared, upright
from mirage_core.imaging.sizes import PROFILE_BYTES, check_scans, check_size

QUALITY = 95
_BASELINE = (0xC0, 0xC1)
_DECODED = (0xC0, 0xC1, 0xC2)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_TABLES = (0xC4, 0xDB, 0xDD)  # DHT, DQT, DRI
_SEGMENTS_MAX = 10_000
_SIDE_MAX = 65_500  # of libjpeg
# A marker that ends entropy-coded data: neither a stuffed 0xFF nor a restart marker.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
# Values that a code of an 8-bit image can have: the size of a difference, or a run of zeros and the size of the next value.
_SIZES = frozenset(range(12))
_RUNS = frozenset((0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 11))))
_MARKER = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_RESTART = re.compile(rb"\xff[\xd0-\xd7\xff]", re.DOTALL)
# A quantisation table with such bytes could be read as a text.
_LETTERS = re.compile(rb"[A-Za-z^ ]{5,}")
_KINDS = {
    0xC1: "JPEG extended, 12 bits",
    0xC3: "JPEG lossless",
    0xC9: "JPEG, arithmetic coding",
    0xCA: "JPEG, arithmetic coding",
}


# A picture of more pixels is not kept while another one is decoded.
_KEPT_PIXELS = 2**22


@dataclass
class Jpeg:
    """The parts of a JPEG file that its pixels need. `stripped` is the file with nothing else in it."""

    width: int = 0
    height: int = 0
    components: int = 0
    precision: int = 0
    frame: int = 0
    scans: int = 0
    orientation: int = 1
    aspect: float = 1.0  # a pixel's height by its width
    profile: bytes | None = None
    stripped: bytes = b""
    parts: list[tuple[int, bytes]] = field(default_factory=list)  # markers and contents; 0 for entropy-coded data
    colours: bytes = b""  # the segment that states the colour space
    ids: dict[int, int] = field(default_factory=dict)  # component numbers of the file to 1, 2, 3


def parse(data: bytes, *, unmarked_is_rgb: bool = False, marked: bool = True) -> Jpeg:
    """Reads the segments of a JPEG file up to its first end of image; raises IMAGE_UNREADABLE and the size errors.

    Checks the size and the number of scans that the file has, so that nothing is unpacked of one that is too costly. Three
    components are Y, Cb and Cr unless a marker or their numbers say RGB, or `unmarked_is_rgb` does and nothing says otherwise.
    `stripped` says so in a segment of its own, unless `marked` is False.
    """
    jpeg = Jpeg()
    profile: dict[int, bytes] = {}
    jfif, adobe, seen_exif = False, None, False
    place = 2
    for _ in range(_SEGMENTS_MAX):
        found = _MARKER.search(data, place)
        if found is None:
            raise _unreadable()
        place = found.end()
        marker = data[place - 1]
        if marker == 0xD9:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        length = int.from_bytes(data[place : place + 2], "big")
        content = data[place + 2 : place + length]
        if length < 2 or len(content) < length - 2:
            raise _unreadable()
        place += length
        if marker in _TABLES:
            jpeg.parts.append((marker, content))
        elif marker in _FRAMES:
            if jpeg.frame:
                raise _unreadable()
            _read_frame(jpeg, marker, content)
            jpeg.parts.append((marker, _renumbered_frame(jpeg, content)))
        elif marker == 0xDA:
            jpeg.scans += 1
            check_scans(jpeg.scans, jpeg.width, jpeg.height)
            end = _SCAN_END.search(data, place)
            if end is None:
                raise _unreadable()
            # Any number of 0xFF may precede a marker.
            entropy = data[place : end.start()].rstrip(b"\xff")
            jpeg.parts += [(marker, _renumbered_scan(jpeg, content)), (0, entropy)]
            place = end.start()
        elif marker == 0xE0 and content[:5] == b"JFIF\0" and len(content) >= 12:
            jfif = True
            jpeg.aspect = aspect(*struct.unpack(">HH", content[8:12]))  # densities across and down
        elif marker == 0xEE and content[:5] == b"Adobe" and len(content) >= 12:
            adobe = content[11]
        elif marker == 0xE1 and content[:6] == b"Exif\0\0" and not seen_exif:
            seen_exif = True
            jpeg.orientation = exif.orientation(content)
        elif marker == 0xE2 and content[:12] == b"ICC_PROFILE\0" and len(content) > 14:
            profile[content[12]] = content[14:]
    else:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    if not jpeg.frame or not jpeg.scans:
        raise _unreadable()
    if profile and sum(map(len, profile.values())) <= PROFILE_BYTES:
        jpeg.profile = b"".join(profile[number] for number in sorted(profile))
    if marked:
        jpeg.colours = _colours(jpeg, jfif=jfif, adobe=0 if adobe is None and unmarked_is_rgb else adobe)
    jpeg.stripped = _file(jpeg.colours, jpeg.parts)
    return jpeg


def decode(jpeg: Jpeg) -> Image.Image:
    """Decodes to mode L, RGB or CMYK, as stored: not turned, no profile applied. Raises IMAGE_CODING_UNSUPPORTED."""
    if jpeg.precision != 8 or (jpeg.frame not in _DECODED and jpeg.frame not in (0xC9, 0xCA)):
        coding = _KINDS.get(jpeg.frame, "JPEG, hierarchical")
        raise MirageError(Code.IMAGE_CODING_UNSUPPORTED, format="JPEG", coding=coding)
    image = Image.open(io.BytesIO(jpeg.stripped), formats=["JPEG"])
    image.load()
    return image


def picture(jpeg: Jpeg) -> Image.Image:
    """Decodes to mode L or RGB in sRGB, upright, with square pixels."""
    image = to_srgb(decode(jpeg), jpeg.profile)
    return upright(squared(image, jpeg.aspect), jpeg.orientation)


def clean(jpeg: Jpeg) -> tuple[bytes, Image.Image]:
    """Returns a JPEG without metadata, and its picture in mode L or RGB: a copy of what the pixels need if that is safe,
    else coded again.

    A copy is made of a baseline file of one scan that needs no turning, no profile and no stretching, after it was
    decoded whole, and after a change of the last byte of its entropy-coded data was seen to change the picture: so no
    byte in it is idle.
    """
    mode = "L" if jpeg.components == 1 else "RGB"
    if jpeg.orientation == 1 and jpeg.aspect == 1.0 and is_srgb(jpeg.profile, mode):
        parts = _copied(jpeg)
        if parts is not None:
            counts, seen = _last_byte_counts(jpeg, parts)
            if counts:
                return _file(jpeg.colours, parts), seen or picture(jpeg)
    image = picture(jpeg)
    return encode(image), image


def encode(image: Image.Image) -> bytes:
    """Codes an L or RGB image as a JPEG of quality 95 with full colour resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0, icc_profile=None, comment=b"")
    return buffer.getvalue()


def _unreadable() -> MirageError:
    return MirageError(Code.IMAGE_UNREADABLE, format="JPEG")


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _file(colours: bytes, parts: list[tuple[int, bytes]]) -> bytes:
    coded = [_segment(marker, content) if marker else content for marker, content in parts]
    return b"".join([b"\xff\xd8", colours, *coded, b"\xff\xd9"])


def _read_frame(jpeg: Jpeg, marker: int, content: bytes) -> None:
    if len(content) < 6 or len(content) < 6 + 3 * content[5]:
        raise _unreadable()
    jpeg.frame = marker
    jpeg.precision, jpeg.height, jpeg.width, jpeg.components = struct.unpack(">BHHB", content[:6])
    if jpeg.components not in (1, 3, 4) or jpeg.height == 0:
        raise _unreadable()
    check_size(jpeg.width, jpeg.height)
    for number in range(jpeg.components):
        sampling = content[7 + 3 * number]
        if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4) or content[8 + 3 * number] > 3:
            raise _unreadable()
        jpeg.ids[content[6 + 3 * number]] = number + 1
    if len(jpeg.ids) != jpeg.components:
        raise _unreadable()


def _renumbered_frame(jpeg: Jpeg, content: bytes) -> bytes:
    body = bytearray(content[: 6 + 3 * jpeg.components])
    for number in range(jpeg.components):
        body[6 + 3 * number] = number + 1
    return bytes(body)


def _renumbered_scan(jpeg: Jpeg, content: bytes) -> bytes:
    count = content[0] if content else 0
    if not 1 <= count <= 4 or len(content) < 4 + 2 * count or not jpeg.frame:
        raise _unreadable()
    body = bytearray(content[: 4 + 2 * count])
    for number in range(count):
        if body[1 + 2 * number] not in jpeg.ids:
            raise _unreadable()
        body[1 + 2 * number] = jpeg.ids[body[1 + 2 * number]]
    return bytes(body)


def _colours(jpeg: Jpeg, *, jfif: bool, adobe: int | None) -> bytes:
    """Returns an application segment that states the colour space which libjpeg would have found in the original
    file.
    """
    if jpeg.components == 4:
        return _adobe(adobe) if adobe is not None else b""
    if jpeg.components == 3 and not jfif:
        if adobe is not None:
            return _adobe(0 if adobe == 0 else 1)
        if list(jpeg.ids) in (list(b"RGB"), list(b"rgb")):
            return _adobe(0)
    return _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def _adobe(transform: int) -> bytes:
    return _segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((transform if transform in (0, 1, 2) else 1,)))


def _split_quantisation(content: bytes, tables: dict[int, bytes]) -> bool:
    """Adds each table of a DQT segment by its number; returns False if one is not sound."""
    place = 0
    while place < len(content):
        wide, number = content[place] >> 4, content[place] & 15
        length = 65 + 64 * (wide == 1)
        table = content[place : place + length]
        if wide > 1 or number > 3 or len(table) < length:
            return False
        tables[number] = table
        place += length
    return True


def _split_huffman(content: bytes, tables: dict[int, bytes]) -> bool:
    """Adds each table of a DHT segment by its class and number; returns False if one is cut off."""
    place = 0
    while place < len(content):
        head, counts = content[place], content[place + 1 : place + 17]
        symbols = content[place + 17 : place + 17 + sum(counts)]
        if len(counts) < 16 or len(symbols) < sum(counts) or (head & 15) > 3 or head >> 4 > 1:
            return False
        tables[head] = content[place : place + 17 + len(symbols)]
        place += 17 + len(symbols)
    return True


def _are_symbols(symbols: bytes, kind: int) -> bool:
    """True for different symbols that an 8-bit picture can have: sizes (kind 0), or runs with sizes."""
    different = set(symbols)
    return len(different) == len(symbols) and different <= (_RUNS if kind else _SIZES)


def _copied(jpeg: Jpeg) -> list[tuple[int, bytes]] | None:
    """Returns tables, frame, tables, scan and its data, with the tables that are used; None if it should not be copied.

    Only a baseline picture of one scan without restarts is, with tables that are sound and that no text could be.
    """
    markers = [marker for marker, _ in jpeg.parts]
    if (
        jpeg.precision != 8
        or jpeg.frame not in _BASELINE
        or jpeg.components not in (1, 3)
        or jpeg.scans != 1
        or markers[-2:] != [0xDA, 0]
        or any(marker == 0xDD and content[:2] != b"\0\0" for marker, content in jpeg.parts)
    ):
        return None
    quantisation: dict[int, bytes] = {}
    huffman: dict[int, bytes] = {}
    for marker, content in jpeg.parts:
        sound = marker != 0xDB or _split_quantisation(content, quantisation)
        sound &= marker != 0xC4 or _split_huffman(content, huffman)
        if not sound:
            return None
    (_, scan), (_, entropy) = jpeg.parts[-2:]
    frame = jpeg.parts[markers.index(jpeg.frame)]
    if scan[0] != jpeg.components or _RESTART.search(entropy):
        return None
    selectors = scan[2 : 1 + 2 * scan[0] : 2]
    tables = [quantisation.get(number) for number in sorted(set(frame[1][8::3]))]
    kinds = sorted({selector >> 4 for selector in selectors} | {16 + (selector & 15) for selector in selectors})
    codes = [huffman.get(number) for number in kinds]
    if not all(table is not None and _is_no_text(table[1:]) for table in tables):
        return None
    if not all(code is not None and _are_symbols(code[17:], code[0] >> 4) for code in codes):
        return None
    joined = [b"".join(each for each in found if each is not None) for found in (tables, codes)]
    return [(0xDB, joined[0]), frame, (0xC4, joined[1]), (0xDA, scan[:-3] + b"\0\x3f\0"), (0, entropy)]


def _is_no_text(table: bytes) -> bool:
    """True for a quantisation table that is a usual one, or in which no word can be read."""
    return not _LETTERS.search(table) or table in _standard_tables()


@lru_cache(maxsize=1)
def _standard_tables() -> frozenset[bytes]:
    """Returns the quantisation tables of all qualities of the usual encoders, in the order of a file."""
    found = set()
    for quality in range(1, 101):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
        data = buffer.getvalue()
        for start in re.finditer(rb"\xff\xdb\x00\x43", data):
            found.add(data[start.end() + 1 : start.end() + 65])
    return frozenset(found)


def _last_byte_counts(jpeg: Jpeg, parts: list[tuple[int, bytes]]) -> tuple[bool, Image.Image | None]:
    """Returns True if the file can be decoded, and its last unit changes with the last byte of the entropy-coded data.

    The picture that was decoded comes with it, unless it is so large that two of them would need too much memory.

    Bytes after the last coded unit are never decoded, so a change of such a byte changes nothing. The sides are stated as
    multiples of a unit, so that no part of the last one is cut off. Raises OSError if the file cannot be decoded.
    """
    quantisation, (marker, frame), huffman, scan, (_, entropy) = parts
    across = down = 8  # of a single component, whatever sampling it states
    if jpeg.components > 1:
        across, down = (8 * max(sampling >> shift & 15 for sampling in frame[7::3]) for shift in (4, 0))
    width, height = -(-jpeg.width // across) * across, -(-jpeg.height // down) * down
    if max(width, height) <= _SIDE_MAX:
        frame = frame[:1] + struct.pack(">HH", height, width) + frame[5:]
    head = [quantisation, (marker, frame), huffman, scan]
    whole = _loaded(_file(jpeg.colours, [*head, (0, entropy)]))
    seen = _last_unit(whole, across, down)
    kept = whole.crop((0, 0, jpeg.width, jpeg.height)) if whole.width * whole.height <= _KEPT_PIXELS else None
    del whole
    # The last byte may be a 0xFF, which is stuffed: with another value it needs no stuffing.
    place = -2 if entropy.endswith(b"\xff\0") else -1
    if len(entropy) < -place:
        return False, kept
    for change in (0xFF, 0x80, 0x55):
        last = bytes((entropy[place] ^ change,))
        changed = entropy[:place] + (b"\xff\0" if last == b"\xff" else last)
        try:
            unit = _last_unit(_loaded(_file(jpeg.colours, [*head, (0, changed)])), across, down)
        except OSError:
            return True, kept
        if ImageChops.difference(unit, seen).getbbox() is not None:
            return True, kept
    return False, kept


def _loaded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    image.load()
    return image


def _last_unit(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.crop((image.width - width, image.height - height, image.width, image.height))
