"""Splits a text into sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass

_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s)|\n+")
_WORD_BEFORE = re.compile(r"[\w.]+$")
_NUMBERING = re.compile(r"(?:\(?\d{1,2}[.)]|[-*•])$")
_ABBREVIATED = """approx al art ca cf dr eg e.g etc fig figs gen i.e ie inc incl lig max mr mrs ms nr pp prof ref refs resp sec sp
spp st viz vol vs"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_BEFORE_NUMBERS = ("no", "nos", "p")


@dataclass(frozen=True)
class Sentence:
    """A sentence and its place in the text: from `start` up to `end`, the first character after it (Unicode code
    points).
    """

    text: str
    start: int
    end: int


def split_sentences(text: str) -> tuple[Sentence, ...]:
    """Returns the sentences of a text, without the blanks between them; a rest without an end mark is one too.

    A full stop after an abbreviation ("e.g."), an initial ("J.") or a number that counts a list ("2."), inside a number
    ("3.5 mm") and before a lower-case word ends nothing; a line break always does. Once the next sentence has begun,
    a sentence no longer changes, so a text may be split while it grows.
    """
    found: list[Sentence] = []
    start = 0
    for match in _END.finditer(text):
        if match.start() >= start and _ends(text, start, match):
            _append(found, text, start, match.end())
            start = match.end()
    _append(found, text, start, len(text))
    return tuple(found)


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    if match[0].startswith("\n"):
        # A number or dash alone on its line belongs to the next one.
        return not _NUMBERING.fullmatch(text[start : match.start()].strip())
    if _NUMBERING.fullmatch(text[start : match.end()].strip()):
        return False
    rest = text[match.end() :].lstrip(" \t\r\f\v\u00a0")
    if not rest.strip() or rest.startswith("\n"):
        # The text ends here; a line break ends the sentence in any case.
        return bool(rest)
    if match[0][0] != ".":
        return True
    if rest.lstrip("\"'“‘([")[:1].islower():
        return False
    before = _WORD_BEFORE.search(text[start : match.start()])
    word = before[0] if before else ""
    initial = len(word) == 1 and word.isalpha() and word.isupper()
    if word.lower() in _BEFORE_NUMBERS:
        # Short for "number" only before one: "Is there a lesion? no. The brain ..." ends.
        return not rest[:1].isdigit()
    return word.lower() not in _ABBREVIATIONS and not initial


def _append(found: list[Sentence], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    inner = piece.strip()
    if inner:
        first = start + len(piece) - len(piece.lstrip())
        found.append(Sentence(inner, first, first + len(inner)))
