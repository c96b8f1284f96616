"""The facets: one lower-case vocabulary for all datasets."""

import re
from collections.abc import Mapping, Sequence

from mirage_core import limits
from mirage_core.errors import Code, MirageError

# In the order in which they are listed to users.
NAMES = ("modality", "plane", "body_part", "structure", "sequence", "finding", "side", "licence", "synthetic")

_CLOSED: dict[str, frozenset[str]] = {
    "modality": frozenset(
        {
            "x-ray",
            "ct",
            "mr",
            "us",
            "nm",
            "fundus",
            "oct",
            "histology",
            "microscopy",
            "dermoscopy",
            "endoscopy",
            "photo",
            "other",
        }
    ),
    "plane": frozenset({"axial", "coronal", "sagittal", "oblique", "frontal", "lateral"}),
}
_VALUE = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")
_FORM = f"takes lower-case values of 1 to {limits.FACET_CHARS} characters on one line"


def check_facets(facets: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Returns the facets of a record with sorted values, without repeats.

    Raises FACET_UNKNOWN for a name out of the vocabulary, FACET_VALUE_INVALID if a facet has no value, too many, or one
    that is not lower-case text of 1 to 64 characters (for `modality` and `plane`: not one of theirs).
    """
    return {_known_name(name): _checked(name, values) for name, values in facets.items()}


def check_where(where: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """A filter in the words of the vocabulary: names and values may come in any case, with any spaces.

    Raises as `check_facets`. A value that is well formed, but that no record has, is not an error: nothing is found.
    """
    found: dict[str, tuple[str, ...]] = {}
    for given, values in where.items():
        name = "_".join(given.lower().replace("-", " ").replace("_", " ").split())
        name = _known_name("licence" if name == "license" else name, given=given)
        found[name] = _checked(name, (*found.get(name, ()), *map(limits.facet_value, values)), quote=True)
    return found


def _known_name(name: str, *, given: str | None = None) -> str:
    if name not in NAMES:
        raise MirageError(Code.FACET_UNKNOWN, field=(name if given is None else given)[:64], known=", ".join(NAMES))
    return name


def _checked(name: str, values: Sequence[str], *, quote: bool = False) -> tuple[str, ...]:
    if not 1 <= len(values) <= limits.FACET_VALUES_MAX:
        reason = f"takes 1 to {limits.FACET_VALUES_MAX} values"
        raise MirageError(Code.FACET_VALUE_INVALID, field=name, reason=reason, max=limits.FACET_VALUES_MAX)
    for value in values:
        closed = _CLOSED.get(name)
        if closed and value not in closed:
            # The error quotes a filter's value, but not a record's: that may be about a person.
            what = _quoted(value) if quote else "of this name"
            reason = f"has no value {what}; known are: {', '.join(sorted(closed))}"
        elif _VALUE.fullmatch(value) is None or value != value.lower():
            reason = _FORM
        else:
            continue
        raise MirageError(Code.FACET_VALUE_INVALID, field=name, reason=reason, max=limits.FACET_VALUES_MAX)
    return tuple(sorted(set(values)))


def _quoted(value: str) -> str:
    return f'"{limits.facet_value(value)}"'
