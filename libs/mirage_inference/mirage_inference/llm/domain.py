"""Finds questions that are surely not about medicine.

Logistic regression on hashed words, word pairs and character n-grams, and on the words of `medical_words.txt`; its
weights (`domain_check.json`) are made by `mirage_training.trust.domain_check`. If the check is unsure, the question is
let through: a description is written from captions anyway, and it ends without a good match. Measured in
docs/evaluation.md.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mirage_inference.llm.glossary import fact_terms
from mirage_inference.llm.words import medical, near, of_other_topics, purely_medical, tokens

HASHED = 4096
DENSE = ("bias", "pure", "pure_share", "alike", "medical_share", "all_medical", "suffix", "unknown", "everyday", "short",
         "other", "other_share", "other_alone")  # fmt: skip
_GRAMS = (3, 4, 5)
_SUFFIX = re.compile(
    r"(?:itis|osis|oma|[aeiu]emia|emia|opathy|ectomy|plasty|ography|oscopy|algia|plegia|ectasia|uria|pnea|trophy|penia|cele|"
    r"plasia|megaly|rrhage|stenosis|sclerosis|ectopia|esthesia|phagia|genic|iasis|cocc\w*|bacill\w*|virus|ostomy|otomy)$"
)
_FILLER_WORDS = """a an and are can did do doe for from how i in is it me my of on or please pic picture image show tell the this
to u was what whats where which who why with you your example find explain about look like see"""
_FILLERS = frozenset(_FILLER_WORDS.split())
_CAPTION_CHARS = 2_000
_ALIKE_FROM = 6

Vector = npt.NDArray[np.float64]


class DomainCheck:
    """The check; `weights` are those of `domain_check.json`."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        if tuple(content["dense"]) != DENSE or len(content["weights"]) != HASHED + len(DENSE):
            raise ValueError("the weights were made for another check")
        self._weights = np.asarray(content["weights"], dtype=np.float64)
        self._decline_below = float(content["decline_below"])

    @classmethod
    def load(cls) -> DomainCheck:
        """The one that comes with the service."""
        return cls(json.loads(resources.files("mirage_inference.llm").joinpath("domain_check.json").read_text("utf-8")))

    def score(self, query: str) -> float:
        """Returns the probability that the question is medical, 0 to 1, if it resembles the training's questions."""
        logit = float(features(query) @ self._weights)
        return float(1.0 / (1.0 + np.exp(-np.clip(logit, -30, 30))))

    def lets_pass(self, query: str, captions: Sequence[str] = ()) -> bool:
        """Returns False for a question that is surely not about medicine.

        Always passes questions without words, in another script than Latin, with a purely medical word or two words of
        medicine unless as many are of other topics ("kidney bean chilli"), or whose words are mostly in the captions found.
        """
        words = words_of(query)
        if not words or not _latin(query) or self.score(query) >= self._decline_below:
            return True
        content = set(words) - _FILLERS
        named = content & (medical() | fact_terms())
        if (content & purely_medical() or len(named) > 1) and len(named) > len(content & of_other_topics()):
            return True
        found = content & {word for caption in captions for word in tokens(caption[:_CAPTION_CHARS])}
        return 2 * len(found) > len(content)


def words_of(query: str) -> list[str]:
    """The stems of a question without marks."""
    return [word for word in tokens(query) if word[0].isalnum()]


def features(query: str) -> Vector:
    """float64 [HASHED + len(DENSE)]: n-grams (length 1 together), then the measures of DENSE."""
    words = words_of(query)
    hashed = np.zeros(HASHED)
    for kind, grams in (("w", _word_grams(words)), ("c", _character_grams(words))):
        part = np.zeros(HASHED)
        for gram in grams:
            part[zlib.crc32(f"{kind}:{gram}".encode()) % HASHED] += 1.0
        length = float(np.linalg.norm(part))
        hashed += part / length if length else part
    return np.concatenate([hashed, _dense(words)])


def _dense(words: Sequence[str]) -> Vector:
    content = [word for word in words if word not in _FILLERS] or list(words)
    count = max(1, len(content))
    pure = [word for word in content if word in purely_medical()]
    known = [word for word in content if word in medical()]
    alike = [word for word in content if word not in medical() and _alike(word)]
    suffix = [word for word in content if len(word) > 6 and _SUFFIX.search(word)]
    other = [word for word in content if word in of_other_topics()]
    unknown = count - len({*known, *alike, *suffix})
    return np.array(
        [
            1.0,
            float(bool(pure)),
            len(pure) / count,
            len(alike) / count,
            len(known) / count,
            float(len(known) == len(content)),
            len(suffix) / count,
            min(unknown, 4) / 4,
            float(bool(known) and not pure),
            float(len(content) == 1 and len(content[0]) <= 4),
            float(bool(other)),
            len(other) / count,
            float(bool(other) and not pure),
        ]
    )


def _word_grams(words: Sequence[str]) -> Iterable[str]:
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))


def _character_grams(words: Sequence[str]) -> Iterable[str]:
    for word in words:
        framed = f"<{word}>"
        for size in _GRAMS:
            yield from (framed[start : start + size] for start in range(len(framed) - size + 1))


@cache
def _long_words() -> Mapping[str, tuple[str, ...]]:
    """Purely medical words by their first letter, for misspellings."""
    found: dict[str, list[str]] = {}
    for word in sorted(purely_medical()):
        if len(word) >= _ALIKE_FROM:
            found.setdefault(word[0], []).append(word)
    return {letter: tuple(words) for letter, words in found.items()}


@lru_cache(maxsize=4096)
def _alike(word: str) -> bool:
    """Returns True for a word that is one letter (two, if it is long) away from a medical one."""
    if len(word) < _ALIKE_FROM:
        return False
    most = 1 if len(word) < 9 else 2
    return any(
        abs(len(word) - len(other)) <= most and near(word, other, most) for other in _long_words().get(word[0], ())
    )


def _latin(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return bool(letters) and sum(unicodedata.name(c, "").startswith("LATIN") for c in letters) * 2 > len(letters)


MedicalCheck = Callable[[str, Sequence[str]], bool]
