"""The elements of a DICOM file that pixels need, read with tolerance: a value that cannot be read counts as not
there.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from mirage_core.dicom import layout
from mirage_core.errors import Code, MirageError

# Limit of an inflated data set: a frame of the most pixels with 16 bits, and some more.
INFLATED_BYTES = 128 * 2**20
# Items of all sequences and fragments of all frames.
_ITEMS_MAX = 100_000
# Longer values stay where they are.
_DEFERRED_BYTES = 2**20
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_VALUES_MAX = 70_000


class Elements:
    """One data set or item. A keyword that is missing, empty or unreadable gives None, "" or an empty list."""

    def __init__(self, dataset: pydicom.Dataset) -> None:
        self._dataset = dataset

    def has(self, keyword: str) -> bool:
        """True if the element is there, even if it is empty."""
        return keyword in self._dataset

    def numbers(self, keyword: str, *, signed: bool = False) -> list[float]:
        """Returns the finite numbers of an element.

        `signed` decides for those that are "US or SS" if the file does not.
        """
        found = self._raw(keyword)
        if found is None:
            return []
        kind, value, order = found
        try:
            if not isinstance(value, bytes):
                values = [float(each) for each in _listed(value)]
            elif kind in ("IS", "DS"):
                values = _parsed(value)
            else:
                code = _NUMBERS["SS" if signed and kind in ("US or SS", "US or SS or OW") else kind[:2]]
                size = min(len(value) // struct.calcsize(code), _VALUES_MAX)
                values = list(struct.unpack_from(f"{order}{size}{code}", value))
        except (ValueError, TypeError, KeyError, struct.error):
            return []
        return [float(each) for each in values]

    def number(self, keyword: str, *, signed: bool = False) -> float | None:
        """Returns the first number if it is finite."""
        values = self.numbers(keyword, signed=signed)
        return values[0] if values and math.isfinite(values[0]) else None

    def whole(self, keyword: str) -> int | None:
        """Returns the first number as a whole one."""
        value = self.number(keyword)
        return None if value is None else int(value)

    def words(self, keyword: str) -> list[str]:
        """Returns the values of a text, without blanks around them."""
        found = self._raw(keyword)
        if found is None:
            return []
        _, value, _ = found
        if isinstance(value, bytes):
            return [each.strip(" \0\t\r\n") for each in value.decode("latin-1").split("\\")]
        if isinstance(value, str) or not isinstance(value, Iterable):
            return [str(value).strip()]
        return [str(each).strip() for each in value]

    def word(self, keyword: str) -> str:
        """Returns the first value of a text in capitals."""
        return next(iter(self.words(keyword)), "").upper()

    def content(self, keyword: str) -> tuple[bytes, str]:
        """Returns the bytes of an element and their order, "<" or ">"."""
        found = self._raw(keyword)
        if found is None:
            return b"", "<"
        kind, value, order = found
        if isinstance(value, bytes):
            return value, order
        code = _NUMBERS.get(kind[:2], "H")
        try:
            values = [int(each) for each in _listed(value)]
            return struct.pack(f"<{len(values)}{code}", *values), "<"
        except (ValueError, TypeError, struct.error):
            return b"", "<"

    def items(self, keyword: str) -> list["Elements"]:
        """Returns the items of a sequence."""
        try:
            value = self._dataset[keyword].value if keyword in self._dataset else None
            return [Elements(item) for item in value] if value else []
        # pydicom raises nearly anything on a damaged sequence.
        except Exception:
            return []

    def _raw(self, keyword: str) -> tuple[str, object, str] | None:
        """Returns the value representation, the value (bytes, or what pydicom has made of them) and the byte order."""
        tag = tag_for_keyword(keyword)
        if tag is None or keyword not in self._dataset:
            return None
        known = dictionary_VR(tag)
        element = self._dataset.get_item(BaseTag(tag), keep_deferred=True)
        if isinstance(element, RawDataElement):
            kind = element.VR if element.VR not in (None, "UN") else known
            return str(kind), element.value, "<" if element.is_little_endian else ">"
        value = None if element is None else element.value
        return None if value is None else (known, value, "<")


def _listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, Iterable) else [value]


def _parsed(value: bytes) -> list[float]:
    """Reads decimal strings; one that is empty or no number counts as not a number."""
    numbers = []
    for text in value.decode("latin-1").split("\\")[:_VALUES_MAX]:
        try:
            numbers.append(float(text.strip(" \0").replace(",", ".")))
        except ValueError:
            numbers.append(math.nan)
    return numbers


@dataclass(frozen=True)
class DicomFile:
    """The elements that were asked for, where the pixels are, and how they are coded.

    `body` is the data set (inflated if need be) and `pixels` the (start, length) of the pixels' value in it; the length
    is None if it is undefined, as it is for compressed pixels. `keyword` is PixelData, FloatPixelData or
    DoubleFloatPixelData.
    """

    elements: Elements
    transfer_syntax: str
    body: bytes
    keyword: str
    pixels: tuple[int, int | None]
    words: bool  # the pixels' value representation is OW: in big endian, bytes are swapped in pairs


def read(data: bytes, keywords: Iterable[str]) -> DicomFile:
    """Parses a file.

    Only the elements named are kept. Raises IMAGE_TOO_COSTLY and what pydicom raises (nearly anything).
    """
    found = layout.find_layout(data)
    body = data[found.start :] if found.start else data
    if found.transfer_syntax == layout.DEFLATED:
        body = _inflated(body)
    little = found.transfer_syntax != layout.BIG_ENDIAN
    if body.count(b"\xfe\xff\x00\xe0" if little else b"\xff\xfe\xe0\x00") > _ITEMS_MAX:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    tags: list[BaseTag | int] = [
        tag for keyword in (*keywords, *_PIXELS) if (tag := tag_for_keyword(keyword)) is not None
    ]
    dataset = read_dataset(
        io.BytesIO(body),
        found.transfer_syntax == layout.IMPLICIT,
        little,
        defer_size=_DEFERRED_BYTES,
        specific_tags=tags,
    )
    for keyword in _PIXELS:
        if keyword not in dataset:
            continue
        raw = dataset.get_item(keyword, keep_deferred=True)
        if isinstance(raw, RawDataElement) and raw.value_tell:
            length = None if raw.length == 0xFFFFFFFF else raw.length
            return DicomFile(
                Elements(dataset), found.transfer_syntax, body, keyword, (raw.value_tell, length), raw.VR != "OB"
            )
    return DicomFile(Elements(dataset), found.transfer_syntax, body, "", (0, 0), False)


def _inflated(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(deflated, INFLATED_BYTES)
    if not inflater.eof and inflater.unconsumed_tail:
        raise MirageError(Code.IMAGE_TOO_COSTLY)
    return body


class Frame:
    """The elements that hold for one frame: its functional groups (PS3.3 C.7.6.16) first, then those that all frames
    share.
    """

    def __init__(self, elements: Elements, index: int) -> None:
        self.elements = elements
        own = elements.items("PerFrameFunctionalGroupsSequence")
        self._groups = ([own[index]] if index < len(own) else []) + elements.items("SharedFunctionalGroupsSequence")[:1]

    def group(self, keyword: str) -> Elements | None:
        """Returns the first item of a functional group's sequence, or None if neither the frame nor all frames have
        it.
        """
        for groups in self._groups:
            if items := groups.items(keyword):
                return items[0]
        return None

    def groups(self, keyword: str) -> list[Elements]:
        """Returns all items of a functional group's sequence."""
        return next((items for groups in self._groups if (items := groups.items(keyword))), [])

    def either(self, group: str, keyword: str) -> Elements:
        """Returns the functional group if it is there and has the element, else the elements of the data set."""
        found = self.group(group)
        return found if found is not None and found.has(keyword) else self.elements
