"""Regions: the named structures of a label map, which goes with an image."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass, field
from typing import Any

from mirage_api.limits import REGION_NAME_CHARS as REGION_NAME_CHARS
from mirage_api.limits import REGIONS_BYTES as REGIONS_BYTES
from mirage_api.limits import REGIONS_MAX as REGIONS_MAX
from mirage_core.errors import Code, MirageError

_GROUP_CHARS = 64
_GOLDEN = 0.618034
_COLOUR = re.compile("#[0-9a-f]{6}")


@dataclass(frozen=True)
class Region:
    """A structure of a label map: its number there (1 to 255), name, kind, and colour as `#rrggbb`.

    `box` (left, top, width, height) and `area` are in pixels of the image, and set once the map was read.
    """

    id: int
    name: str
    group: str
    colour: str
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    area: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Region":
        """Returns the region of a stored record."""
        return cls(**{**value, "box": tuple(value["box"])})


@dataclass(frozen=True)
class RegionMap:
    """A label map: a PNG of the image's size, whose pixels are numbers of the legend, or 0 for none of it."""

    png: bytes = field(repr=False)
    legend: tuple[Region, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of the PNG in lower-case hex, or ""."""
        return hashlib.sha256(self.png).hexdigest() if self.png else ""


def refuse(problem: str) -> MirageError:
    """Returns REGIONS_INVALID."""
    return MirageError(Code.REGIONS_INVALID, problem=problem)


def check_legend(legend: Sequence[Region]) -> None:
    """Raises REGIONS_INVALID, saying what is wrong, without quoting a name."""
    if len(legend) > REGIONS_MAX:
        raise refuse(f"its legend has more than {REGIONS_MAX} structures")
    seen: set[int] = set()
    for each in legend:
        if not isinstance(each.id, int) or isinstance(each.id, bool) or not 1 <= each.id <= REGIONS_MAX:
            raise refuse(f"its legend has a number outside of 1 to {REGIONS_MAX}")
        if each.id in seen:
            raise refuse(f"its legend has the number {each.id} twice")
        seen.add(each.id)
        if not _is_line(each.name, REGION_NAME_CHARS) or not each.name.strip():
            raise refuse(f"the name of number {each.id} is not one line of 1 to {REGION_NAME_CHARS} characters")
        if not _is_line(each.group, _GROUP_CHARS):
            raise refuse(f"the group of number {each.id} is not one line of at most {_GROUP_CHARS} characters")
        if not isinstance(each.colour, str) or not _COLOUR.fullmatch(each.colour):
            raise refuse(f'the colour of number {each.id} is not of the form "#rrggbb" with lower-case digits')


def default_colour(number: int) -> str:
    """Returns a colour for a structure without one: neighbouring numbers get hues that differ clearly."""
    red, green, blue = hls_to_rgb(number * _GOLDEN % 1.0, 0.62, 0.65)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _is_line(text: object, most: int) -> bool:
    return isinstance(text, str) and len(text) <= most and text.isprintable()
