"""Reads the comparable claims of a sentence or a caption: terms, denials, sides, sizes, opposites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product, takewhile

from mirage_core import denials
from mirage_inference.llm.words import tokens, vocabulary


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SPARING = _words("sparing spares")
_AS_DENIED = {"spared": "absent", "but": ";", **dict.fromkeys(("evident", "noted", "appreciated", "observed"), "seen")}
"""Words that deny, or end what is denied, as these do."""
_IDLE = _words("""
a about after all also an and any appear appearance are area as at be been being between both by can caption clear
clearly contain contrast could demonstrate demonstrated demonstrating depict depicted describe described display do
each evident example figure finding follow for found from given has have here how i identified illustrate image in
indicate indicated into is it its itself just level like likely located may might more most much no none nor not note
noted of on one only or other our out over part patient picture plane position present presence region same scan see
seen section show showing shown side signal simulate simulated simulation slice so some such suggest that the their
them then there these they thing this those through to type under up us use used using very view visible visualised
visualized visualize was we weighted weighting were what when where which while who whole with within would you your
approximately around roughly cut lie near along measuring measure size sized diameter large- sized feature reveal affect
revealing revealed observed case student feet consistent appreciate appreciated sign keeping suggestive suggesting
way look involve involving gland matter system cast accompany accompanied
made taken detected displayed examined last either structure study name named body without but due because cause result produce
remain persist run underlying classic state stated stating mention mentioned description
""")
"""Words that say nothing about what is seen. `body` is one: "body of the lateral ventricle" keeps the other two."""
_COUNTS = _words("two three four five six seven eight nine ten multiple single")
_DECISIVE = _words("""
first second third fourth fifth upper lower middle superior inferior anterior posterior medial lateral proximal distal
dorsal ventral volar palmar plantar ascending descending sigmoid central peripheral apical basal subpleural submucosal
intramural subserosal mild moderate severe mildly moderately severely slight slightly marked markedly well poorly
acute subacute chronic complete incomplete partial completely partially displaced undisplaced intact preserved spared
normal abnormal enlarged thickened dilated narrowed tear rupture benign malignant increased decreased reduced solid
cystic open closed simple complex recent old bilateral unilateral internal external deep superficial early late high
low positive negative hyperintense hypointense hyperdense hypodense collateral cruciate well
""")
"""Words that a picture either bears out or not: where a caption lacks one, it does not support a sentence that has it."""
_HEDGES = _words(
    "possible possibly probable probably may might suspected suspicious question questionable versus vs concern differential "
    "could presumed presumably likely suggest suggesting suggestive suggests concerning worrisome suspect suspicion"
)
_CHANGING = _words(
    "removal resection excision removed resected history prior previous post resolution resolved repair "
    "mimicking simulating resembling"
)
"""Words after which a thing is not there, or not now: "resection of a glioma" does not show it."""
_LEVEL = re.compile(r"[ctls]\d{1,2}|[ivx]{2,5}")
_OPPOSITES: tuple[frozenset[str], ...] = tuple(
    _words(group)
    for group in (
        "axial coronal sagittal",
        "t1 t2 flair dwi adc",
        "mr ct xray ultrasound scintigraphy histology endoscopy mammogram angiogram fundus pet",
        "hyperintense hypointense isointense",
        "hyperechoic hypoechoic anechoic",
        "hyperdense hypodense isodense",
        "frontal parietal temporal occipital",
        "upper lower middle",
        "superior inferior",
        "anterior posterior",
        "medial lateral",
        "proximal distal",
        "dorsal ventral",
        "benign malignant",
        "acute chronic",
        "increased decreased reduced",
        "dilated narrowed",
        "dilatation narrowing",
        "artery vein",
        "male female man woman",
        "iiiventricle ivventricle",
        "genu splenium",
        "small large",
        "inner outer",
        "true false",
        "diffuse focal",
        "solid cystic",
        "normal abnormal enlarged",
        "intact tear rupture",
        "mild moderate severe",
        "unilateral bilateral",
        "cervical thoracic lumbar",
        "femur tibia fibula humerus radius ulna",
        "cyst abscess tumor hematoma",
    )
)
_SEQUENCES, _SIGNALS = _OPPOSITES[1], _OPPOSITES[3]
_VIEWS = 3
"""The first groups are of the whole image: planes, sequences, modalities."""
VIEWS = frozenset().union(*_OPPOSITES[:_VIEWS]) | _words("gadolinium intravenous simulated midline ap pa")
_SIDES = ("left", "right")
_CLAUSE_ENDS = _words("but while whereas although however ; . : ? !")
_BETWEEN_PARTS = _CLAUSE_ENDS - {":"} | _words("compared than")
COMPARATIVES = _words(
    "smaller larger greater bigger higher thicker thinner longer shorter wider narrower brighter darker"
)
_BETWEEN = _BETWEEN_PARTS | _words("and with , :")
_REACH = 3
_REACH_NEAR = 2
_CHANGED_REACH = 6


@dataclass(frozen=True)
class Claims:
    """`terms` are asserted and `denied` are not; `sided` are terms with the side that is said of them.

    `sides` are all sides named, `sizes` all numbers with a unit, `counts` other numbers. `changed` are terms that are
    said only after a word that makes them uncertain or past, with those words ("?" for all uncertain ones); `marks` are all
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

    @property
    def all_terms(self) -> frozenset[str]:
        """Whatever is spoken of."""
        return self.terms | self.denied

    @property
    def empty(self) -> bool:
        """Returns True if nothing can be compared."""
        return not (self.all_terms or self.sides or self.sizes)


