"""The words that a collection's records use, and what a word that they do not use was meant to be."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from mirage_retriever.words.tokens import stem

# Shorter words have too many neighbours.
_SHORTEST = 5
_TWO_FROM = 9
_NEIGHBOURS = 20


class Vocabulary:
    """Words with the number of records that use each, of so many records."""

    def __init__(self, counts: Mapping[str, int] | None = None, records: int = 0) -> None:
        self._records = records
        self._counts = {word: count for word, count in (counts or {}).items() if word.isalpha()}
        self._words = list(self._counts)
        self.stems: Counter[str] = Counter()
        for word, count in (counts or {}).items():
            self.stems[stem(word)] += count

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, stem: str) -> bool:
        return stem in self.stems

    def rarity(self, stems: Sequence[str]) -> float:
        """Returns how much the rarest of these stems says (the engine's IDF); 0 if one of them is not used at all."""
        if not all(stem in self.stems for stem in stems):
            return 0.0
        counts = (min(self.stems[stem], self._records) for stem in stems)
        return max(log((self._records - count + 0.5) / (count + 0.5) + 1) for count in counts)

    def meant(self, word: str) -> str | None:
        """The word of the vocabulary that a misspelt one was meant to be; None if none is near, or several are as near.

        One edit away (a letter too many, too few, another, or two swapped), for words of 9 letters and more two. Of
        several at one distance the one that most records use wins, if it is used much more than the next.
        """
        if len(word) < _SHORTEST or not word.isalpha():
            return None
        limit = 2 if len(word) >= _TWO_FROM else 1
        near = extract(word, self._words, scorer=OSA.distance, score_cutoff=limit, limit=_NEIGHBOURS)
        by_stem: dict[str, tuple[int, int, str]] = {}
        for other, distance, _ in near:
            # People rarely get the first letter wrong; where they swap it with the second, the rest shows it.
            if other[0] != word[0] and (distance > 1 or len(word) < _TWO_FROM - 2):
                continue
            rank = (int(distance), -self._counts[other], other)
            by_stem[stem(other)] = min(rank, by_stem.get(stem(other), rank))
        best = sorted(by_stem.values())
        return best[0][2] if best else None
