"""Text to tokens and back, as the bundle's tokenizer.json says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from mirage_core.errors import Code, MirageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_UNFINISHED = "\ufffd"


class LlmTokenizer:
    """A Hugging Face tokenizer.

    Raises BUNDLE_INVALID if the file is something else, or has ids beyond the vocabulary.
    """

    def __init__(self, path: Path, *, vocabulary: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} is no tokenizer") from error
        if max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0) >= vocabulary:
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has tokens that the decoder does not know")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, nothing added; special tokens written out in it (`### End`) become themselves."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def texts(self) -> list[str]:
        """Returns the text of each token after another one; empty for special tokens and parts of characters."""
        before = self.encode("a")
        start = self.decode(before)
        pairs = [[*before, token] for token in range(self._tokenizer.get_vocab_size(with_added_tokens=True))]
        whole: list[str] = self._tokenizer.decode_batch(pairs, skip_special_tokens=True)
        return ["" if _UNFINISHED in text else text.removeprefix(start) for text in whole]

    def id_of(self, token: str) -> int | None:
        """Returns the id of a token as it is written in the vocabulary, or None."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found


class TextStream:
    """The text of tokens that come one by one: never a part of a character."""

    def __init__(self, tokenizer: LlmTokenizer) -> None:
        self._tokenizer = tokenizer
        # Decoding again from the last break keeps this short, with one token before it: whether a space belongs in
        # front
        # of a token depends on what comes before.
        self._before: list[int] = []
        self._open: list[int] = []

    def push(self, token: int) -> str:
        """Returns the text that the token completes; empty while a character is incomplete."""
        self._open.append(token)
        text = self._pending()
        if text.endswith(_UNFINISHED):
            return ""
        self._before, self._open = self._open, []
        return text

    def finish(self) -> str:
        """Returns the rest, with replacement characters for incomplete ones."""
        text, self._open = self._pending(), []
        return text

    def _pending(self) -> str:
        return self._tokenizer.decode(self._before + self._open)[len(self._tokenizer.decode(self._before)) :]
