"""Favours, token by token, what continues the words of a caption, so that a small model copies whole clauses.

A token is favoured the more, the more of the last tokens precede it in a clause of a caption; brackets are not copied,
and no place is gone over twice in a sentence. While a sentence names its image ("The second image ..."), only that image's
caption counts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mirage_core.sentences import split_sentences

Logits: TypeAlias = npt.NDArray[np.float32]

LONGEST = 3
"""More tokens in a row do not count more."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_NAMED = re.compile(rf"\bthe ({'|'.join(_ORDINALS)}) image\b(?!.*[.!?]\s)", re.I | re.S)
_WORD = re.compile(r"[^\W\d_]+")
_ASIDE = re.compile(r"\s*[(\[{][^()\[\]{}]*[)\]}]")
_CLAUSE = re.compile(
    r"[;:]\s|,? (?:showing|shows?|showed|demonstrat(?:ing|es?|ed)|reveal(?:ing|s|ed)|depict(?:ing|s|ed))\b"
    r"|^(?:it shows|you see)\b",
    re.I,
)
_END = re.compile(r"[.!?]\s*$")


class Copying:
    """A text to copy, prepared for a tokenizer. `strength` is in nats for each token; `weak` words alone lead nowhere."""

    def __init__(
        self, encode: Callable[[str], Sequence[int]], texts: Sequence[str], weak: Collection[str], strength: float
    ) -> None:
        self._encode, self.texts, self.strength = encode, texts, strength
        self.weak = frozenset(
            token for token, text in enumerate(texts) if all(word in weak for word in _WORD.findall(text.lower()))
        )

    def begin(self, captions: Sequence[str]) -> CopiedText:
        """Returns the state of a new text about captions."""
        return CopiedText(self, [self._sequences(caption) for caption in captions])

    def _sequences(self, caption: str) -> list[list[int]]:
        found = []
        for sentence in split_sentences(_ASIDE.sub("", caption.strip())):
            for clause in _CLAUSE.split(sentence.text):
                text = clause.strip()
                # As it is written, and as it continues another sentence.
                found += [list(self._encode(f" {each}")) for each in {text, f"{text[:1].lower()}{text[1:]}"} if each]
        return found


class CopiedText:
    """The places in the captions that the text may go on at. Used by one thread at a time."""

    def __init__(self, copying: Copying, captions: Sequence[Sequence[Sequence[int]]]) -> None:
        self._copying = copying
        self._tokens: list[int] = []
        self._caption: list[int] = []
        self._places = defaultdict[int, list[int]](list)
        for number, sequences in enumerate(captions):
            for sequence in sequences:
                for token in (*sequence, -1):
                    self._places[token].append(len(self._tokens))
                    self._tokens.append(token)
                    self._caption.append(number)
        self._matched: dict[int, int] = {}
        self._gone = set[int]()
        self._weak = True
        self._text = ""

    def favour(self, logits: Logits) -> Logits:
        """Returns the logits [V] with those of tokens that go on with a caption raised."""
        named = _NAMED.search(self._text)
        only = _ORDINALS.index(named[1].lower()) if named else None
        best: dict[int, int] = {}
        for place, length in self._matched.items():
            token = self._tokens[place + 1] if place + 1 < len(self._tokens) else -1
            if (
                token >= 0
                and place + 1 not in self._gone
                and only in (None, self._caption[place])
                and (length > 1 or not self._weak)
            ):
                best[token] = max(best.get(token, 0), min(length, LONGEST))
        if not best:
            return logits
        raised = logits.copy()
        raised[list(best)] += np.float32(self._copying.strength) * np.array(list(best.values()), np.float32)
        return raised

    def push(self, token: int) -> None:
        """Notes the token that comes next."""
        before = self._matched
        self._matched = {place: before.get(place - 1, 0) + 1 for place in self._places.get(token, ())}
        self._weak = token in self._copying.weak
        self._text += self._copying.texts[token]
        self._gone = set() if _END.search(self._text) else self._gone | self._matched.keys()
