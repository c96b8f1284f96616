"""From the labels of a dataset, in its own words, to the one facet vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mirage_atlas.folder import cut, label_text, plain_text
from mirage_atlas.records import FACETS, Labels, LeftOut
from mirage_core.limits import facet_value
from mirage_core.people import is_about_person

LABELS_MAX = 56
"""Labels of a row in its own words; a server takes 64, and readers add some."""
VALUES_MAX = 32
LABEL_NAME_CHARACTERS = 200

_MODALITIES: tuple[tuple[str, str], ...] = (
    (r"\bx-?rays?\b|\bradiograph|\bcr\b|\bdx\b|\bmammogra", "x-ray"),
    (r"\bcta?\b|(?<!coherence )\btomography\b", "ct"),
    (r"\bmra?\b|\bmri\b|\bmagnetic\b", "mr"),
    (r"\bus\b|\bultraso|\bsonogra|\bechocardio", "us"),
    (r"\bnm\b|\bscintigra|\bpet\b|\bspect\b|\bnuclear\b", "nm"),
    (r"\bfundus\b|\bretina", "fundus"),
    (r"\bhistolog|\bpatholog", "histology"),
    # A microscope alone does not say that it shows tissue.
    (r"^(?!.*(?:histolog|patholog)).*\bmicroscop", "microscopy"),
    (r"\bdermo?scop|\bdermatoscop", "dermoscopy"),
    (r"\bendoscop|\bcolonoscop|\bgastroscop", "endoscopy"),
    (r"\boct\b|\boptical coherence\b", "oct"),
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
    "structure": "structure",
    "finding": "finding",
    "licence": "licence",
    "synthetic": "synthetic",
}
"""Labels whose words are taken as they are, in lower case."""


def map_labels(labels: object, original: object, left: LeftOut | None = None) -> tuple[Labels, dict[str, str]]:
    """Facets that a row's labels map to, and its labels in their own words; anything odd is left out, nothing is raised.

    A label that already has a facet's name and a value of that facet maps to itself. A value that is too long for a facet, or has
    a line break, is cut there and kept whole in its own words. Labels about a person are dropped and named in `left`.
    """
    left = LeftOut() if left is None else left
    own: dict[str, str] = {}
    for name, values in _label_items(original, left):
        _keep(own, name, values, left)
    facets: Labels = {}
    for name, values in _label_items(labels, left):
        key = name.lower()
        mapped = False
        for facet, rules in _SOURCES.get(key, ()):
            found = tuple(dict.fromkeys(value for text in values for value in _found(text, rules)))
            if found:
                facets[facet] = tuple(dict.fromkeys(facets.get(facet, ()) + found))
                mapped = True
        if key in _VERBATIM:
            words = facet_values(_BODY_PARTS.get(text.lower(), text) for text in values)
            if words:
                facets[_VERBATIM[key]] = words
            mapped = True
        if key == "side" and not mapped and (words := facet_values(values)):
            facets["side"] = words
        if not (mapped and key in FACETS and facets.get(key) == values):
            _keep(own, name, values, left)
    return facets, own


def _keep(own: dict[str, str], name: str, values: tuple[str, ...], left: LeftOut) -> None:
    """Adds a label in its own words, unless there is one of that name, or no room."""
    if name not in own and len(own) >= LABELS_MAX:
        left.add_beyond(name)
    else:
        own.setdefault(name, label_text("; ".join(values)))


def facet_values(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts as values of a facet: lower case, on one line, bounded, none empty, each once."""
    return tuple(dict.fromkeys(value for value in map(facet_value, texts) if value))


def _found(text: str, rules: tuple[tuple[str, str], ...]) -> Iterable[str]:
    lower = text.lower()
    return (value for pattern, value in rules if re.search(pattern, lower))


def _label_items(labels: object, left: LeftOut) -> list[tuple[str, tuple[str, ...]]]:
    """Names and texts of labels, those about a person left out."""
    if not isinstance(labels, dict):
        return []
    items = []
    for name, value in labels.items():
        shown = " ".join(plain_text(name).split()) if isinstance(name, str) else ""
        if not shown:
            continue
        if is_about_person(shown):
            left.add(shown)
            continue
        values = value if isinstance(value, list) else [value]
        texts = tuple(text for each in values[:VALUES_MAX] if (text := _text(each)))
        if texts:
            items.append((cut(shown, LABEL_NAME_CHARACTERS), texts))
    return items


def _text(value: object) -> str:
    """A label's value as text, or empty."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return plain_text(value).strip() if isinstance(value, str) else ""
