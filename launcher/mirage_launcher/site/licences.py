"""The licences under which the images of a site may be copied."""

import re

# Licences that allow copies, as datasets write them, in lower case with hyphens. "not stated" allows nothing.
_OPEN = re.compile(
    r"cc0(-.*)?|cc-by(-(nc|nd|sa))*(-\d.*)?|cc-pddc|public-domain.*|pddl.*|odc-by.*|odbl.*|unlicense|0bsd|mit(-0)?|isc|zlib"
    r"|apache(-2\.0|-license-2\.0)?|bsd(-\d-clause)?|(a|l)?gpl.*|mni-icbm152|no-known-(copyright-)?restrictions"
)


def allows_copies(licence: str, told: frozenset[str] = frozenset()) -> bool:
    """True for a licence that is known to allow copies, or that the operator names in `told`."""
    return simple(licence) in told or _OPEN.fullmatch(simple(licence)) is not None


def simple(licence: str) -> str:
    """A licence's name in lower case, with hyphens between its words."""
    return re.sub(r"[\s_-]+", "-", licence.strip().lower())
