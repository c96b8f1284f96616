"""The facets: one lower-case vocabulary for all datasets."""

import re
from collections.abc import Mapping, Sequence

from mirage_core import limits
from mirage_core.errors import Code, MirageError

# In the order in which they are listed to users.
NAMES = ("modality", "plane", "body_part", "sequence", "finding", "side", "licence", "synthetic")

_CLOSED: dict[str, frozenset[str]] = {
    "modality": frozenset({"x-ray", "ct", "mr", "us", "nm", "fundus", "histology", "other"}),
    "plane": frozenset({"axial", "coronal", "sagittal", "oblique", "frontal", "lateral"}),
}
_VALUE = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,62}[^\s\x00-\x1f\x7f])?")


def check_facets(facets: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The facets with sorted values, none twice.

    Raises FACET_UNKNOWN for a name out of the vocabulary, FACET_VALUE_INVALID where a facet has no value, too many, or one
    that is not lower-case text of 1 to 64 characters (for `modality` and `plane`: not one of theirs).
    """
    checked: dict[str, tuple[str, ...]] = {}
    for name, values in facets.items():
        if name not in NAMES:
            raise MirageError(Code.FACET_UNKNOWN, field=name[:64], known=", ".join(NAMES))
        if not 1 <= len(values) <= limits.FACET_VALUES_MAX or not all(_valid(name, value) for value in values):
            raise MirageError(Code.FACET_VALUE_INVALID, field=name, max=limits.FACET_VALUES_MAX)
        checked[name] = tuple(sorted(set(values)))
    return checked


def _valid(name: str, value: str) -> bool:
    if closed := _CLOSED.get(name):
        return value in closed
    return _VALUE.fullmatch(value) is not None and value == value.lower()
