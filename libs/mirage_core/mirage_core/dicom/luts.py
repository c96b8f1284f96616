"""Look-up tables of DICOM: modality and VOI LUT sequences (PS3.3 C.11.1, C.11.2) and colour palettes (C.7.6.3.1.5,
C.7.9.2).
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mirage_core.dicom.elements import Elements
from mirage_core.imaging.grey import Bytes, Floats

_ENTRIES_MAX = 65536
_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Lut:
    """A table with entries of `bits` bits: values up to `first` give the first entry, values beyond the end the
    last.
    """

    first: int
    entries: npt.NDArray[np.uint16]
    bits: int

    def apply(self, values: Floats) -> npt.NDArray[np.uint16]:
        """Returns the entries of the values, rounded to whole ones."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        found: npt.NDArray[np.uint16] = self.entries[places.astype(np.intp)]
        return found


def read_lut(item: Elements, *, signed: bool) -> Lut | None:
    """Reads an item of a LUT sequence; None if it is not sound. `signed` is of the values that go in."""
    return _lut(item.content("LUTDescriptor"), item.content("LUTData"), signed=signed)


def _lut(descriptor: tuple[bytes, str], data: tuple[bytes, str], *, signed: bool) -> Lut | None:
    if (head := _descriptor(*descriptor, signed=signed)) is None:
        return None
    count, first, bits = head
    entries = _entries(*data, count)
    if entries is None:
        return None
    return Lut(first, entries, _bits(entries, bits))


def _descriptor(content: bytes, order: str, *, signed: bool) -> tuple[int, int, int] | None:
    """Returns how many entries there are, the first value that is mapped, and bits an entry."""
    if len(content) < 6:
        return None
    count, first, bits = struct.unpack_from(f"{order}H{'h' if signed else 'H'}H", content)
    return count or _ENTRIES_MAX, first, bits


def _entries(content: bytes, order: str, count: int) -> npt.NDArray[np.uint16] | None:
    """Returns the entries, of 8 or 16 bits as the length of the data says (the note of PS3.3 C.7.6.3.1.5).

    A table that is too short is continued with its last entry.
    """
    if len(content) >= 2 * count:
        entries = np.frombuffer(content, f"{order}u2", count=count).astype(np.uint16)
    elif count <= len(content) <= count + 1:
        packed = np.frombuffer(content, np.uint8)
        if order == ">":  # two entries in a word
            packed = packed[: len(packed) // 2 * 2].reshape(-1, 2)[:, ::-1].ravel()
        entries = packed[:count].astype(np.uint16)
    else:
        entries = np.frombuffer(content[: len(content) // 2 * 2], f"{order}u2").astype(np.uint16)
    if not len(entries):
        return None
    return np.pad(entries, (0, count - len(entries)), mode="edge") if len(entries) < count else entries


def _bits(entries: npt.NDArray[np.uint16], stated: int) -> int:
    """Returns how many bits an entry has: as stated, unless entries are larger, or all of them would be near to
    black.
    """
    used = int(entries.max()).bit_length()
    if stated > 8 and used <= 8:
        return 8  # 8-bit entries, padded to 16
    return max(used, stated if 1 <= stated <= 16 else 16)


def greys(lut: Lut, values: Floats) -> Bytes:
    """Returns the entries of a VOI LUT as greys of 8 bits."""
    shown: Bytes = np.rint(lut.apply(values) * (255.0 / (2**lut.bits - 1))).astype(np.uint8)
    return shown


def read_palette(elements: Elements, *, signed: bool) -> tuple[int, Bytes] | None:
    """Returns the first value that is mapped and the colours (entries, 3) of 8 bits.

    None without a sound palette.
    """
    luts = []
    for colour in _COLOURS:
        descriptor = elements.content(f"{colour}PaletteColorLookupTableDescriptor")
        data = elements.content(f"{colour}PaletteColorLookupTableData")
        if not data[0]:
            data = _expanded(
                *elements.content(f"Segmented{colour}PaletteColorLookupTableData"),
                _descriptor(*descriptor, signed=signed),
            )
        lut = _lut(descriptor, data, signed=signed)
        if lut is None:
            return None
        luts.append(lut)
    # All three have the same size and first value; what one table says about the padding of its entries holds for the
    # others.
    bits = max(lut.bits for lut in luts)
    size = max(len(lut.entries) for lut in luts)
    columns = [np.pad(lut.entries, (0, size - len(lut.entries)), mode="edge") for lut in luts]
    colours: npt.NDArray[Any] = np.stack(columns, axis=-1).astype(np.float64) * (255.0 / (2**bits - 1))
    return luts[0].first, np.rint(colours).astype(np.uint8)


def _expanded(content: bytes, order: str, head: tuple[int, int, int] | None) -> tuple[bytes, str]:
    """Expands a segmented palette (PS3.3 C.7.9.2): runs of entries, straight lines, and repetitions of earlier
    segments.
    """
    if head is None or not content:
        return b"", "<"
    count, _, bits = head
    wide = bits > 8 or len(content) % 2 == 0
    words = list(np.frombuffer(content[: len(content) // 2 * 2], f"{order}u2")) if wide else list(content)
    words = [int(word) for word in words]
    if wide and bits <= 8 and words and words[0] > 2:
        words = list(content)  # 8-bit words, of an even number
    out: list[int] = []
    if not _expand(words, 0, len(words), out, count, indirect=True, high=1 << 16 if wide else 1 << 8):
        return b"", "<"
    return np.array(out[:count], "<u2").tobytes(), "<"


def _expand(words: list[int], place: int, end: int, out: list[int], count: int, *, indirect: bool, high: int) -> bool:
    """Adds the entries of the segments in words[place:end] to `out`; returns False if a segment is not sound."""
    while place + 1 < end and len(out) < count:
        kind, length = words[place], words[place + 1]
        if kind == 0:
            out += words[place + 2 : place + 2 + length]
            place += 2 + length
        elif kind == 1 and place + 2 < end and out:
            start, stop = out[-1], words[place + 2]
            out += [round(start + (stop - start) * step / length) for step in range(1, min(length, count) + 1)]
            place += 3
        elif kind == 2 and place + 3 < end and indirect:
            # `length` segments that start at a byte offset, of which the low half comes first.
            target = (words[place + 2] + words[place + 3] * high) // (2 if high > 256 else 1)
            until = _segments_end(words, target, length)
            if until is None or not _expand(words, target, until, out, count, indirect=False, high=high):
                return False
            place += 4
        else:
            return False
    return bool(out)


def _segments_end(words: list[int], place: int, segments: int) -> int | None:
    for _ in range(segments):
        if place + 2 >= len(words) or words[place] not in (0, 1):
            return None
        place += 2 + words[place + 1] if words[place] == 0 else 3
    return place if place <= len(words) else None
