"""Reviewed facts, which a description may state as general knowledge although no caption does."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from mirage_inference.llm.words import plain, tokens

TOPICS = ("finding", "anatomy", "contrast", "plane", "modality")
_FACTS_MAX = 5_000
_LINE_CHARS = 500
_TERM_WORDS = 6
_ABBREVIATION = 3


@dataclass(frozen=True)
class Fact:
    """A sentence and the terms that it is about; `topic` is one of TOPICS."""

    topic: str
    terms: tuple[str, ...]
    sentence: str


class Glossary:
    """Facts by their terms and words."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.facts = tuple(facts)
        self.words = frozenset(_words(" ".join(f"{fact.sentence} {' '.join(fact.terms)}" for fact in self.facts)))
        self._by_sentence = {_folded(fact.sentence): fact for fact in self.facts}
        self._by_term: dict[tuple[str, ...], list[tuple[str, Fact]]] = defaultdict(list)
        for fact in self.facts:
            for term in fact.terms:
                self._by_term[tuple(tokens(term))].append((term, fact))

    def stated(self, sentence: str) -> Fact | None:
        """Returns the fact that a sentence states in its own words, or None."""
        return self._by_sentence.get(_folded(sentence))

    def about(self, text: str) -> list[Fact]:
        """Returns the facts about terms that a text names, in the order of their first mention."""
        said = tokens(text)
        short = {word for word in re.findall(r"\w+", text) if word.isupper()}
        found: dict[Fact, int] = {}
        for place in range(len(said)):
            for length in range(1, _TERM_WORDS + 1):
                for term, fact in self._by_term.get(tuple(said[place : place + length]), ()):
                    # "us" and "pe" are terms only as abbreviations.
                    if len(term) > _ABBREVIATION or term.upper() in short or not term.isalpha():
                        found.setdefault(fact, place)
        return sorted(found, key=lambda fact: found[fact])


def parse(text: str) -> list[Fact]:
    """Returns the facts of a list: a line each, `topic | term; term | sentence`; lines with # are comments.

    Raises ValueError that names the line.
    """
    found: list[Fact] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        terms = tuple(term.strip() for term in parts[1].split(";")) if len(parts) == 3 else ()
        if (
            len(line) > _LINE_CHARS
            or parts[0] not in TOPICS
            or not all(terms)
            or not terms
            or not parts[2].isprintable()
        ):
            raise ValueError(
                f"line {number} is not `topic | term; term | sentence` with a topic of {', '.join(TOPICS)}"
            )
        if parts[2][-1:] not in (".", "!", "?"):
            raise ValueError(f"line {number}: the sentence has no end mark")
        found.append(Fact(parts[0], terms, parts[2]))
        if len(found) > _FACTS_MAX:
            raise ValueError(f"more than {_FACTS_MAX} facts")
    return found


@cache
def reviewed() -> tuple[Fact, ...]:
    """Returns the facts that come with MIRAGE."""
    return tuple(parse(resources.files("mirage_inference.llm").joinpath("glossary.en.txt").read_text("utf-8")))


@cache
def fact_terms() -> frozenset[str]:
    """Returns the stems of all terms of the reviewed facts, except those of one or two letters."""
    return frozenset(word for fact in reviewed() for term in fact.terms for word in tokens(term) if len(word) > 2)


def load(own: Path | None = None) -> Glossary:
    """Returns the facts that come with MIRAGE and those of a file; raises ValueError or OSError for the file."""
    return Glossary([*(parse(own.read_text("utf-8")) if own else ()), *reviewed()])


def _words(text: str) -> Sequence[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _folded(sentence: str) -> str:
    return plain(re.sub(r"\W+", " ", sentence)).strip()
