"""Declines prompts that a generator's model cannot draw: it would draw something else without a word."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import Draws, GeneratorManifest
from mirage_inference.llm.domain import DomainCheck
from mirage_inference.llm.words import forms, known, near

_WORD = re.compile(r"[^\W_]+")
_CONTRACTED = re.compile(r"['’](?:s|m|d|ll|re|ve)\b")
_SIZE = re.compile(r"\d+(?:mm|cm)?|mm|cm")
_MISTYPED_FROM = 5
_NAMED_MAX = 5


class PromptCheck:
    """Checks prompts for one bundle: against what its manifest says it draws, else whether they are about medicine.

    `any_topic`: also accept prompts about other topics; it has no effect on what a manifest says.
    """

    def __init__(self, manifest: GeneratorManifest, *, any_topic: bool = False) -> None:
        self._draws = manifest.draws
        self._medical = None if self._draws or any_topic else DomainCheck.load()

    def check(self, prompt: str) -> None:
        """Raises PROMPT_OUTSIDE, which names the words that the model does not know, or PROMPT_NOT_MEDICAL."""
        if self._draws is not None:
            unknown = list(unknown_words(prompt, self._draws))
            if unknown:
                words = ", ".join(unknown[:_NAMED_MAX])
                raise MirageError(Code.PROMPT_OUTSIDE, field="prompt", about=self._draws.about, words=words)
        elif self._medical is not None and not self._medical.lets_pass(prompt):
            raise MirageError(Code.PROMPT_NOT_MEDICAL, field="prompt")


def unknown_words(prompt: str, draws: Draws) -> Iterator[str]:
    """Yields the words of a prompt that the model does not know, each once. Numbers and misspelt words are known."""
    text = _CONTRACTED.sub("", unicodedata.normalize("NFKC", prompt).casefold())
    words = dict.fromkeys(_WORD.findall(text))
    for word in words:
        found = _known_as(word, draws)
        needed = draws.only_with.get(found or "", ())
        if found is None or (needed and not any(other in words for other in needed)):
            yield word


def _known_as(word: str, draws: Draws) -> str | None:
    """Returns the word of the list that this one is, None if there is none; numbers are known as themselves."""
    if _SIZE.fullmatch(word):
        return word
    for form in forms(word):
        if form in draws.words:
            return form
    if len(word) < _MISTYPED_FROM or known(word):
        return None
    return next(
        (other for other in sorted(draws.words) if abs(len(word) - len(other)) <= 1 and near(word, other, 1)), None
    )
