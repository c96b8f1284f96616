"""Texts to token ids, exactly as open_clip's tokenizers give them."""

import html
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import ftfy
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import TextInput

TokenArray: TypeAlias = npt.NDArray[np.int64]

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean_text(text: str, mode: Literal["lower", "whitespace", "canonicalize"]) -> str:
    """The text as open_clip cleans it before tokenising: Unicode repaired, HTML entities read, whitespace collapsed.

    "lower" also lower-cases, "canonicalize" also removes punctuation. Source: open_clip/tokenizer.py, `get_clean_fn`.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if mode == "canonicalize":
        text = text.replace("_", " ").translate(_PUNCTUATION)
    text = " ".join(text.split())
    return text if mode == "whitespace" else text.lower()


@dataclass(frozen=True)
class Tokens:
    """A text as the tower takes it: `ids` with start and end; `count` of them before any cut."""

    ids: tuple[int, ...]
    count: int

    @property
    def truncated(self) -> bool:
        """True if the end of the text was cut off."""
        return self.count > len(self.ids)


class TextTokenizer:
    """The tokenizer of a bundle. Thread-safe: it holds no state that a call changes."""

    def __init__(self, path: Path, text: TextInput) -> None:
        """Reads a Hugging Face `tokenizer.json`; raises BUNDLE_INVALID if it is something else."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise MirageError(Code.BUNDLE_INVALID, reason="tokenizer.json cannot be read") from error
        # A file may ask for either; a text is cut here, which is then reported, and filled up in its batch.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._text = text
        # CLIP's own tokenizer reads its two markers as one token each, also if a text spells them out.
        names = {token: self._tokenizer.id_to_token(token) for token in (text.start_id, text.end_id)}
        self._markers = {name: token for token, name in names.items() if name and text.cleaning == "lower"}

    def tokenize(self, text: str) -> Tokens:
        """Returns the tokens of one text; raises TERM_EMPTY if the cleaned text is empty."""
        cleaned = clean_text(text, self._text.cleaning)
        content = self._content(cleaned)
        if not content:
            raise MirageError(Code.TERM_EMPTY)
        room = self._text.context_length - 2
        return Tokens((self._text.start_id, *content[:room], self._text.end_id), len(content) + 2)

    def _content(self, cleaned: str) -> list[int]:
        if not any(marker in cleaned for marker in self._markers):
            ids: list[int] = self._tokenizer.encode(cleaned, add_special_tokens=False).ids
            return ids
        ids = []
        for piece, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(cleaned):
            if piece in self._markers:
                ids.append(self._markers[piece])
            else:
                ids.extend(token.id for token in self._tokenizer.model.tokenize(piece))
        return ids


def pad_batch(batch: list[tuple[int, ...]], pad_id: int) -> TokenArray:
    """int64 array of shape (texts, longest text): shorter ones are filled up behind their end."""
    out = np.full((len(batch), max(map(len, batch))), pad_id, dtype=np.int64)
    for row, ids in zip(out, batch, strict=True):
        row[: len(ids)] = ids
    return out
