"""Puts as many captions into the prompt as the context holds, and lets nothing in them become a part of the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirage_core.sentences import split_sentences
from mirage_inference.llm.prompt import DOLLY, PromptFormat, prompt
from mirage_inference.llm.request import Caption

_SHORTEST = 16


class Tokenizing(Protocol):
    """The methods of a tokenizer that fitting uses."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens written out in it included."""
        ...


@dataclass(frozen=True)
class Fitted:
    """A prompt. `used` and `dropped` captions, best first; `shortened` where even the first alone had to be cut."""

    ids: tuple[int, ...]
    used: tuple[Caption, ...]
    dropped: tuple[Caption, ...]
    shortened: bool = False


class Fitter:
    """Makes prompts of at most `context_length` tokens together with the answer. `special` are the format's own
    tokens.
    """

    def __init__(
        self, tokenizer: Tokenizing, *, context_length: int, special: frozenset[int], form: PromptFormat = DOLLY
    ) -> None:
        self._tokenizer, self._special, self._form = tokenizer, special, form
        self._context_length = context_length
        self._skeleton = self._specials(tokenizer.encode(prompt("", ["", ""], form)))

    def room(self, max_tokens: int) -> int:
        """Returns the tokens left for the prompt with an answer of `max_tokens`, which gets at most half of a small
        context.
        """
        return self._context_length - min(max_tokens, self._context_length // 2)

    def fit(self, query: str, captions: Sequence[Caption], *, max_tokens: int) -> Fitted:
        """Drops whole captions from the end until the prompt fits.

        If the first alone does not fit, it is cut at the end of a sentence (or of a word). A query that fills the
        context is cut at the end of a word.
        """
        room = self.room(max_tokens)
        for count in range(self._likely(captions, room), 0, -1):
            ids = self._encode(query, [caption.text for caption in captions[:count]])
            if len(ids) <= room:
                return Fitted(tuple(ids), tuple(captions[:count]), tuple(captions[count:]))
        first, rest = captions[0], tuple(captions[1:])
        text = self._cut(query, first.text, room)
        while len(ids := self._encode(query, [text])) > room:
            query = query[: len(query) // 2].rpartition(" ")[0] or query[: len(query) // 2]
            text = self._cut(query, first.text, room)
        return Fitted(tuple(ids), (Caption(first.id, text),), rest, shortened=True)

    def _likely(self, captions: Sequence[Caption], room: int) -> int:
        """The most captions that may fit, each counted once: together they have hardly fewer tokens than one by one."""
        total = 0
        for count, caption in enumerate(captions):
            total += len(self._tokenizer.encode(caption.text))
            if total > room * 1.05 + _SHORTEST * (count + 1):
                return count
        return len(captions)

    def _cut(self, query: str, text: str, room: int) -> str:
        """The longest beginning of the text that fits, at least a few characters of it."""
        low, high = _SHORTEST, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self._encode(query, [text[:middle]])) <= room:
                low = middle
            else:
                high = middle - 1
        kept = text[:low]
        ends = [sentence.end for sentence in split_sentences(kept)[:-1]]
        if ends and ends[-1] >= low // 2:
            return kept[: ends[-1]]
        return kept.rpartition(" ")[0] or kept

    def _encode(self, query: str, captions: Sequence[str]) -> list[int]:
        ids = self._tokenizer.encode(prompt(query, captions, self._form))
        if self._specials(ids) == self._skeleton:
            return ids
        # The tokenizer has special tokens that the prompt format does not know: letters and digits cannot be one.
        return self._tokenizer.encode(prompt(_bare(query), [_bare(caption) for caption in captions], self._form))

    def _specials(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self._special]


def _bare(text: str) -> str:
    return "".join(c if c.isalnum() or c in " .,;:-+/%()=" else " " for c in text)
