"""The difference between the captions of two sides, stated by rules: what each side says and the other does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from mirage_inference.llm.checking import Block, Checked, Kind
from mirage_inference.llm.reading import read
from mirage_inference.llm.request import Caption
from mirage_inference.llm.words import stem, tokens, vocabulary

_NAMED_MAX = 5
_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "Modality": {
        "mr": "MRI",
        "ct": "CT",
        "xray": "X-ray",
        "ultrasound": "ultrasound",
        "scintigraphy": "nuclear medicine",
    },
    "Plane": {"axial": "axial", "coronal": "coronal", "sagittal": "sagittal"},
    "Sequence": {"t1": "T1", "t2": "T2", "flair": "FLAIR", "dwi": "DWI", "adc": "ADC"},
    "Signal": {"hyperintense": "hyperintense", "hypointense": "hypointense", "isointense": "isointense"},
    "Density": {"hyperdense": "hyperdense", "hypodense": "hypodense", "isodense": "isodense"},
    "Side": {"left": "left", "right": "right"},
}
_WORD = re.compile(r"[^\W_]+")

Said = Mapping[str, tuple[str, ...]]
"""Terms, with the ids of the captions that say them."""


def differences(one: Sequence[Caption], other: Sequence[Caption]) -> list[Checked]:
    """Returns sentences about what the captions of both sides say; empty if they say the same."""
    a, b = _said(one), _said(other)
    found = list(_by_attribute(a, b))
    denied = {side: _denied(captions) for side, captions in (("A", one), ("B", other))}
    groups = vocabulary()
    for kind, terms in (("Findings", groups["finding"] | groups["disease"]), ("Structures", groups["anatomy"])):
        terms = terms - groups["imaging"] - {word for words in _ATTRIBUTES.values() for word in words}
        for side, here, there, not_there, captions in (("A", a, b, denied["B"], one), ("B", b, a, denied["A"], other)):
            named = [term for term in here if term in terms and term not in there]
            for status, chosen in (
                ("not stated", [term for term in named if term not in not_there]),
                ("denied", [term for term in named if term in not_there]),
            ):
                if chosen := chosen[:_NAMED_MAX]:
                    words = ", ".join(_surface(term, captions) for term in chosen)
                    ids = dict.fromkeys(id_ for term in chosen for id_ in (*here[term], *not_there.get(term, ())))
                    others = "B" if side == "A" else "A"
                    found.append(_sentence(f"{kind} in {side}, {status} in {others}: {words}.", ids))
    return found


def _by_attribute(a: Said, b: Said) -> Iterator[Checked]:
    for name, words in _ATTRIBUTES.items():
        sides = [[word for word in words if word in said] for said in (a, b)]
        if sides[0] != sides[1]:
            values = [" and ".join(words[word] for word in side) if side else "not stated" for side in sides]
            ids = dict.fromkeys(
                id_ for side, said in zip(sides, (a, b), strict=True) for word in side for id_ in said[word]
            )
            yield _sentence(f"{name}: {values[0]} in A, {values[1]} in B.", ids)


def _sentence(text: str, ids: Mapping[str, None]) -> Checked:
    return Checked(text, Kind.CAPTION, Block.NONE, tuple(ids))


def _said(captions: Sequence[Caption]) -> Said:
    found: dict[str, tuple[str, ...]] = {}
    for caption in captions:
        claims = read(caption.text)
        asserted = claims.terms | claims.sides
        for term in dict.fromkeys(word for word in tokens(caption.text) if word in asserted):
            found[term] = (*found.get(term, ()), caption.id)
    return found


def _denied(captions: Sequence[Caption]) -> Said:
    found: dict[str, tuple[str, ...]] = {}
    for caption in captions:
        for term in read(caption.text).denied:
            found[term] = (*found.get(term, ()), caption.id)
    return found


def _surface(term: str, captions: Sequence[Caption]) -> str:
    """Returns a term as the captions write it."""
    words = (word for caption in captions for word in _WORD.findall(caption.text.lower()))
    return next((word for word in words if word == term or stem(word) == term), term)
