"""The facets: one lower-case vocabulary for all datasets."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import Engine, Filter

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


# Values that fewer records of the collection have are only named, if a facet has more than this many values.
_RARE = 3
_FEW = 10
# More than a facet is ever listed with.
_ALL_VALUES = 1_000


@dataclass(frozen=True)
class FacetCounts:
    """The values of a facet with the number of records that have each, and the rare ones, with that of all of them."""

    name: str
    values: tuple[tuple[str, int], ...]
    rare: tuple[str, ...] = ()
    rare_count: int = 0


async def count_facets(engine: Engine, among: Filter, limit: int) -> list[FacetCounts]:
    """The facets that have values under a filter, at most `limit` of each, in the vocabulary's order.

    A facet's own part of the filter does not count for it.
    """
    own = [name for name in NAMES if name in among.where or name in among.where_not]
    rest = [name for name in NAMES if name not in own]
    whole = bool(own)
    counted = await asyncio.gather(
        engine.facets(rest, among, _ALL_VALUES),
        *(engine.facets([name], _without(among, name), _ALL_VALUES) for name in own),
        *([engine.facets(NAMES, Filter(), _ALL_VALUES)] if whole else []),
    )
    everywhere = counted[-1]
    found = {name: values for part in (counted[:-1] if whole else counted) for name, values in part.items()}
    return [
        _folded(name, found[name], dict(everywhere[name]), among.where.get(name, ()), limit)
        for name in NAMES
        if found[name]
    ]


def _without(among: Filter, name: str) -> Filter:
    where, where_not = (
        {other: values for other, values in facets.items() if other != name}
        for facets in (among.where, among.where_not)
    )
    return replace(among, where=where, where_not=where_not)


def _folded(
    name: str, found: Sequence[tuple[str, int]], everywhere: Mapping[str, int], chosen: Sequence[str], limit: int
) -> FacetCounts:
    folds = len(everywhere) > _FEW
    rare = {value for value, _ in found if folds and everywhere.get(value, 0) < _RARE and value not in chosen}
    return FacetCounts(
        name,
        tuple((value, count) for value, count in found if value not in rare)[:limit],
        tuple(sorted(rare)),
        sum(count for value, count in found if value in rare),
    )


# Names for people of values that are not their own name with a capital letter.
_DISPLAY = {
    "modality": {
        "x-ray": "X-ray",
        "ct": "CT",
        "mr": "MR",
        "us": "Ultrasound",
        "nm": "Nuclear medicine",
        "oct": "OCT",
        "photo": "Photograph",
    },
    "licence": {"mit": "MIT", "public domain": "Public domain", "mni-icbm152": "MNI ICBM152"},
    "finding": {"none": "None"},
}
_CC = re.compile(r"cc0(?:-(?P<zero>[\d.]+))?|cc-(?P<terms>by(?:-nc|-nd|-sa)*)-(?P<version>[\d.]+)(?:-.*)?")
# Words that are written in capitals.
_CAPITALS = frozenset(
    {"ct", "mr", "mri", "cta", "mra", "pet", "us", "dwi", "adc", "flair", "stir", "swi", "pd", "mip", "bsd", "gre"}
)


def display_name(name: str, value: str) -> str:
    """Returns a value's name for people: "CT", "Abdomen and pelvis", "CC BY 4.0"."""
    if known := _DISPLAY.get(name, {}).get(value):
        return known
    if name == "licence" and (found := _CC.fullmatch(value.replace(" ", "-"))):
        if found["terms"]:
            return f"CC {found['terms'].upper()} {found['version']}"
        return f"CC0 {found['zero'] or ''}".strip()
    if name == "licence" and " " not in value:
        # Identifiers of SPDX: "apache-2.0", "bsd-3-clause".
        return " ".join(_word(word) for word in value.replace("-", " ").split())
    first, *rest = re.split(r"([\s/,-]+)", value.replace("_", " "))
    return "".join((_word(first), *(_word(word, capital=False) for word in rest)))


def _word(word: str, *, capital: bool = True) -> str:
    if word in _CAPITALS or re.fullmatch(r"[tcls]\d{1,2}w?", word):
        return word[:-1].upper() + word[-1] if word.endswith("w") and word[:-1] not in _CAPITALS else word.upper()
    return word[:1].upper() + word[1:] if capital else word


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
