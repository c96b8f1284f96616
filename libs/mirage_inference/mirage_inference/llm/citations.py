"""Finds the captions that support a sentence.

A caption supports a sentence if nothing in the two is opposed (plane, side, contrast, size, denials: see `conflicts`), and
if it says everything that the sentence says: each term, in the same or another form of the word or by a synonym. A
sentence that names its image ("The second image ...") needs the support of that caption, one about all images needs the
support of each. Measured in docs/evaluation.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from mirage_core.sentences import split_sentences
from mirage_inference.llm.conflicts import contested, opposed, other_number, unlike
from mirage_inference.llm.forms import implied, name_of
from mirage_inference.llm.overstating import overstates
from mirage_inference.llm.reading import Claims, read
from mirage_inference.llm.word_kinds import COMPARATIVES, VIEWS, decisive, states, vocabulary
from mirage_inference.llm.words import known, near

_ENDING_WORDS = """a age al ally ar ary ate ated ates ating ation c cation d e eal ed ement es ial ic ication ied ing ion is ity l
ly ment ned ning ous ious tous ence ent ance ant nce ncy nt te ition r red ring s sis ted tic ting um us y"""
_ENDINGS = frozenset(("", *_ENDING_WORDS.split()))
_ROOT = 4
_TYPO = 6


def _names(text: str) -> frozenset[str]:
    return frozenset(map(name_of, text.split()))


_GOES_ON = re.compile(
    r"(?:it|its|this|these|those|they|the (?:lesion|mass|tumou?r|nodule|finding)s?|"
    r"there (?:is|are) also|note|also|additionally|in addition)\b",
    re.I,
)
"""How a clause begins that speaks on about the one before it."""
_ANOTHER = re.compile(r"\b(?:another|other|second|third|further|different|additional)\b", re.I)
_THE = re.compile(r"the (\w+(?: \w+)?)", re.I)
_SHOWS = re.compile(r"\b(?:show|demonstrat|reveal|depict|illustrat|display|exhibit|identif|confirm)\w*", re.I)
_PROPERTIES = _names("""
    enhance calcified calcification border margin contour septated lobulated necrosis edema displaced compressed
    hyperintense hypointense hyperdense hypodense hyperechoic hypoechoic component homogeneous heterogeneous ring
    central peripheral wall increased decreased mass cavity shadow capsule diffuse focal irregular smooth
    """)
"""Words for how a finding looks: a clause that names nothing else speaks of the finding before it."""
_CONTENT = frozenset(("collection", "gas", "fluid"))
_THINGS = _names("""
    wall capsule cord space canal fossa duct branch trunk root fluid fat marrow stent tube catheter screw plate
    """)
_COMPARED = frozenset(("unchanged", "increase", "decrease"))
_CONJUNCTS = re.compile(
    r",?\s+(?:and|while|whereas|with|which|whose|where|but|accompanied by|together with|along with|in addition to)\s+"
    r"|,\s+(?!\d)",
    re.I,
)
_PARTS = re.compile(r";\s+|,? (?:and|but|while|whereas) (?=there (?:is|are)\b)", re.I)
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


def supporting(sentence: str, captions: Sequence[str]) -> list[int]:
    """Returns the indices of the captions that support a sentence, in their order; empty if none does.

    A sentence of several parts ("...; ...", "..., and there is ...") is supported if each part is.
    """
    known = [_read(caption) for caption in captions]
    if unnamed := _UNNAMED.fullmatch(sentence.strip()):
        return _without(read(unnamed[1]), known)
    found: set[int] = set()
    for part in _PARTS.split(sentence):
        supported = [index for index in _part(part, known) if not overstates(part, captions[index])]
        if not supported:
            return []
        found.update(supported)
    return sorted(found)


def _without(claim: Claims, captions: Sequence[_Caption]) -> list[int]:
    """All captions, for a sentence that says that none of them names something, and is right."""
    named = any(all(_stands_in(term, caption.whole.all_terms) for term in claim.terms) for caption in captions)
    return [] if named or not claim.terms else list(range(len(captions)))


@dataclass(frozen=True)
class _Caption:
    """The claims of a caption, of each of its clauses, and the words about the whole image."""

    whole: Claims
    clauses: tuple[Claims, ...]
    views: frozenset[str]


@lru_cache(maxsize=64)
def _read(caption: str) -> _Caption:
    # The same captions for each sentence of a description.
    clauses: list[str] = []
    context: set[str] = set()
    for sentence in split_sentences(caption):
        for clause in re.split(r";\s+|•", sentence.text):
            context |= _context(clause)
            if clauses and _goes_on(clause, clauses[-1]):
                clauses.append(f"{clauses[-1]} {clause}")
            else:
                clauses.append(clause)
    whole = read(caption)
    return _Caption(
        whole,
        tuple(map(read, clauses)),
        whole.terms & VIEWS | context | {term for term in whole.terms if term.startswith("yearold")},
    )


def _goes_on(clause: str, before: str) -> bool:
    """Returns True for a clause that speaks on about the one before it: "It ...", "The cyst ...", "No calcification."."""
    if _GOES_ON.match(clause):
        return True
    terms, earlier = read(clause).all_terms, read(before).all_terms
    if (found := _THE.match(clause)) and all(_stands_in(term, earlier) for term in read(found[1]).terms):
        return True
    groups = vocabulary()
    if terms & earlier & (groups["finding"] | groups["disease"] | _CONTENT) - _PROPERTIES and not _ANOTHER.search(
        clause
    ):
        return True
    kinds = VIEWS if terms.isdisjoint(_COMPARED) else frozenset[str]()
    named = terms & (groups["finding"] | groups["disease"] | groups["anatomy"] | kinds)
    # "Enhancement of the tectum" names another thing, even if it is in no list.
    return bool(terms or read(clause).sizes) and named <= _PROPERTIES and " of " not in clause


def _context(clause: str) -> frozenset[str]:
    """Returns what holds for the whole image: structures that a clause names with its kind, "CT of the chest shows ..."."""
    said = read(_SHOWS.split(clause, maxsplit=1)[0])
    if said.terms & VIEWS and not any(map(decisive, said.terms - VIEWS - vocabulary()["anatomy"])):
        return said.terms & (vocabulary()["anatomy"] | {"head"})
    return frozenset()


def _part(part: str, captions: Sequence[_Caption]) -> list[int]:
    named, every, rest = _subject(part, len(captions))
    claim = read(rest)
    if claim.empty or not named:
        return []
    found = [index for index in named if _supports(claim, captions[index]) or _sums_up(rest, claim, captions[index])]
    return found if not every or len(found) == len(named) else []


def _supports(claim: Claims, caption: _Caption) -> bool:
    whole = caption.whole
    if opposed(claim, whole) or unlike(claim, whole) or other_number(claim, whole) or not _related(claim, whole):
        return False
    denied = whole.denied | whole.mixed
    for term in claim.denied - {"focal"}:
        if not _stands_in(term, denied if decisive(term) else whole.all_terms):
            return False
    if claim.denied and not any(_stands_in(term, denied) for term in claim.denied):
        return False
    # Structures are listed over several clauses; a finding or a side belongs to one.
    one = not claim.terms <= _listed() or (claim.sides and len(whole.sides) > 1)
    clauses = caption.clauses if one else (whole,)
    return any(_says(claim, clause, caption) for clause in clauses)


def _sums_up(text: str, whole: Claims, caption: _Caption) -> bool:
    """Returns True for a sentence of several statements of which each is in a clause of its own."""
    pieces: list[str] = []
    for piece in _CONJUNCTS.split(text):
        if pieces and not _stands_alone(read(piece)):
            pieces[-1] += f" {piece}"
        else:
            pieces.append(piece)
    if len(pieces) > 1 and not _stands_alone(read(pieces[0])):
        pieces[:2] = [" ".join(pieces[:2])]
    if len(pieces) < 2 or opposed(whole, caption.whole) or unlike(whole, caption.whole):
        return False
    return all(_supports(read(piece), caption) for piece in pieces)


def _stands_alone(claim: Claims) -> bool:
    """Returns True for a piece of a sentence that names a finding or a structure and says something of it."""
    return len(claim.all_terms) > 1 and not _subjects().isdisjoint(claim.all_terms)


@cache
def _subjects() -> frozenset[str]:
    groups = vocabulary()
    return (groups["finding"] | groups["disease"] | groups["anatomy"] | _THINGS) - _PROPERTIES


def _related(claim: Claims, whole: Claims) -> bool:
    """Returns True if the caption bears out each preposition that changes what a claim says: "from the celiac axis"."""
    for relation, things in claim.asked:
        if not things.isdisjoint(VIEWS):
            continue
        related = frozenset(thing for name, thing in whole.related if name == relation)
        if not any(_stands_in(thing, related) for thing in things):
            return False
    return True


def _says(claim: Claims, clause: Claims, caption: _Caption) -> bool:
    """Returns True if one clause has all that a claim says, except what holds for the whole image."""
    sides = clause.sides if len(caption.whole.sides) > 1 else caption.whole.sides
    counts = clause.counts | ({"2"} if "bilateral" in clause.terms else set())
    if claim.sizes - clause.sizes or claim.counts - counts or claim.sides - sides:
        return False
    terms = clause.terms | caption.views
    if not _binds(claim, clause) or _joins(claim, clause.phrases):
        return False
    # "A nonenhancing center; enhancement of its margins".
    if any(_stands_in(term[3:], claim.terms) for term in clause.terms - claim.terms if re.match("non.{4}", term)):
        return False
    return all(_stands_in(term, terms) for term in claim.terms)


def _binds(claim: Claims, clause: Claims) -> bool:
    """Returns True if a clause that says of two opposites says of the claim's one, in one part, what the claim says."""
    opposites = contested(claim, clause)
    if opposites and not COMPARATIVES.isdisjoint(claim.terms):
        return False
    stated = claim.all_terms - vocabulary()["anatomy"] - VIEWS
    return all(
        any(said <= part and all(_stands_in(term, part) for term in stated) for part in clause.parts)
        for said in opposites
    )


