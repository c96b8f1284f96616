"""The meaning of pixels with more than 8 bits: unit, scale and the windows that show them on 8 bits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mirage_api.limits import NAME_CHARS as NAME_CHARS
from mirage_api.limits import UNIT_CHARS as UNIT_CHARS
from mirage_api.limits import WINDOWS_MAX as WINDOWS_MAX
from mirage_core.errors import Code, MirageError

BITS_MIN, BITS_MAX = 1, 16


@dataclass(frozen=True)
class Window:
    """A range of values that is shown from black to white: `center` and `width` are in the unit of the rescaled
    values.
    """

    name: str
    center: float
    width: float


@dataclass(frozen=True)
class PixelInfo:
    """Meaning of the numbers in a 16-bit greyscale PNG: value = stored * slope + intercept, in `unit` ("" if unknown).

    `bits` is how many bits the stored numbers use (1 to 16). The first window is the one that the 8-bit image shows.
    """

    bits: int
    slope: float
    intercept: float
    unit: str
    windows: tuple[Window, ...] = field(default=())

    def __post_init__(self) -> None:
        """Raises PIXELS_INVALID if a field is outside of its range."""
        _require(_is_whole(self.bits) and BITS_MIN <= self.bits <= BITS_MAX, "bits")
        _require(_is_finite(self.slope) and self.slope != 0, "slope")
        _require(_is_finite(self.intercept), "intercept")
        _require(_is_text(self.unit, UNIT_CHARS), "unit")
        _require(isinstance(self.windows, tuple) and len(self.windows) <= WINDOWS_MAX, "windows")
        for window in self.windows:
            _require(isinstance(window, Window) and _is_text(window.name, NAME_CHARS), "windows")
            _require(_is_finite(window.center) and _is_finite(window.width) and window.width > 0, "windows")

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` takes: plain dicts, lists, numbers and strings."""
        return {
            "bits": self.bits,
            "slope": self.slope,
            "intercept": self.intercept,
            "unit": self.unit,
            "windows": [{"name": w.name, "center": w.center, "width": w.width} for w in self.windows],
        }

    @classmethod
    def from_json(cls, value: object) -> "PixelInfo":
        """Builds it from parsed JSON; raises PIXELS_INVALID with the field that is wrong."""
        if not isinstance(value, Mapping):
            raise MirageError(Code.PIXELS_INVALID, field="value")
        unknown = set(value) - {"bits", "slope", "intercept", "unit", "windows"}
        _require(not unknown, "fields")
        windows = value.get("windows", [])
        _require(isinstance(windows, list | tuple) and len(windows) <= WINDOWS_MAX, "windows")
        return cls(
            bits=value.get("bits", 0),
            slope=_number(value.get("slope", 1.0), "slope"),
            intercept=_number(value.get("intercept", 0.0), "intercept"),
            unit=value.get("unit", ""),
            windows=tuple(_window(each) for each in windows),
        )


def _window(value: object) -> Window:
    if not isinstance(value, Mapping) or not set(value) <= {"name", "center", "width"}:
        raise MirageError(Code.PIXELS_INVALID, field="windows")
    return Window(
        value.get("name", ""), _number(value.get("center"), "windows"), _number(value.get("width"), "windows")
    )


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise MirageError(Code.PIXELS_INVALID, field=name)
    try:
        return float(value)
    except OverflowError as error:
        raise MirageError(Code.PIXELS_INVALID, field=name) from error


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and value.isprintable()


def _require(holds: bool, name: str) -> None:
    if not holds:
        raise MirageError(Code.PIXELS_INVALID, field=name)
