"""A query's words: what must be said, what must not, and in which other words it may be said."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mirage_core.denials import NEGATORS, denied_spans
from mirage_retriever.engines.base import Array, Condition
from mirage_retriever.words.documents import sparse, word_id
from mirage_retriever.words.matches import NAMED, Pair, Way
from mirage_retriever.words.synonyms import Expression, Stems, Synonyms, as_one, is_listed, stems_of
from mirage_retriever.words.tokens import FILLERS, Token, clean, denied_stem, tokens
from mirage_retriever.words.vocabulary import Vocabulary

# An expression that was not typed counts less than one that was.
_EXPANDED = 0.7
# Of the weight of an expression that was typed, what its words have where they do not follow each other.
_APART = 0.35
# More make a query slow and say nothing more.
_UNITS_MAX = 48
_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»", '"'))
# Words between which this stands are two things, not one expression.
APART_BY = re.compile(r"[,;:/&+()]|\b(?:and|or|with|without|versus|vs|plus|y|o|con|sin)\b", re.IGNORECASE)
# "no evidence of a mass" asks for no mass.
EMPTY = frozenset({"evidence", "sign", "signs", "focal", "definite", "any"})
# "z = -32 mm" and "T-score -2.5" are numbers below zero, not words that must not be said.
_BELOW_ZERO = r"\d+(?:[.,]\d+)?(?:[mc]m|ml|HU|hu)?(?![^\W_])"
_PARTS = re.compile(
    rf'(?:(?<=\s)|^)(?P<minus>-)?"(?P<phrase>[^"]*)"|(?:(?<=\s)|^)-(?!{_BELOW_ZERO})(?P<without>[^\W_][^\s"]*)'
)


@dataclass(frozen=True)
class Unit:
    """One thing that a query asks for: `text` as typed, its stems, and other expressions for it.

    `joined` if it follows the thing before as the next word of an expression.
    """

    text: str
    literal: tuple[Way, ...]
    others: tuple[Expression, ...] = ()
    weights: tuple[float, ...] = ()
    is_quoted: bool = False
    joined: bool = False

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways to say it."""
        return (*self.literal, *(Way(other.stems, adjacent=True) for other in self.others))


@dataclass(frozen=True)
class Corrected:
    """A word that was searched as another one."""

    given: str
    used: str