def _joins(claim: Claims, phrases: Sequence[frozenset[str]]) -> bool:
    """Returns True if a claim moves what is said of one structure to another: "a small rectum and a dilated colon" does
    not support "a small colon".
    """
    places = {term for term in claim.terms if term in vocabulary()["anatomy"]}
    for phrase in phrases:
        others = [other for other in phrases if other is not phrase and other & places]
        said = {term for term in claim.terms & phrase if states(term) and not any(term in other for other in others)}
        own = phrase & vocabulary()["anatomy"]
        elsewhere = said and own and others and not any(_stands_in(place, claim.terms) for place in own)
        if elsewhere and all(any(map(states, other - claim.terms)) for other in others):
            return True
    return False


def _stands_in(term: str, terms: frozenset[str]) -> bool:
    if term in terms:
        return True
    # Adjective and noun of one thing: cerebellum and cerebellar, pleura and pleural.
    return any(_alike(term, other) or term in implied(other) or _mistyped(other, term) for other in terms)


@cache
def _listed() -> frozenset[str]:
    """Returns what a caption lists over several clauses: structures, and words about the whole image."""
    return frozenset(
        term
        for term in vocabulary()["anatomy"] | vocabulary()["imaging"] | VIEWS | {"head"}
        if not decisive(term) and term != "enhance"
    )


@lru_cache(maxsize=16384)
def _mistyped(word: str, term: str) -> bool:
    """Returns True if a long word that is in no list is one letter away from a listed term with the same first letter."""
    return len(word) >= _TYPO and word[0] == term[0] and known(term) and not known(word) and near(word, term, 1)


@lru_cache(maxsize=16384)
def _alike(term: str, other: str) -> bool:
    """Returns True for two forms of a word: cerebellum and cerebellar, enhancing and enhancement."""
    pairs = zip(term, other, strict=False)
    root = next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(term), len(other)))
    return root >= _ROOT and term[root:] in _ENDINGS and other[root:] in _ENDINGS


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
