"""Reads the comparable claims of a sentence or a caption: terms, denials, sides, sizes, opposites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise, takewhile

from mirage_core import denials
from mirage_inference.llm.forms import compared
from mirage_inference.llm.word_kinds import (
    CHANGING,
    COUNTS,
    DEGREES,
    HEDGES,
    PART_OPPOSITES,
    PLACES,
    SIDES,
    forms_of,
    is_finding,
    is_term,
    vocabulary,
)

_SPARING = forms_of("sparing spares")
_BEGINS = frozenset(["a", "an", "there", "it", "its", "this", "these", "both", "is", "are", "has", "show"])
_AS_DENIED = {"spared": "absent", "but": ";", **dict.fromkeys(("evident", "noted", "appreciated", "observed"), "seen")}
"""Words that deny, or end what is denied, as these do."""
_RELATIONS = {
    "from": forms_of("from arise off out leave of in at within"),
    "into": forms_of(
        "into in within reach infiltrate invasion enter toward towards to through inside drain insert onto"
    ),
    "after": forms_of("after post following since later"),
    "before": forms_of("before pre prior preceding"),
}
"""Prepositions that change what a sentence says, and what in a caption bears them out before the same thing."""
_RELATION_REACH = 6
_AFTER_ENDS = forms_of(", ; . : ? ! ( ) and with show demonstrate reveal is are was were")
_MOVES = forms_of("displace displaced shift deviated reach project protrusion bulge push extend compressed grow course")
_CLAUSE_ENDS = forms_of("but while whereas although however ; . : ? !")
_BETWEEN_PARTS = _CLAUSE_ENDS - {":"} | forms_of("compared than")
_BETWEEN = _BETWEEN_PARTS | forms_of("and with , :")
_REACH = 3
_REACH_NEAR = 2
_CHANGED_REACH = 6
_AFTER_REACH = 3


@dataclass(frozen=True)
class Claims:
    """`terms` are asserted and `denied` are not; `sided` are terms with the side that is said of them.

    `asked` are prepositions that change what is said, with the terms after them; `related` the terms after what bears
    such a preposition out; `placed` words for a place with the structure after them, by the number of their opposition;
    `measured` the numbers of each phrase that has some, with its terms. `sides` are all sides named, `sizes` all numbers
    with a unit, `counts` other numbers. `changed` are terms that are said only after a word that makes them uncertain or
    past, with those words ("?" for all uncertain ones); `marks` are all
    such words. `near` are the terms within reach of each, `nearest` the side that is named closest to each finding.
    """

    terms: frozenset[str]
    denied: frozenset[str]
    sided: frozenset[tuple[str, str]]
    sides: frozenset[str]
    sizes: frozenset[str]
    counts: frozenset[str]
    changed: Mapping[str, frozenset[str]]
    marks: frozenset[str]
    near: Mapping[str, frozenset[str]]
    nearest: Mapping[str, frozenset[str]]
    mixed: frozenset[str]
    phrases: tuple[frozenset[str], ...]
    parts: tuple[frozenset[str], ...]
    asked: tuple[tuple[str, frozenset[str]], ...]
    related: frozenset[tuple[str, str]]
    placed: frozenset[tuple[int, str, str]]
    measured: tuple[tuple[frozenset[str], frozenset[str]], ...]

    @property
    def all_terms(self) -> frozenset[str]:
        """Whatever is spoken of."""
        return self.terms | self.denied

    @property
    def empty(self) -> bool:
        """Returns True if nothing can be compared."""
        return not (self.all_terms or self.sides or self.sizes)


@lru_cache(maxsize=4096)
def read(text: str) -> Claims:
    """Returns the claims of a text."""
    words = compared(text)
    denied_at = denied_places(words)
    terms: set[str] = set()
    denied: set[str] = set()
    sided: set[tuple[str, str]] = set()
    for place, word in enumerate(words):
        if word in SIDES:
            # "the left kidney", and "a shift of the mediastinum to the left".
            sided |= {(word, noun) for noun in _nouns_after(words, place) or _nouns_before(words, place)}
        elif is_term(word):
            (denied if place in denied_at else terms).add(word)
    clauses = list(_clauses(words))
    sizes = frozenset(word for word in words if word[0].isdigit() and word.endswith("mm"))
    counts = frozenset(word for word in words if word in COUNTS or (word[0].isdigit() and not word.endswith("mm")))
    return Claims(
        frozenset(terms),
        frozenset(denied - terms),
        frozenset(sided),
        frozenset(word for word in words if word in SIDES),
        sizes,
        counts,
        _changed(words),
        (frozenset(map(_mark, words)) | ({"post"} if "after" in words else set())) - {""},
        _near(clauses),
        _nearest(clauses),
        frozenset(terms & denied),
        _split(words, _BETWEEN),
        _split(words, _BETWEEN_PARTS),
        tuple(
            (word, things)
            for place, word in enumerate(words)
            if word in _RELATIONS and (things := _after(words, place))
        ),
        frozenset(
            (name, thing)
            for place, word in enumerate(words)
            for name, others in _RELATIONS.items()
            if word in others
            for thing in _after(words, place)
        ),
        frozenset(_placed(words)),
        tuple(_measured(words)),
    )


def _changed(words: Sequence[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    plainly: set[str] = set()
    kind, until = "", 0
    for place, word in enumerate(words):
        if mark := _mark(word):
            kind, until = mark, place + (_AFTER_REACH if mark == "post" else _CHANGED_REACH)
        elif word in ".;:,":
            until = 0
        elif is_term(word):
            if place < until:
                found.setdefault(word, set()).add(kind)
            else:
                plainly.add(word)
    return {term: frozenset(kinds) for term, kinds in found.items() if term not in plainly}


def _mark(word: str) -> str:
    return "?" if word in HEDGES else word if word in CHANGING else ""


def _clauses(words: Sequence[str]) -> Iterable[list[str]]:
    """Yields the terms and sides of each clause."""
    clause: list[str] = []
    for word in (*words, "."):
        if word in _CLAUSE_ENDS:
            yield clause
            clause = []
        elif is_term(word) or word in SIDES:
            clause.append(word)


def _near(clauses: Sequence[Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """The terms that are at most `_REACH_NEAR` terms away from each term of an opposition."""
    found: dict[str, set[str]] = {}
    for clause in clauses:
        for place, term in enumerate(clause):
            if any(term in group for group in PART_OPPOSITES):
                around = clause[max(0, place - _REACH_NEAR) : place + _REACH_NEAR + 1]
                found.setdefault(term, set()).update(around)
    return {term: frozenset(around) for term, around in found.items()}


def _nearest(clauses: Sequence[Sequence[str]]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for clause in clauses:
        sides = [(place, word) for place, word in enumerate(clause) if word in SIDES]
        for place, term in enumerate(clause):
            if sides and is_finding(term):
                least = min(abs(place - other) for other, _ in sides)
                found.setdefault(term, set()).update(side for other, side in sides if abs(place - other) == least)
    return {term: frozenset(around) for term, around in found.items()}


def _after(words: Sequence[str], place: int) -> frozenset[str]:
    """The first terms in a row after a word, within its clause."""
    found: list[str] = []
    for word in words[place + 1 : place + 1 + _RELATION_REACH]:
        if word in _AFTER_ENDS:
            break
        if is_term(word):
            found.append(word)
    return frozenset(found)


def _split(words: Sequence[str], marks: frozenset[str]) -> tuple[frozenset[str], ...]:
    """The terms and sides between marks."""
    found: list[set[str]] = [set()]
    for word in words:
        if word in marks:
            found.append(set())
        elif is_term(word) or word in SIDES:
            found[-1].add(word)
    return tuple(frozenset(part) for part in found if part)


def _measured(words: Sequence[str]) -> Iterable[tuple[frozenset[str], frozenset[str]]]:
    numbers: set[str] = set()
    terms: set[str] = set()
    for word in (*words, "."):
        if word in _BETWEEN:
            if numbers:
                yield frozenset(numbers), frozenset(terms)
            numbers, terms = set(), set()
        elif word[0].isdigit():
            numbers.add(word)
        elif is_term(word):
            terms.add(word)


def _placed(words: Sequence[str]) -> Iterable[tuple[int, str, str]]:
    """Yields words for a place, by their group, with the structures right after them."""
    anatomy = vocabulary()["anatomy"]
    for place, word in enumerate(words):
        for number in DEGREES.get(word, ()):
            yield from ((2 * number, word, noun) for noun in _row(words, place))
        if word in _MOVES:
            # "Displaced laterally", "shifted to the right".
            for noun in words[place + 1 : place + 2 + _REACH]:
                yield from ((2 * number, noun, word) for number in PLACES.get(noun, ()))
        if word not in PLACES:
            continue
        # "Posterior to the vagina" is another thing than "the posterior vagina".
        to = words[place + 1 : place + 2] == ["to"]
        for noun in words[place + 1 + to : place + 2 + to + _REACH]:
            if noun in anatomy and noun not in PLACES:
                yield from ((2 * number + to, word, noun) for number in PLACES[word])
            elif noun not in PLACES and noun not in ("and", "or", ",", "the"):
                break


def _row(words: Sequence[str], place: int) -> Iterable[str]:
    """Yields the terms right after a word, without those of a degree or size."""
    for word in words[place + 1 : place + 1 + _REACH]:
        if not is_term(word):
            return
        if word not in DEGREES:
            yield word


def denied_places(words: Sequence[str]) -> frozenset[int]:
    """Returns the indices of the tokens that a text says are not there: "no effusion", "effusion is absent"."""
    # "The lower lobes are spared" is "sparing of the lower lobes".
    said = [_AS_DENIED.get(word, word) for word in words]
    for place, (word, follows) in enumerate(pairwise(words)):
        # "No reflux, and a valve is seen".
        if word == "and" and follows in _BEGINS:
            said[place] = ";"
    alone = {
        place for place, (word, follows) in enumerate(pairwise(words), start=1) if word == "non" and is_term(follows)
    }
    return denials.denied_places(said, is_term=is_term, more=_SPARING) | alone


def _nouns_after(words: Sequence[str], place: int) -> list[str]:
    nouns: list[str] = []
    for word in words[place + 1 : place + 3 + _REACH]:
        if is_term(word):
            nouns.append(word)
        elif not nouns or word not in ("of", "the"):
            break
    return nouns[:_REACH]


def _nouns_before(words: Sequence[str], place: int) -> list[str]:
    """The two terms before a side that no noun follows, within its clause."""
    clause = takewhile(lambda word: word not in ",;.:?!()" and word not in SIDES, reversed(words[:place]))
    return list(islice((word for word in clause if is_term(word)), 2))
