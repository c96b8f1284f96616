"""The places where a record says what was asked for."""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from mirage_core.denials import denied_spans
from mirage_retriever.records import Record
from mirage_retriever.words.documents import WEAK, texts
from mirage_retriever.words.tokens import Token, denied_stem, is_denied_stem, stem, tokens

Spans = dict[str, list[list[int]]]
# Between two words that belong together there are at most so many others.
_NEAR = 4
_SENTENCE_END = re.compile(r"[.;:!?](?=\s|$)|[\r\n]")
# Parts of the body whose name needs the word before: "pulmonary artery", "left ventricle".
_PARTS = """
    artery vein ventricle atrium nerve ligament muscle tendon lobe sinus duct gland node valve canal horn gyrus sulcus
"""
NAMED = frozenset(map(stem, _PARTS.split()))
# "left and right ventricles", "renal artery and vein": one word in between, joined by "and".
_COORDINATED = re.compile(
    r"[\s,]*(?:and|or|/|&)\s+(?:the\s+)?[^\s.;:,]+\s+|\s+[^\s.;:,]+,?\s+(?:and|or|/|&)\s+", re.IGNORECASE
)
# "abscess of the left brain" for "brain abscess".
_OF = re.compile(r"\s+(?:of|in|within|from|to|at|into|involving)\s+(?:[^\s.;:,]+\s+){0,2}", re.IGNORECASE)
# "Embolism, pulmonary" for "pulmonary embolism".
_INVERTED = re.compile(r",\s*")
_END = re.compile(r"\s*(?:$|[.,;()])")
# The words of so many texts of at most so many characters are kept: about 1 kB for a caption, at most 15 kB.
_TEXTS = 4096
_KEPT_CHARS = 2000


def tables() -> dict[str, object]:
    """Returns what says if words belong together, for the page of a static site: patterns mean the same in JavaScript."""
    return {
        "near": _NEAR,
        "named": sorted(NAMED),
        "sentence_end": _SENTENCE_END.pattern,
        "coordinated": _COORDINATED.pattern,
        "of": _OF.pattern,
        "inverted": _INVERTED.pattern,
        "end": _END.pattern,
    }


@dataclass(frozen=True)
class Way:
    """One way to say something: stems that stand anywhere in a record, or one after the other."""

    stems: tuple[str, ...]
    adjacent: bool = False


class Pair(NamedTuple):
    """Two things, by number, that belong together; a `name` is one of anatomy, which two words near each other do not make."""

    one: int
    other: int
    name: bool = False


@dataclass(frozen=True)
class Matched:
    """Spans in characters by path (documents.texts), and which things are said at all.

    `strongly`: which are said to be there outside of the history, expressions of several words as a whole. `apart` are pairs
    of things that belong together, each said strongly, and never next to each other.
    """

    spans: Spans
    said: tuple[bool, ...]
    strongly: tuple[bool, ...]
    apart: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class _Said:
    """The words of a text that are asked for. `whole` if it has no others; `denied` are the starts of words for what is not
    there.
    """

    text: str
    found: tuple[Token, ...]
    whole: bool
    denied: frozenset[int]

    @cached_property
    def stems(self) -> frozenset[str]:
        """The stems of the words."""
        return frozenset(token.stem for token in self.found)

    @cached_property
    def at(self) -> dict[tuple[int, str], Token]:
        """The words by position and stem."""
        return {(token.position, token.stem): token for token in self.found}

    @cached_property
    def by_stem(self) -> dict[str, list[Token]]:
        """The words of each stem, one of each position."""
        found = defaultdict(list)
        for (_, said_stem), token in self.at.items():
            found[said_stem].append(token)
        return found


@dataclass(frozen=True, slots=True)
class _Text:
    """The words of a text, kept small: `numbers` holds start, end, position and 1 for a compound, of each of the `stems`.

    A word for what is not there comes twice, the second time by its denied stem.
    """

    stems: tuple[str, ...]
    numbers: "array[int]"
    denied: frozenset[int]

    def saying(self, text: str, stems: Set[str]) -> _Said | None:
        """The words that are asked for by their stems, if there are any."""
        found = []
        whole = True
        for place, stem_ in enumerate(self.stems):
            if stem_ in stems:
                start, end, position, compound = self.numbers[4 * place : 4 * place + 4]
                found.append(Token(start, end, stem_, stem_, position, bool(compound)))
            elif whole and not is_denied_stem(stem_) and not self.numbers[4 * place + 3]:
                whole = False
        return _Said(text, tuple(found), whole, self.denied) if found else None


@lru_cache(_TEXTS)
def _read_once(text: str) -> _Text:
    words = tokens(text)
    denied = frozenset(start for start, _ in denied_spans(text))
    words += [token._replace(stem=denied_stem(token.stem)) for token in words if token.start in denied]
    numbers = array("i", (number for each in words for number in (each.start, each.end, each.position, each.compound)))
    return _Text(tuple(each.stem for each in words), numbers, denied)


def _read(text: str) -> _Text:
    """The words of a text. Results of one search are often among those of the next, so texts of usual length are kept."""
    return _read_once(text) if len(text) <= _KEPT_CHARS else _read_once.__wrapped__(text)


