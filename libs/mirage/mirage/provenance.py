"""The origin of generated images, read out of their PNG files and compared."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from mirage.errors import InputError
from mirage.png import PngError, is_png, read_picture, texts
from mirage_api.provenance import AI_GENERATED, ASKED, Provenance


def read_provenance(data: bytes) -> Provenance | None:
    """Returns the provenance in a PNG file; None if the file is not a PNG, or does not say that a model made it.

    Raises InputError for a PNG that is cut off or damaged, and for a provenance that is incomplete, contradictory or
    impossible.
    """
    if not is_png(data):
        return None
    said: dict[str, set[str]] = {}
    try:
        for keyword, text in texts(data):
            said.setdefault(keyword, set()).add(text)
    except PngError as error:
        raise InputError(str(error)) from error
    if "true" not in said.get(AI_GENERATED, ()):
        return None
    values: dict[str, Any] = {}
    for field in fields(Provenance):
        found = said.get(field.name, set())
        if len(found) != 1:
            how = "says more than one" if found else "does not say its"
            raise InputError(f"the file {how} {field.name}")
        try:
            values[field.name] = _READ[field.type](found.pop())
        except ValueError as error:
            raise InputError(f"the file's {field.name} cannot be read") from error
    try:
        return Provenance(**values)
    except ValueError as error:
        raise InputError(f"the file's {error} cannot be right") from error


@dataclass(frozen=True)
class Difference:
    """Something that was not as before: its name, and both values."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class Comparison:
    """Two images made for one request: whether all pixels are the same, and what differed in their making."""

    same_pixels: bool
    differences: tuple[Difference, ...]

    @property
    def same_making(self) -> bool:
        """Returns True if the same bundle, engine and kind of processor made both: then the pixels must be the same."""
        return not self.differences


# Fields that may change the image of the same request.
_MAKING = ("fingerprint", "variant", "decoder", "engine", "threads", "cpu", "software")


def compare(first: bytes, second: bytes) -> Comparison:
    """Compares two PNG files with provenance, the second made from the request in the first.

    Pixels are the same if the digests are; if both files show the mark, or neither does, the pixels themselves are
    compared. Raises InputError for files without provenance, or made of different requests.
    """
    one, other = read_provenance(first), read_provenance(second)
    if one is None or other is None:
        raise InputError("the file does not say that a model made it, so there is nothing to repeat")
    for name in ASKED:
        if getattr(one, name) != getattr(other, name):
            raise InputError(f"the files were made of different requests: the {name} differs")
    same = one.pixels_sha256 == other.pixels_sha256
    if same and one.visible_mark == other.visible_mark:
        try:
            same = read_picture(first) == read_picture(second)
        except PngError as error:
            raise InputError(str(error)) from error
    differences = tuple(
        Difference(name, str(getattr(one, name)), str(getattr(other, name)))
        for name in _MAKING
        if getattr(one, name) != getattr(other, name)
    )
    return Comparison(same, differences)


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise ValueError(text[:40])
    return int(text)


def _number(text: str) -> float:
    if len(text) > 40:
        raise ValueError(text[:40])
    return float(text)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text[:40])
    return text == "true"


_READ: dict[object, Callable[[str], object]] = {str: str, int: _integer, float: _number, bool: _truth}
