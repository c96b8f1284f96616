"""Reads the comparable claims of a sentence or a caption: terms, denials, sides, sizes, opposites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice, pairwise, product, takewhile

from mirage_core import denials
from mirage_inference.llm import words as lists
from mirage_inference.llm.forms import compared, name_of, same_words


def _words(text: str) -> frozenset[str]:
    """The words of a text, each as it is and in the form in which it is compared."""
    return frozenset(form for word in text.split() for form in (word, name_of(word)))


def _forms(text: str) -> frozenset[str]:
    return frozenset(map(name_of, text.split()))


@cache
def vocabulary() -> Mapping[str, frozenset[str]]:
    """Returns the groups of medical_words.txt, in the form in which words are compared."""
    return {
        name: frozenset(form for word in group for form in (word, name_of(word)))
        for name, group in lists.vocabulary().items()
    }


_SPARING = _words("sparing spares")
_BEGINS = frozenset(["a", "an", "there", "it", "its", "this", "these", "both", "is", "are", "has", "show"])
_AS_DENIED = {"spared": "absent", "but": ";", **dict.fromkeys(("evident", "noted", "appreciated", "observed"), "seen")}
"""Words that deny, or end what is denied, as these do."""
_IDLE = _words("""
a about after all also an and any appear appearance are area as at be been being between both by can caption clear
clearly contain could demonstrate demonstrated demonstrating depict depicted describe described display do
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
next adjacent beside alongside come pass absent plain toward towards onto upon across within among off up down anatomic anatomical
form forming content component portion zone site spot aspect kind typical characteristic particular corresponding correspond
representing represent compatible diagnostic diagnosis diagnose evidence photo photograph frame panel obtain acquire perform
make do undergo receive exam examination investigation test however instead still already again moreover additional
additionally further furthermore together respectively throughout while exist find occur happen mark point denote label
highlight outline confirm prove exemplify lead intensity territory old age height where whose another time
include including remarkable significant formation change thing arrow arrowhead contrast had doe did
become develop let hold bear give serve visualize visualise via per depiction seem others else every very less quite rather
even am
""")
"""Words that say nothing about what is seen. `body` is one: "body of the lateral ventricle" keeps the other two."""
_IDLE |= same_words().idle | {"non"}
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
_IDLE |= _HEDGES
_CHANGING = _words(
    "removal resection excision removed resected history prior previous post resolution resolved repair "
    "mimicking simulating resembling"
)
"""Words after which a thing is not there, or not now: "resection of a glioma" does not show it."""
_RELATIONS = {
    "from": _words("from arise off out leave of in at within"),
    "into": _words("into in within reach infiltrate invasion enter toward towards to through inside drain insert onto"),
    "after": _words("after post following since later"),
    "before": _words("before pre prior preceding"),
}
"""Prepositions that change what a sentence says, and what in a caption bears them out before the same thing."""
_RELATION_REACH = 6
_AFTER_ENDS = _words(", ; . : ? ! ( ) and with show demonstrate reveal is are was were")
_LEVEL = re.compile(r"[ctls]\d{1,2}|[ivx]{2,5}")
_OPPOSITES: tuple[frozenset[str], ...] = tuple(
    _forms(group)
    for group in (
        "axial coronal sagittal",
        "t1 t2 flair dwi adc",
        "mr ct xray ultrasound scintigraphy histology endoscopy mammogram fundus pet",
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
        "increased decreased",
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
        "welldefined illdefined",
        "internal external",
        "contrastagent noncontrast",
        "lytic sclerotic",
        "smooth irregular",
        "smaller larger",
        "homogeneous heterogeneous",
        "red green blue yellow white black gray orange purple pink",
        "circle triangle square asterisk star",
    )
)
_SEQUENCES, _SIGNALS = _OPPOSITES[1], _OPPOSITES[3]
_VIEWS = 3
"""The first groups are of the whole image: planes, sequences, modalities."""
VIEWS = frozenset().union(*_OPPOSITES[:_VIEWS]) | _words(
    "man woman child newborn before transesophageal transthoracic transvaginal transabdominal endoscopic gadolinium "
    "intravenous simulated midline ap pa contrastagent noncontrast angiogram hrct panoramic doppler echocardiogram "
    "postoperative preoperative"
)
_MOVES = _words("displace displaced shift deviated reach project protrusion bulge push extend compressed grow course")
_SIDES = ("left", "right")
_PLACES: Mapping[str, tuple[int, ...]] = {
    word: tuple(number for number, group in enumerate(_OPPOSITES) if word in group)
    for word in _forms(
        "upper lower middle superior inferior anterior posterior medial lateral proximal distal internal external"
    )
}
_DEGREES: Mapping[str, tuple[int, ...]] = {
    word: tuple(number for number, group in enumerate(_OPPOSITES) if word in group)
    for word in _forms(
        "small large mild moderate severe smaller larger lytic sclerotic solid hyperintense hypointense isointense hyperechoic "
        "hypoechoic anechoic hyperdense hypodense isodense benign malignant acute chronic increased decreased true false "
        "diffuse focal welldefined illdefined homogeneous heterogeneous smooth irregular"
    )
}
_CLAUSE_ENDS = _words("but while whereas although however ; . : ? !")
_BETWEEN_PARTS = _CLAUSE_ENDS - {":"} | _words("compared than")
COMPARATIVES = _words(
    "smaller larger greater bigger higher thicker thinner longer shorter wider narrower brighter darker"
)
_BETWEEN = _BETWEEN_PARTS | _words("and with , :")
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
    """The claims of a text."""
    words = compared(text)
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


def _after(words: Sequence[str], place: int) -> frozenset[str]:
    """The first terms in a row after a word, within its clause."""
    found: list[str] = []
    for word in words[place + 1 : place + 1 + _RELATION_REACH]:
        if word in _AFTER_ENDS:
            break
        if _is_term(word):
            found.append(word)
    return frozenset(found)


def _split(words: Sequence[str], marks: frozenset[str]) -> tuple[frozenset[str], ...]:
    """The terms and sides between marks."""
    found: list[set[str]] = [set()]
    for word in words:
        if word in marks:
            found.append(set())
        elif _is_term(word) or word in _SIDES:
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
        elif _is_term(word):
            terms.add(word)


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
    asserted = other.terms - other.mixed
    if claim.terms & other.denied or (claim.denied and claim.denied <= asserted):
        return True
    for group in _OPPOSITES:
        said, known = group & claim.all_terms, group & other.all_terms
        if said - known and known - said:
            return True
    if _other_place(claim, other):
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


def other_number(claim: Claims, other: Claims) -> bool:
    """Returns True if a number of the claim is said of something else: "a duct of 96 mm and a vein of 110 mm"."""
    for numbers, terms in claim.measured:
        own = [len(terms & said) for known, said in other.measured if numbers & known]
        others = [len(terms & said) for known, said in other.measured if not numbers & known]
        if own and others and max(others) > max(own):
            return True
    return False


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


def _other_place(claim: Claims, other: Claims) -> bool:
    """Returns True if the other has the opposite word before a structure: "lateral condyle" and "medial condyle"."""
    known: dict[tuple[int, str], set[str]] = {}
    for number, word, noun in other.placed:
        known.setdefault((number, noun), set()).add(word)
    return any((number, noun) in known and word not in known[number, noun] for number, word, noun in claim.placed)


def _placed(words: Sequence[str]) -> Iterable[tuple[int, str, str]]:
    """Yields words for a place, by their group, with the structures right after them."""
    anatomy = vocabulary()["anatomy"]
    for place, word in enumerate(words):
        for number in _DEGREES.get(word, ()):
            yield from ((2 * number, word, noun) for noun in _row(words, place))
        if word in _MOVES:
            # "Displaced laterally", "shifted to the right".
            for noun in words[place + 1 : place + 2 + _REACH]:
                yield from ((2 * number, noun, word) for number in _PLACES.get(noun, ()))
        if word not in _PLACES:
            continue
        # "Posterior to the vagina" is another thing than "the posterior vagina".
        to = words[place + 1 : place + 2] == ["to"]
        for noun in words[place + 1 + to : place + 2 + to + _REACH]:
            if noun in anatomy and noun not in _PLACES:
                yield from ((2 * number + to, word, noun) for number in _PLACES[word])
            elif noun not in _PLACES and noun not in ("and", "or", ",", "the"):
                break


def _row(words: Sequence[str], place: int) -> Iterable[str]:
    """Yields the terms right after a word, without those of a degree or size."""
    for word in words[place + 1 : place + 1 + _REACH]:
        if not _is_term(word):
            return
        if word not in _DEGREES:
            yield word


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
    for place, (word, follows) in enumerate(pairwise(words)):
        # "No reflux, and a valve is seen".
        if word == "and" and follows in _BEGINS:
            said[place] = ";"
    alone = {
        place for place, (word, follows) in enumerate(pairwise(words), start=1) if word == "non" and _is_term(follows)
    }
    return denials.denied_places(said, is_term=_is_term, more=_SPARING) | alone


def _nouns_after(words: Sequence[str], place: int) -> list[str]:
    nouns: list[str] = []
    for word in words[place + 1 : place + 3 + _REACH]:
        if _is_term(word):
            nouns.append(word)
        elif not nouns or word not in ("of", "the"):
            break
    return nouns[:_REACH]


def _nouns_before(words: Sequence[str], place: int) -> list[str]:
    """The two terms before a side that no noun follows, within its clause."""
    clause = takewhile(lambda word: word not in ",;.:?!()" and word not in _SIDES, reversed(words[:place]))
    return list(islice((word for word in clause if _is_term(word)), 2))


_NO_TERMS = _IDLE | _COUNTS | frozenset(_SIDES)


@lru_cache(maxsize=16384)
def _is_term(word: str) -> bool:
    return word.isalnum() and not word[0].isdigit() and word not in _NO_TERMS and len(word) > 1