@dataclass
class _Thing:
    """The places outside of the history that say a thing: the first and last word of each, by path."""

    places: dict[str, list[tuple[Token, Token]]] = field(default_factory=lambda: defaultdict(list))


def find(record: Record, things: Sequence[Sequence[Way]], pairs: Iterable[Pair] = ()) -> Matched:
    """Looks for each thing, which is said where any of its ways is, and for pairs of things that belong together."""
    stems = {each for ways in things for way in ways for each in way.stems}
    there: dict[str, _Said] = {}
    for path, text in texts(record):
        if said_here := _read(text).saying(text, stems):
            there[path] = said_here
    everywhere = {token.stem for each in there.values() for token in each.found}
    marked: dict[str, set[tuple[int, int]]] = defaultdict(set)
    said = []
    strong = [_Thing() for _ in things]
    for thing, ways in zip(strong, things, strict=True):
        is_said = False
        for way in ways:
            anywhere = not way.adjacent or len(way.stems) == 1
            if not everywhere.issuperset(way.stems) and not anywhere:
                continue
            is_said |= anywhere and everywhere.issuperset(way.stems)
            for path, each in there.items():
                if each.stems.isdisjoint(way.stems):
                    continue
                if anywhere:
                    marked[path].update((token.start, token.end) for token in each.found if token.stem in way.stems)
                if not each.stems.issuperset(way.stems):
                    continue
                places = _adjacent(each, way.stems) if way.adjacent else list(_together(each, way.stems))
                is_said |= bool(places)
                if not anywhere:
                    marked[path].update((first.start, last.end) for first, last in places)
                if path != WEAK and (present := [place for place in places if _is_present(each, place[0])]):
                    thing.places[path] += present
        said.append(is_said)
    return Matched(
        {path: _merged(places) for path, places in marked.items() if places},
        tuple(said),
        tuple(bool(thing.places) for thing in strong),
        tuple(
            pair
            for pair in pairs
            if strong[pair.one].places
            and strong[pair.other].places
            and not _belong(there, strong[pair.one], strong[pair.other], pair.name)
        ),
    )


def _is_present(said: _Said, first: Token) -> bool:
    """False for what the text says is not there, unless that is what was asked for."""
    return first.start not in said.denied or is_denied_stem(first.stem)


def _adjacent(said: _Said, stems: Sequence[str]) -> list[tuple[Token, Token]]:
    """The first and last words of the places that say the stems one after the other, in one sentence."""
    places = []
    for first in said.by_stem.get(stems[0], ()):
        rest = [said.at.get((first.position + number, other)) for number, other in enumerate(stems)]
        if all(rest) and (last := rest[-1]) is not None and _in_one_sentence(said.text, first, last):
            places.append((first, last))
    return places


def _together(said: _Said, stems: Sequence[str]) -> Iterator[tuple[Token, Token]]:
    """The places that say the stems as one expression, also in another order: "abscess of the brain"."""
    yield from _adjacent(said, stems)
    if len(stems) == 2:
        for one in (token for token in said.found if token.stem == stems[0]):
            for other in (token for token in said.found if token.stem == stems[1]):
                if _is_expression(said.text, one, other):
                    yield min(one, other), max(one, other)
    elif len(stems) > 2:
        # Long expressions are hardly ever said by accident.
        for number, first in enumerate(said.found):
            near = [
                token
                for token in said.found[number:]
                if token.position - first.position < len(stems) + _NEAR and _in_one_sentence(said.text, first, token)
            ]
            if first.stem in stems and {token.stem for token in near}.issuperset(stems):
                yield first, near[-1]


def _is_expression(text: str, one: Token, other: Token) -> bool:
    if one.start < other.start:
        # "septic pulmonary emboli" for "septic emboli".
        if other.stem not in NAMED and other.position - one.position == 2 and _in_one_sentence(text, one, other):
            return True
        return _COORDINATED.fullmatch(text, one.end, other.start) is not None
    return _OF.fullmatch(text, other.end, one.start) is not None or (
        _INVERTED.fullmatch(text, other.end, one.start) is not None and _END.match(text, one.end) is not None
    )


def _belong(there: dict[str, _Said], one: _Thing, other: _Thing, is_name: bool) -> bool:
    """True if two things stand near each other in a sentence, or one of them is a whole text, such as a label.

    Those of a name stand as an expression.
    """
    if not is_name and any(there[path].whole for path in (*one.places, *other.places)):
        return True
    for path, places in one.places.items():
        text = there[path].text
        for first, last in places:
            for second, end in other.places.get(path, ()):
                if is_name:
                    follows = last.position + 1 == second.position and _in_one_sentence(text, last, second)
                    if follows or _is_expression(text, last, second):
                        return True
                    continue
                between = max(first.position, second.position) - min(last.position, end.position) - 1
                if between <= _NEAR and _in_one_sentence(text, *sorted((first, second))):
                    return True
    return False


def _in_one_sentence(text: str, first: Token, last: Token) -> bool:
    return _SENTENCE_END.search(text, first.end, max(first.end, last.start)) is None


def _merged(places: Iterable[tuple[int, int]]) -> list[list[int]]:
    merged: list[list[int]] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
