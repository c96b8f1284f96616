"""Gives words that say the same one form, for the check of sentences: "hepatic" and "liver", "showed" and "show", "HCC".

The words are those of `same_words.txt`; regular English endings are taken off if what is left is an English word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from mirage_core import denials
from mirage_inference.llm.words import english, forms, medical, stem, tokens

_ROOT = 3
_GROWN = 18


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _age(found: re.Match[str]) -> str:
    """Returns "34-year-old" as one word, with "child" for a child."""
    years = int(found[1] or found[2] or found[3])
    return f" yearold{years} " + ("child " if years < _GROWN else "")


_ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
]


def _vertebra(found: re.Match[str]) -> str:
    """Returns "l4" for "fourth lumbar"."""
    return f"{'l' if found[2] else 't' if found[3] else 'c'}{_ORDINALS.index(found[1].lower()) + 1} "


_TEXT: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b(hypo|hyper|iso|non|pre)[-\u2010\u2011](?=[a-z]{3})", re.I), r"\1 "),
    # "21.3 x 17.2 mm" is "21.3 mm x 17.2 mm".
    (re.compile(r"(?<=\d)\s*[x×*]\s*(?=\d)", re.I), " x "),
    (re.compile(r"(\d)(?= (?:x|by) [\d.]+(?: (?:x|by) [\d.]+)?\s?-?(mm|cm)\b)", re.I), r"\1 \2"),
    (re.compile(r"(\d)[-\u2010\u2011](?=(?:mm|cm|millimet|centimet))", re.I), r"\1 "),
    (re.compile(r"\b(?:aged?|age of) (\d+)(?: years)?\b|\b(\d+)[- ]?(?:years?|yrs?)(?:[- ]old|(?: of)? age)\b"
                r"|\b(\d+)[- ]?y/?o\b", re.I), _age),
    (re.compile(r"\b(?:lt|(rt))\b\.?", re.I), lambda found: "right" if found[1] else "left"),
    (re.compile(r"\b(month|week|day)s?[- ]old\b", re.I), r"\1 child"),
    (re.compile(r"\bmarked (?=by|with)", re.I), ""),
    (re.compile(r"\bright after\b", re.I), "after"),
    (re.compile(r"\btriple\b", re.I), "three"),
    (re.compile(rf"\b({'|'.join(_ORDINALS)}) (?:(lumbar)|(thoracic)|(cervical)) (?=vertebra|body)", re.I), _vertebra),
    (re.compile(r"isation(s?)\b", re.I), r"ization\1"),
    (re.compile(r"\b(\d)[- ]?d(?:imensional)?\b", re.I), r" dim\1 "),
    (re.compile(r"\b(two|three)[- ]dimensional\b", re.I), r" dim\1 "),
    (re.compile(r"\b(?:on|to|in) the (?:(l)|r)(?=[ .,;)]|$)", re.I), lambda found: " left " if found[1] else " right "),
    (re.compile(r"\b(?:(3rd)|4th)(?= ventric)", re.I), lambda found: "third" if found[1] else "fourth"),
    (re.compile(r"\b(low|high|bright|dark|increased|decreased|reduced|elevated) (t[12])(?:[- ]weighted|w)? signal", re.I),
     r"\1 signal \2"),
    (re.compile(r"\b([a-z]{3,}o)[-\u2010\u2011](?=[a-z]{4})", re.I), r"\1"),
    (re.compile(r"\b(?:only )?one (?=lung|kidney|breast|eye|ovary|testi|hip|knee|hand|foot|leg|arm|side|hemi)", re.I),
     "unilateral "),
    (re.compile(r"\bpost[- ]?(?=contrast\b)", re.I), "after "),
    (re.compile(r"\bdevoid of\b|\bin the absence of\b", re.I), " without "),
    (re.compile(r"\b(uptake|flow|filling|involvement|enhancement) by\b", re.I), r"\1 in"),
)  # fmt: skip
_NUMBERS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
    "twelve": "12",
}  # fmt: skip
_KEPT = denials.NEGATORS | _words("""
    simulating simulated marked partly early only likely finding left well lower upper need shed hundred breed
    speed seen given sparing spares missing during visible present found identified visualized visualised
    demonstrated detected excluded denied evident noted appreciated observed spared
    """)
"""Words that look like forms of others, or that decide what a text denies."""
_LINKS = frozenset(["not", "no", "non", "without", "before", "after", "post", "pre", "following"])
_IRREGULAR = {
    "doe": "do", "passing": "pass", "passe": "pass", "lay": "lie", "lain": "lie", "lying": "lie", "saw": "see", "shown": "show",
    "grew": "grow", "ran": "run", "led": "lead", "came": "come", "began": "begin", "took": "take", "taken": "take",
    "held": "hold", "worse": "bad", "bent": "bend", "cut": "cut", "drawn": "draw", "arose": "arise", "arisen": "arise",
    "dimtwo": "dim2", "dimthree": "dim3", "women": "woman", "men": "man",
}  # fmt: skip


_METHOD = re.compile(r"(\w{3,})(graph(?:y|ic|ically)?|scop(?:ic|ically|y))")
"""Adjectives and adverbs of a method are its noun: angiography, arthroscopically."""
_PREFIX = re.compile(r"(supra|infra|retro|peri|para|intra|extra|inter|sub|pre|juxta|epi|endo)([a-z]{4,})")
_DIRECTIONS = {
    "supra": "superior", "infra": "inferior", "sub": "inferior", "retro": "posterior", "pre": "anterior", "peri": "encase",
}  # fmt: skip


@dataclass(frozen=True)
class SameWords:
    """`names` are what sequences of words are read as; `implied` what a word says besides itself;
    `idle` words say nothing about what is seen."""

    names: Mapping[tuple[str, ...], tuple[str, ...]]
    implied: Mapping[str, frozenset[str]]
    idle: frozenset[str]
    longest: int


def compared(text: str) -> list[str]:
    """Returns the tokens of a text in the form in which they are compared."""
    for pattern, to in _TEXT:
        text = pattern.sub(to, text)
    return named([base(word) for word in tokens(text)])


def named(words: Sequence[str]) -> list[str]:
    """Returns base forms with each sequence that has another name replaced by it, the longest first."""
    same = same_words()
    found: list[str] = []
    place = 0
    while place < len(words):
        for length in range(min(same.longest, len(words) - place), 0, -1):
            if (name := same.names.get(tuple(words[place : place + length]))) is not None:
                found += name
                place += length
                break
        else:
            found.append(words[place])
            place += 1
    return found


@lru_cache(maxsize=16384)
def base(word: str) -> str:
    """Returns the base form of a stem: "show" of "showed". Medical words and those that deny keep theirs."""
    if word in _KEPT:
        return word
    word = _NUMBERS.get(word, _IRREGULAR.get(word, word))
    if found := _METHOD.fullmatch(word):
        return found[1] + ("gram" if found[2].startswith("gra") else "scopy")
    if word in medical() or len(word) < 5 or not word.isalpha():
        return word
    if word.endswith(("ing", "ed", "ly")):
        for form in forms(word):
            if form not in (word, stem(word)) and len(form) >= _ROOT and form in english():
                return stem(form)
    return word


@cache
def same_words() -> SameWords:
    """Returns the words of `same_words.txt`."""
    text = resources.files("mirage_inference.llm").joinpath("same_words.txt").read_text("utf-8")
    return parse(text)


def parse(text: str) -> SameWords:
    """Reads lines `name | word; words`, `word > implied; implied` and `= idle words`; raises ValueError that names the line."""
    names: dict[tuple[str, ...], tuple[str, ...]] = {}
    implied: dict[str, frozenset[str]] = {}
    idle: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("= "):
            idle.update(base(word) for word in tokens(line[2:]))
            continue
        head, mark, rest = re.split(r"\s+([|>])\s+", line, maxsplit=1) if re.search(r"\s[|>]\s", line) else ("", "", "")
        first = tuple(map(base, tokens(head)))
        others = [tuple(map(base, tokens(other))) for other in rest.split(";")]
        if not first or not all(others):
            raise ValueError(f"line {number} is not `name | word; words` or `word > word; words`")
        if mark == ">":
            implied[" ".join(first)] = frozenset(word for other in others for word in other)
            continue
        # "node of lymph" as "lymph node".
        others += [(other[1], "of", other[0]) for other in others if len(other) == 2 and other[0] not in _LINKS]
        for other in others:
            if names.setdefault(other, first) != first:
                raise ValueError(f"line {number}: {' '.join(other)!r} has two names")
    return _closed(names, implied, frozenset(idle))


def _closed(
    names: Mapping[tuple[str, ...], tuple[str, ...]], implied: Mapping[str, frozenset[str]], idle: frozenset[str]
) -> SameWords:
    """The words with names of names followed, and implied words by their names."""

    def name(words: tuple[str, ...]) -> tuple[str, ...]:
        return names.get(words) or tuple(part for word in words for part in names.get((word,), (word,)))

    followed = {words: name(first) for words, first in names.items()}
    found: dict[str, frozenset[str]] = {}
    for word, others in implied.items():
        for part in followed.get((word,), (word,)):
            found[part] = found.get(part, frozenset()) | {each for other in others for each in name((other,))}
    return SameWords(followed, found, idle, max(map(len, followed)))


@lru_cache(maxsize=16384)
def name_of(word: str) -> str:
    """Returns the form in which a single word is compared, itself if it has several words."""
    name = same_words().names.get((base(word),), (base(word),))
    return name[0] if len(name) == 1 else word


@lru_cache(maxsize=16384)
def implied(word: str) -> frozenset[str]:
    """Returns what a compared word says besides itself."""
    listed = same_words().implied.get(word, frozenset())
    if (found := _PREFIX.fullmatch(word)) and (part := name_of(stem(found[2]))) in medical():
        return listed | {part, _DIRECTIONS.get(found[1], part)}
    return listed
