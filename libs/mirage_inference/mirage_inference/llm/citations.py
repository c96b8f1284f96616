"""Finds the captions that support a sentence.

A caption supports a sentence if nothing in the two is opposed (plane, side, contrast, size, denials: see `reading`),
and if the caption holds everything decisive (findings, degrees, places, numbers) and most of the rest. If the encoder
answers, the cosine of their vectors orders captions that support the sentence equally well; using it in the decision
did not cite better on the pairs that we wrote. A sentence that names its image ("The second image ...") needs the
support of that caption, one about all images needs the support of each. Rules and thresholds are tuned on some of those
pairs and measured on others: docs/evaluation.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mirage_inference.llm.reading import Claims, decisive, opposed, read, weight

COVERED = 0.7
COSINE_SHARE = 0.0
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5}
_NOUN = r"(?:images?|captions?|pictures?|scans?|figures?|sections?|slices?|radiographs?)"
_HOW_MANY = re.compile(rf"\b(?:two|three|four|several|some|\d{{1,2}})(?: of(?: the)?)? {_NOUN}\b", re.I)
_LIST = re.compile(rf"\b((?:{'|'.join(_ORDINALS)})(?:(?:, and |, | and )(?:{'|'.join(_ORDINALS)}))*)\s+{_NOUN}\b", re.I)
_NUMBERED = re.compile(rf"\b{_NOUN}\s+(\d{{1,2}}(?:(?:, and |, | and )\d{{1,2}})*)\b(?!\s*mm)", re.I)
_UNNAMED = re.compile(
    r"(?:none of the captions (?:names?|mentions?)|the captions? (?:does|do) not (?:name|mention)) (?:an? |the |any )?(.+)",
    re.I,
)
_ALL = re.compile(
    rf"\b(?:(?:all|both)(?: of)?(?: the)?(?: \w+)? {_NOUN}|n(?:one|either) of the {_NOUN}|each (?:of the )?{_NOUN})\b",
    re.I,
)


@dataclass(frozen=True)
class Thresholds:
    """`covered`: the share from which a caption supports a sentence.

    `cosine_share`: how much of it the cosine makes up.
    """

    covered: float = COVERED
    cosine_share: float = COSINE_SHARE


DEFAULT = Thresholds()


def supporting(
    sentence: str,
    captions: Sequence[str],
    cosines: Sequence[float] | None = None,
    *,
    thresholds: Thresholds = DEFAULT,
) -> list[int]:
    """Returns the indices of the captions that support a sentence, best first; empty if none does.

    A sentence of several parts ("...; ...") is supported if each part is. `cosines` has one value per caption,
    between its vector and the sentence's; None without an encoder.
    """
    known = [_read(caption) for caption in captions]
    if unnamed := _UNNAMED.fullmatch(sentence.strip()):
        return _without(read(unnamed[1]), known)
    found: dict[int, float] = {}
    for part in re.split(r";\s+", sentence):
        scores = _part(part, known, cosines, thresholds)
        if not scores:
            return []
        for index, score in scores.items():
            found[index] = max(found.get(index, 0.0), score)
    return sorted(found, key=lambda index: (-found[index], -cosines[index] if cosines is not None else 0.0, index))


def _without(claim: Claims, captions: Sequence[Claims]) -> list[int]:
    """All captions, for a sentence that says that none of them names something, and is right."""
    named = any(all(_stands_in(term, caption.all_terms) for term in claim.terms) for caption in captions)
    return [] if named or not claim.terms else list(range(len(captions)))


@lru_cache(maxsize=64)
def _read(caption: str) -> Claims:
    # The same captions for each sentence of a description.
    return read(caption)


def _part(
    part: str, captions: Sequence[Claims], cosines: Sequence[float] | None, thresholds: Thresholds
) -> dict[int, float]:
    named, every, rest = _subject(part, len(captions))
    claim = read(rest)
    if claim.empty or not named:
        return {}
    scores: dict[int, float] = {}
    for index in named:
        if opposed(claim, captions[index]) or _missing(claim, captions[index]):
            continue
        share = covered(claim, captions[index])
        if cosines is not None and thresholds.cosine_share:
            share += thresholds.cosine_share * (cosines[index] - share)
        scores[index] = share
    enough = {index: share for index, share in scores.items() if share >= thresholds.covered}
    if every:
        return enough if len(enough) == len(named) else {}
    return enough


def covered(claim: Claims, caption: Claims) -> float:
    """The weighted share of a claim's terms that a caption speaks of, 0 to 1."""
    total = sum(map(weight, claim.all_terms))
    if not total:
        return 1.0 if claim.sides or claim.sizes else 0.0
    return sum(weight(term) for term in claim.all_terms if _stands_in(term, caption.all_terms)) / total


def _stands_in(term: str, terms: frozenset[str]) -> bool:
    if term in terms:
        return True
    # Adjective and noun of one thing: cerebellum and cerebellar, pleura and pleural.
    return any(_alike(term, other) for other in terms)


def _alike(term: str, other: str) -> bool:
    shorter = min(len(term), len(other))
    return (
        shorter > 5 and abs(len(term) - len(other)) < 4 and term[: max(6, shorter - 3)] == other[: max(6, shorter - 3)]
    )


def _missing(claim: Claims, caption: Claims) -> bool:
    """Returns True if the claim has a side, a number, a denial or another decisive word that the caption lacks."""
    if claim.sizes - caption.sizes or claim.sides - caption.sides or claim.counts - caption.counts:
        return True
    if claim.denied - caption.all_terms - {"focal"}:
        return True
    return any(decisive(term) and not _stands_in(term, caption.terms) for term in claim.terms)


def _subject(part: str, count: int) -> tuple[list[int], bool, str]:
    """The captions that a part speaks of, whether of every one of them, and what it says without the words for them."""
    if found := _LIST.search(part):
        numbers = [_ORDINALS[word.lower()] for word in re.findall("|".join(_ORDINALS), found[1], re.I)]
    elif found := _NUMBERED.search(part):
        numbers = [int(word) - 1 for word in re.findall(r"\d+", found[1])]
    elif found := _ALL.search(part):
        words = "none" if found[0].lower().startswith("n") else ""
        return list(range(count)), True, f"{part[: found.start()]} {words} {part[found.end() :]}"
    else:
        return list(range(count)), False, _HOW_MANY.sub(" ", part)
    rest = f"{part[: found.start()]} {part[found.end() :]}"
    return (numbers, True, rest) if all(0 <= number < count for number in numbers) else ([], True, rest)