def read(text: str | Sequence[str]) -> Claims:
    """The claims of a text, or of its tokens."""
    words = tokens(text) if isinstance(text, str) else list(text)
    denied_at = denied_places(words)
    terms: set[str] = set()
    denied: set[str] = set()
    sided: set[tuple[str, str]] = set()
    for place, word in enumerate(words):
        if word in _SIDES:
            # "the left kidney", and "a shift of the mediastinum to the left".
            sided |= {(word, noun) for noun in _nouns_after(words, place) or _nouns_before(words, place)}
        elif _is_term(word):
            (denied if place in denied_at else terms).add(word)
    clauses = list(_clauses(words))
    sizes = frozenset(word for word in words if word[0].isdigit() and word.endswith("mm"))
    counts = frozenset(word for word in words if word in _COUNTS or (word[0].isdigit() and not word.endswith("mm")))
    return Claims(
        frozenset(terms),
        frozenset(denied - terms),
        frozenset(sided),
        frozenset(word for word in words if word in _SIDES),
        sizes,
        counts,
        _changed(words),
        frozenset(map(_mark, words)) - {""},
        _near(clauses),
        _nearest(clauses),
        frozenset(terms & denied),
        _split(words, _BETWEEN),
        _split(words, _BETWEEN_PARTS),
    )