@dataclass(frozen=True)
class WordQuery:
    """A query in words. `text` is what is left for an encoder: without what must not be said, quotes and hidden characters."""

    text: str
    units: tuple[Unit, ...] = ()
    without: tuple[Way, ...] = ()
    corrected: tuple[Corrected, ...] = ()

    @property
    def condition(self) -> Condition:
        """The condition of a record that says everything."""
        return tuple(tuple(dict.fromkeys(map(_ids, unit.ways))) for unit in self.units)

    @property
    def any(self) -> Condition:
        """The condition of a record that says anything of it."""
        return (tuple((int(word),) for word in self.weights[0]),)

    @property
    def required(self) -> Condition:
        """The condition of every record, also of one that does not say everything: the phrases in quotes."""
        return tuple(tuple(map(_ids, unit.literal)) for unit in self.units if unit.is_quoted)

    @property
    def phrases(self) -> tuple[tuple[Way, ...], ...]:
        """The phrases in quotes, because engines know words only."""
        return tuple(unit.literal for unit in self.units if unit.is_quoted)

    @property
    def has_phrases(self) -> bool:
        """True if hits must be checked by their text."""
        ways = [*self.without, *(way for literal in self.phrases for way in literal)]
        return any(len(way.stems) > 1 for way in ways)

    @property
    def excluded(self) -> tuple[Condition, ...]:
        """The words that a record must not have; phrases are left to those who can read the text."""
        return tuple(((_ids(way),),) for way in self.without if len(way.stems) == 1)

    @property
    def weights(self) -> tuple[npt.NDArray[np.uint32], Array]:
        """The query as a sparse vector."""
        found: dict[str, float] = {}
        for unit in self.units:
            for way in unit.literal:
                _weigh(found, way.stems, 1.0, apart=_APART)
            for other, weight in zip(unit.others, unit.weights, strict=True):
                _weigh(found, other.stems, weight, apart=0.0)
        return sparse(found)

    @property
    def things(self) -> tuple[tuple[Way, ...], ...]:
        """All ways to say each unit."""
        return tuple(unit.ways for unit in self.units)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Units that belong together."""
        return tuple(
            Pair(number - 1, number, name=NAMED.issuperset(unit.literal[0].stems))
            for number, unit in enumerate(self.units)
            if unit.joined
        )


def _ids(way: Way) -> tuple[int, ...]:
    """The words by which a record may be known to say it: more may say them than say it, none less."""
    if way.adjacent and is_listed(way.stems):
        return (word_id(as_one(way.stems)),)
    return tuple(map(word_id, way.stems))


def _weigh(weights: dict[str, float], stems: Stems, weight: float, *, apart: float) -> None:
    """Adds an expression: one of our lists as a whole, its words alone for `apart` of that; any other by its words."""
    if is_listed(stems):
        weights[as_one(stems)] = max(weight, weights.get(as_one(stems), 0.0))
        weight *= apart
    for stem in stems if weight else ():
        weights[stem] = max(weight, weights.get(stem, 0.0))


def read_query(text: str, synonyms: Synonyms, vocabulary: Vocabulary) -> WordQuery:
    """A query as typed: words, "phrases" and -words without which it is meant.

    A word that no record and no list knows is read as the one of the collection that it is nearest to; not in quotes.
    """
    text = clean(text.translate(_QUOTES))
    units: list[Unit] = []
    without: list[Way] = []
    corrected: list[Corrected] = []
    shown: list[str] = []
    for piece, kind in _pieces(text):
        if kind == "plain":
            given = _Reader(synonyms, vocabulary)
            shown.append(given.read(piece))
            units += given.units
            corrected += given.corrected
        elif stems := stems_of(piece):
            if kind == "without":
                without.append(Way(stems, adjacent=True))
            else:
                shown.append(piece)
                units.append(Unit(piece, (Way(stems, adjacent=True),), is_quoted=True))
        elif kind == "phrase":
            shown.append(piece)
    seen: dict[tuple[Way, ...], Unit] = {}
    is_after = False
    for unit in units:
        if _is_filler(unit, synonyms) or unit.literal in seen:
            is_after = False
        else:
            seen[unit.literal] = replace(unit, joined=unit.joined and is_after)
            is_after = True
    return WordQuery(
        " ".join(" ".join(shown).split()),
        tuple(seen.values())[:_UNITS_MAX],
        tuple(dict.fromkeys(without)),
        tuple(corrected),
    )


def _denied(way: Way) -> Way:
    return replace(way, stems=tuple(map(denied_stem, way.stems)))


def _is_filler(unit: Unit, synonyms: Synonyms) -> bool:
    word = unit.text.lower()
    return word in FILLERS or word in synonyms.stops


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    start = 0
    for found in _PARTS.finditer(text):
        if found.start() > start:
            yield text[start : found.start()], "plain"
        if found["without"] is not None:
            yield found["without"], "without"
        else:
            yield found["phrase"], "without" if found["minus"] else "phrase"
        start = found.end()
    if start < len(text):
        yield text[start:], "plain"


class _Reader:
    """Reads a piece of plain words."""

    def __init__(self, synonyms: Synonyms, vocabulary: Vocabulary) -> None:
        self._synonyms = synonyms
        self._vocabulary = vocabulary
        self.units: list[Unit] = []
        self.corrected: list[Corrected] = []

    def read(self, text: str) -> str:
        """Adds the units of a text; returns it with corrections."""
        text = text.replace('"', " ")
        found = tokens(text)
        if not len(self._vocabulary):
            self._divide(text, found)
            return text
        known = self._synonyms.known
        for token in reversed(found):
            if token.compound or token.stem in self._vocabulary or token.stem in known or token.word in FILLERS:
                continue
            if (used := self._vocabulary.meant(token.word)) is not None:
                self.corrected.insert(0, Corrected(text[token.start : token.end], used))
                text = text[: token.start] + used + text[token.end :]
        self._divide(text, tokens(text) if self.corrected else found)
        return text

    def _divide(self, text: str, found: list[Token]) -> None:
        """Divides words into units: the longest expressions that the lists know, compounds, and single words."""
        words = [token for token in found if not token.compound]
        joined = {token.position: token for token in found if token.compound}
        denied = {start for start, _ in denied_spans(text)}
        start = 0
        while start < len(words):
            length = self._known(words, start)
            first, last = words[start], words[start + length - 1]
            if denied and length == 1 and (first.word in NEGATORS or (first.start in denied and first.word in EMPTY)):
                start += 1
                continue
            stems = tuple(token.stem for token in words[start : start + length])
            compound = joined.get(first.position)
            if length == 1 and compound is not None and start + 1 < len(words) and compound.end == words[start + 1].end:
                length, last = 2, words[start + 1]
                stems = (first.stem, last.stem)
            literal = [Way(stems, adjacent=False)]
            if compound is not None and compound.end <= last.end:
                literal = [Way((compound.stem,)), Way(stems, adjacent=True)] if length == 2 else literal
            others: dict[Stems, Expression] = {}
            for way in literal:
                for other in self._synonyms.others(way.stems):
                    if other.stems not in {each.stems for each in literal}:
                        others.setdefault(other.stems, other)
            typed, expanded = literal, tuple(others.values())
            if first.start in denied:
                typed = [_denied(way) for way in literal]
                expanded = tuple(replace(other, stems=_denied(Way(other.stems)).stems) for other in expanded)
            follows = start > 0 and APART_BY.search(text, words[start - 1].end, first.start) is None
            self.units.append(
                Unit(
                    text[first.start : last.end],
                    tuple(typed),
                    expanded,
                    tuple(self._weight(literal, other) for other in others),
                    joined=follows,
                )
            )
            start += length

    def _weight(self, literal: Sequence[Way], other: Stems) -> float:
        """Less than what was typed, also where the other expression is the rarer one, which the engine makes count more."""
        typed = max(self._vocabulary.rarity(way.stems) for way in literal)
        rarity = self._vocabulary.rarity(other)
        return _EXPANDED * (min(1.0, typed / rarity) if typed and rarity else 1.0)

    def _known(self, words: list[Token], start: int) -> int:
        for length in range(min(self._synonyms.longest, len(words) - start), 1, -1):
            if tuple(token.stem for token in words[start : start + length]) in self._synonyms:
                return length
        return 1
