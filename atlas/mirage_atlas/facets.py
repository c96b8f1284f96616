"""From the labels of a dataset, in its own words, to the one facet vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mirage_atlas.records import FACETS, Labels

VALUE_CHARACTERS = 1000
LABELS_MAX = 64
VALUES_MAX = 32

PERSONAL = frozenset(
    {"age", "sex", "gender", "patient", "patient_id", "patient_name", "name", "birth_date", "survival", "offset_days"}
)
"""Labels about a person: never kept, not even beside the facets."""

_MODALITIES: tuple[tuple[str, str], ...] = (
    (r"\bx-?rays?\b|\bradiograph|\bcr\b|\bdx\b|\bmammogra", "x-ray"),
    (r"\bcta?\b|\btomography\b", "ct"),
    (r"\bmra?\b|\bmri\b|\bmagnetic\b", "mr"),
    (r"\bus\b|\bultraso|\bsonogra|\bechocardio", "us"),
    (r"\bnm\b|\bscintigra|\bpet\b|\bspect\b|\bnuclear\b", "nm"),
    (r"\bfundus\b|\bretina", "fundus"),
    (r"\bhistolog|\bpatholog|\bmicroscop", "histology"),
)
_PLANES: tuple[tuple[str, str], ...] = (
    (r"\baxial\b|\btransverse\b", "axial"),
    (r"\bcoronal\b", "coronal"),
    (r"\bsagittal\b", "sagittal"),
    (r"\boblique\b", "oblique"),
    (r"\bfrontal\b|\bap\b|\bpa\b|\bap supine\b", "frontal"),
    (r"\blateral\b|^l$", "lateral"),
)
_SEQUENCES: tuple[tuple[str, str], ...] = (
    (r"\bflair\b", "flair"),
    (r"\bt1w?\b", "t1"),
    (r"\bt2w?\b(?!\*)", "t2"),
    (r"\bdwi\b|\bdiffusion\b", "dwi"),
    (r"\bgre\b|\bswi\b|\bswan\b|\bmpgr\b|t2\*", "t2*"),
)
_SIDES: tuple[tuple[str, str], ...] = ((r"\bleft\b", "left"), (r"\bright\b", "right"), (r"\bbilateral\b", "bilateral"))

_SOURCES: dict[str, tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = {
    "modality": (("modality", _MODALITIES), ("sequence", _SEQUENCES)),
    "type": (("modality", _MODALITIES),),
    "plane": (("plane", _PLANES),),
    "view": (("plane", _PLANES),),
    "sequence": (("sequence", _SEQUENCES),),
    "side": (("side", _SIDES),),
    "laterality": (("side", _SIDES),),
}
_BODY_PARTS: dict[str, str] = {
    "brain and neuro": "brain",
    "chest, pulmonary": "chest",
    "breast and mammography": "breast",
    "eye and orbit": "eye",
    "ophthalmology": "eye",
    "left blank": "",
    "generalized": "",
}
"""Words of known sources for a body part; empty where they name none."""

_VERBATIM: dict[str, str] = {
    "location": "body_part",
    "body_part": "body_part",
    "finding": "finding",
    "licence": "licence",
    "synthetic": "synthetic",
}
"""Labels whose words are taken as they are, in lower case."""


def map_labels(labels: object, original: object) -> tuple[Labels, dict[str, str]]:
    """Facets that a row's labels map to, and its labels in their own words; anything odd is left out, nothing is raised.

    A label that already has a facet's name and a value of that facet maps to itself. Labels about a person are dropped.
    """
    own = _words(original)
    facets: Labels = {}
    for name, values in _label_items(labels):
        key = name.lower()
        if key in PERSONAL:
            continue
        mapped = False
        for facet, rules in _SOURCES.get(key, ()):
            found = tuple(dict.fromkeys(value for text in values for value in _found(text, rules)))
            if found:
                facets[facet] = tuple(dict.fromkeys(facets.get(facet, ()) + found))
                mapped = True
        if key in _VERBATIM:
            words = tuple(_BODY_PARTS.get(text.lower(), text.lower()) for text in values)
            if any(words):
                facets[_VERBATIM[key]] = tuple(word for word in words if word)
            mapped = True
        if key == "side" and not mapped:
            facets["side"] = tuple(text.lower() for text in values)
        if not (mapped and key in FACETS and facets.get(key) == values):
            own.setdefault(name, "; ".join(values))
    return facets, own


def _found(text: str, rules: tuple[tuple[str, str], ...]) -> Iterable[str]:
    lower = text.lower()
    return (value for pattern, value in rules if re.search(pattern, lower))


def _label_items(labels: object) -> list[tuple[str, tuple[str, ...]]]:
    if not isinstance(labels, dict):
        return []
    items = []
    for name, value in list(labels.items())[:LABELS_MAX]:
        values = value if isinstance(value, list) else [value]
        texts = tuple(v.strip()[:VALUE_CHARACTERS] for v in values[:VALUES_MAX] if isinstance(v, str) and v.strip())
        if isinstance(name, str) and texts:
            items.append((name[:VALUE_CHARACTERS], texts))
    return items


def _words(original: object) -> dict[str, str]:
    return {name: "; ".join(values) for name, values in _label_items(original) if name.lower() not in PERSONAL}