def _changed(words: Sequence[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    plainly: set[str] = set()
    kind, until = "", 0
    for place, word in enumerate(words):
        if mark := _mark(word):
            kind, until = mark, place + _CHANGED_REACH
        elif word in ".;:,":
            until = 0
        elif _is_term(word):
            if place < until:
                found.setdefault(word, set()).add(kind)
            else:
                plainly.add(word)
    return {term: frozenset(kinds) for term, kinds in found.items() if term not in plainly}


def _mark(word: str) -> str:
    return "?" if word in _HEDGES else word if word in _CHANGING else ""


def _clauses(words: Sequence[str]) -> Iterable[list[str]]:
    """Yields the terms and sides of each clause."""
    clause: list[str] = []
    for word in (*words, "."):
        if word in _CLAUSE_ENDS:
            yield clause
            clause = []
        elif _is_term(word) or word in _SIDES:
            clause.append(word)


def _near(clauses: Sequence[Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """The terms that are at most `_REACH_NEAR` terms away from each term of an opposition."""
    found: dict[str, set[str]] = {}
    for clause in clauses:
        for place, term in enumerate(clause):
            if any(term in group for group in _OPPOSITES[_VIEWS:]):
                around = clause[max(0, place - _REACH_NEAR) : place + _REACH_NEAR + 1]
                found.setdefault(term, set()).update(around)
    return {term: frozenset(around) for term, around in found.items()}


def _nearest(clauses: Sequence[Sequence[str]]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for clause in clauses:
        sides = [(place, word) for place, word in enumerate(clause) if word in _SIDES]
        for place, term in enumerate(clause):
            if sides and _is_finding(term):
                least = min(abs(place - other) for other, _ in sides)
                found.setdefault(term, set()).update(side for other, side in sides if abs(place - other) == least)
    return {term: frozenset(around) for term, around in found.items()}


def _split(words: Sequence[str], marks: frozenset[str]) -> tuple[frozenset[str], ...]:
    """The terms and sides between marks."""
    found: list[set[str]] = [set()]
    for word in words:
        if word in marks:
            found.append(set())
        elif _is_term(word) or word in _SIDES:
            found[-1].add(word)
    return tuple(frozenset(part) for part in found if part)


def _is_finding(term: str) -> bool:
    return term in vocabulary()["finding"] or term in vocabulary()["disease"]


def unlike(claim: Claims, other: Claims) -> bool:
    """Returns True if the claim says without reserve what the other says with one, or binds words otherwise."""
    for term in claim.terms & other.changed.keys():
        if not other.changed[term] & claim.marks:
            return True
    if any(not claim.sides & other.nearest[term] for term in claim.nearest.keys() & other.nearest.keys()):
        return True
    for group in _OPPOSITES[_VIEWS:]:
        if len(group & other.all_terms) > 1 and group & other.all_terms - claim.all_terms:
            # "a small cyst and a large mass" does not support "a large cyst".
            for term in group & claim.all_terms & other.near.keys():
                after = claim.near.get(term, frozenset()) - group
                if after and not after & other.near[term]:
                    return True
    return False


def opposed(claim: Claims, other: Claims) -> bool:
    """Returns True if single words show that both cannot be of the same picture."""
    if claim.terms & other.denied or claim.denied & (other.terms - other.mixed):
        return True
    for group in _OPPOSITES:
        said, known = group & claim.all_terms, group & other.all_terms
        if said - known and known - said:
            return True
    return _other_side(claim, other) or _other_signal(claim, other) or bool(claim.sizes - other.sizes and other.sizes)


def contested(claim: Claims, clause: Claims) -> list[frozenset[str]]:
    """Returns what a claim has of pairs of opposites of which the clause has another."""
    terms, known = claim.all_terms | claim.sides, clause.all_terms | clause.sides
    groups = (frozenset(_SIDES), *_OPPOSITES[_VIEWS:])
    return [group & terms for group in groups if group & terms and group & known - terms]


def states(term: str) -> bool:
    """Returns True for a term that says something of a structure: a finding, a size, a degree."""
    return _is_finding(term) or (term not in VIEWS and any(term in group for group in _OPPOSITES[_VIEWS:]))


def decisive(term: str) -> bool:
    """True for what decides whether a sentence is true: findings, diseases, where, how much, which level."""
    return term in _DECISIVE or _is_finding(term) or bool(_LEVEL.fullmatch(term))


def _other_side(claim: Claims, other: Claims) -> bool:
    known: dict[str, set[str]] = {}
    for side, noun in other.sided:
        known.setdefault(noun, set()).add(side)
    for side, noun in claim.sided:
        if noun in known and side not in known[noun]:
            return True
        # "right frontal lobe" is wrong if the caption has "right temporal lobe", even if it also mentions the frontal
        # lobe.
        if noun not in known and any(noun in group and group & known.keys() for group in _OPPOSITES):
            return True
    return bool(claim.sides - other.sides and other.sides)


def _other_signal(claim: Claims, other: Claims) -> bool:
    """Returns True if a sequence has another signal: "T1 hyperintense and T2 hypointense", and "hyperintense on T2"."""
    known: dict[str, set[str]] = {}
    for sequence, signal in _signals(other):
        known.setdefault(sequence, set()).add(signal)
    return any(sequence in known and signal not in known[sequence] for sequence, signal in _signals(claim))


def _signals(claims: Claims) -> Iterable[tuple[str, str]]:
    return (pair for phrase in claims.phrases for pair in product(phrase & _SEQUENCES, phrase & _SIGNALS))


def denied_places(words: Sequence[str]) -> frozenset[int]:
    """Returns the indices of the tokens that a text says are not there: "no effusion", "effusion is absent"."""
    # "The lower lobes are spared" is "sparing of the lower lobes".
    said = [_AS_DENIED.get(word, word) for word in words]
    return denials.denied_places(said, is_term=_is_term, more=_SPARING)


def _nouns_after(words: Sequence[str], place: int) -> list[str]:
    nouns: list[str] = []
    for word in words[place + 1 : place + 1 + _REACH]:
        if not _is_term(word):
            break
        nouns.append(word)
    return nouns


def _nouns_before(words: Sequence[str], place: int) -> list[str]:
    """The two terms before a side that no noun follows, within its clause."""
    clause = takewhile(lambda word: word not in ",;.:?!()" and word not in _SIDES, reversed(words[:place]))
    return list(islice((word for word in clause if _is_term(word)), 2))


def _is_term(word: str) -> bool:
    return (
        word.isalnum()
        and not word[0].isdigit()
        and word not in _IDLE | _COUNTS
        and word not in _SIDES
        and len(word) > 1
    )
