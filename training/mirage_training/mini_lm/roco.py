"""Captions of ROCO that may be learnt from: those under CC BY, CC BY-SA and CC0, without the articles that are held out.

ROCO's file is not a part of this project; `models/mini/lm/roco_pmcids.txt` lists the articles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mirage_atlas.demo.captions import choose
from mirage_inference.llm.learnt import caption_words
from mirage_training.mini_lm import clauses
from mirage_training.mini_lm.explanations import QUESTIONS, Example

LICENCES = ("CC BY", "CC BY-SA", "CC0")
HELD_OUT = 100
WORDS_MAX = 60
"""Longer captions are not learnt from: three of them with an answer would not fit."""
_NEAR = 150


@dataclass(frozen=True)
class Row:
    """A caption, the article that it is of, and ROCO's keywords."""

    id: str
    caption: str
    pmcid: str
    keywords: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        """The caption's words."""
        return frozenset(caption_words(self.caption))


def read(path: Path) -> list[Row]:
    """Returns the rows of ROCO's file whose licence allows learning from them; raises ValueError for another file."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            if row["licence"] in LICENCES:
                rows.append(Row(row["id"], row["caption"], row["pmcid"], tuple(row["keywords"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is not a row of ROCO's captions") from error
    if not rows:
        raise ValueError("no caption has a licence that allows it")
    return rows


def held_out(rows: Sequence[Row]) -> list[Row]:
    """Returns a row of each of the articles that are held out, chosen by a hash of their PMCIDs."""
    by_article = {row.pmcid: row for row in reversed(rows) if len(row.caption.split()) <= WORDS_MAX}
    chosen = sorted(by_article, key=lambda pmcid: hashlib.sha256(pmcid.encode()).digest())[:HELD_OUT]
    return [by_article[pmcid] for pmcid in chosen]


def learnt_from(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows of the other articles that rules find an answer for."""
    without = {row.pmcid for row in held_out(rows)}
    return [row for row in rows if row.pmcid not in without and len(row.caption.split()) <= WORDS_MAX]


def examples(rows: Sequence[Row], rng: np.random.Generator) -> Iterator[Example]:
    """Prompts of one to three captions, mostly alike as a search finds them, without end."""
    words = [row.words for row in rows]
    while True:
        count = int(rng.choice((1, 2, 3, 3, 3)))
        first = int(rng.integers(len(rows)))
        others = rng.integers(len(rows), size=_NEAR).tolist()
        if rng.random() < 0.7:
            others.sort(key=lambda other: -len(words[first] & words[other]) / max(1, len(words[first] | words[other])))
        chosen = [rows[each] for each in dict.fromkeys((first, *others))][:count]
        if made := composed(_query(chosen[0], rng), [row.caption for row in chosen]):
            yield made


def composed(query: str, captions: Sequence[str]) -> Example | None:
    """The example of a prompt: most about the first caption; None if rules find no sentence in it."""
    count = len(captions)
    said: list[str] = []
    for index, caption in enumerate(captions):
        found = clauses.sentences(caption, index, count, most=(4, 3, 3)[count - 1] if index == 0 else 2)
        if index == 0 and not found:
            return None
        said += found
    return Example(query, (), tuple(dict.fromkeys(said)), tuple(captions))


def _query(row: Row, rng: np.random.Generator) -> str:
    """Nothing, as for a record or a caption; words of the caption; or keywords."""
    kind = rng.random()
    if kind < 0.5:
        return ""
    if kind < 0.8:
        words = row.caption.split()
        start = int(rng.integers(len(words)))
        query = " ".join(words[start : start + int(rng.integers(1, 5))]).strip(".,;:()")
    else:
        query = " ".join(row.keywords[: int(rng.integers(1, 4))])
    return choose(rng, QUESTIONS).format(query) if rng.random() < 0.3 else query
