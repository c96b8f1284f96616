"""Rules out, token by token, words that are neither in the captions nor in a closed list.

A word is a run of letters, in upper or lower case. A token is allowed if each word that it ends is known, and if the
word that it leaves open begins like a known one.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from string import ascii_lowercase
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.bool_]
Ids: TypeAlias = npt.NDArray[np.int64]

_WORD = re.compile(r"[^\W\d_]+")
_TOKEN = re.compile(r"([^\W\d_]*)(.*?)([^\W\d_]*)", re.S)
_OPEN_WORDS = 1024
"""Open words of which it is kept what may follow: most texts have the same few."""


class _Words:
    """Words in order, to find one or those that begin alike."""

    def __init__(self, words: Iterable[str]) -> None:
        self._sorted = sorted(set(words))

    def have(self, word: str) -> bool:
        place = bisect_left(self._sorted, word)
        return self._sorted[place : place + 1] == [word]

    def begin(self, start: str) -> bool:
        place = bisect_left(self._sorted, start)
        return place < len(self._sorted) and self._sorted[place].startswith(start)

    def ends(self, start: str) -> set[str]:
        """Returns what follows `start` in the words that begin so."""
        first, last = bisect_left(self._sorted, start), bisect_left(self._sorted, start + chr(sys.maxunicode))
        return {word[len(start) :] for word in self._sorted[first:last]}


class WordConstraint:
    """The closed list, prepared for a tokenizer. Safe to use from several threads.

    `texts` are those of the tokens, empty for what is never written; `vocabulary` is the length of the logits.
    `end_ids` end a text and are allowed wherever a word may end. With `letters`, a letter alone is a word too: T1, L4.
    """

    def __init__(
        self,
        texts: Sequence[str],
        words: Iterable[str],
        *,
        vocabulary: int,
        end_ids: Collection[int],
        letters: bool = True,
    ) -> None:
        starts, whole = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
        breaks = list(end_ids)
        self.parts: dict[int, tuple[str, str, str]] = {}
        for token, text in enumerate(texts):
            # Of marks that are not shown, no one would see that they end a word.
            if text and token not in end_ids and all(each.isprintable() or each.isspace() for each in text):
                first, rest, _ = self.parts[token] = _parts(text)
                (whole[first] if first and rest else starts[first] if first else breaks).append(token)
        # Tokens by the letters that continue a word, without and with something behind these.
        self._letters, self._whole = _arrays(starts), _arrays(whole)
        self.breaks = np.array(breaks, np.int64)
        self.words = self.listed((*(ascii_lowercase if letters else ""), *words))
        by_last = defaultdict[str, list[int]](list)
        self.rests = np.ones(vocabulary, bool)
        for token, (_, rest, last) in self.parts.items():
            known = all(map(self.words.have, _WORD.findall(rest)))
            if not known or (last and not self.words.begin(last)):
                self.rests[token] = False
                if known:
                    by_last[last].append(token)
        self.by_last = _arrays(by_last)
        self.following = lru_cache(_OPEN_WORDS)(partial(self.continuing, self.words))
        self.following("")

    def begin(self, captions: Iterable[str]) -> ConstrainedText:
        """Returns the constraint of a new text, which may also use the words of captions."""
        said = {word for caption in captions for word in _WORD.findall(caption.lower())}
        return ConstrainedText(self, self.listed(said))

    def listed(self, words: Iterable[str]) -> _Words:
        """Returns words of which each letter is a token, so that a word that was begun can be ended."""
        return _Words(word for word in words if all(letter in self._letters for letter in word))

    def continuing(self, words: _Words, open_word: str) -> Ids:
        """Returns the tokens that continue an open word towards one of the words, or to its end and beyond."""
        ends = words.ends(open_word)
        found = [self._whole[end] for end in ends & self._whole.keys()]
        if len(ends) > len(self._letters):
            found += [ids for start, ids in self._letters.items() if words.begin(open_word + start)]
        else:
            found += [self._letters[start] for start in _starts(ends) & self._letters.keys()]
        return np.concatenate(found) if found else np.zeros(0, np.int64)


class ConstrainedText:
    """The constraint of one text while it is written. Used by one thread at a time."""

    def __init__(self, constraint: WordConstraint, more: _Words) -> None:
        self._constraint, self._more = constraint, more
        # The rest of a token after its first letters is judged once, whatever word is open.
        self._rests = constraint.rests.copy()
        for start in _starts(more.ends("")) & constraint.by_last.keys():
            self._rests[constraint.by_last[start]] = True
        self._open = ""

    def allowed(self) -> Mask:
        """Returns the tokens that may come next, bool [V]."""
        constraint, word = self._constraint, self._open
        mask = np.zeros_like(self._rests)
        mask[constraint.following(word)] = True
        mask[constraint.continuing(self._more, word)] = True
        if not word or constraint.words.have(word) or self._more.have(word):
            mask[constraint.breaks] = True
        mask &= self._rests
        return mask

    def push(self, token: int) -> None:
        """Notes the token that comes next."""
        first, rest, last = self._constraint.parts[token]
        self._open = last if rest else self._open + first


def _parts(text: str) -> tuple[str, str, str]:
    """The letters that continue a word; what is behind these, if anything; and the letters that begin the next word."""
    before, rest, last = _TOKEN.fullmatch(text.lower()).groups()  # type: ignore[union-attr]  # it matches any text
    return before, rest, last


def _starts(words: Iterable[str]) -> set[str]:
    return {word[:length] for word in words for length in range(1, len(word) + 1)}


def _arrays(tokens: Mapping[str, Sequence[int]]) -> dict[str, Ids]:
    return {text: np.array(ids, np.int64) for text, ids in tokens.items()}
