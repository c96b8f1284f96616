"""Prompts to token ids, exactly as the CLIP tokenizer of transformers gives them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import ftfy
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import PromptInput

TokenArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the text tower takes it: `ids` int64[1, context], filled up.

    `count` with both ends, before any cut.
    """

    ids: TokenArray
    count: int

    @property
    def truncated(self) -> bool:
        """True if the end of the prompt was cut off."""
        return self.count > int(self.ids.shape[1])


class PromptTokenizer:
    """The tokenizer of a bundle. Thread-safe: it holds no state that a call changes."""

    def __init__(self, path: Path, prompt: PromptInput) -> None:
        """Reads a Hugging Face `tokenizer.json`; raises BUNDLE_INVALID if it is something else."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise MirageError(Code.BUNDLE_INVALID, reason="tokenizer.json cannot be read") from error
        self._prompt = prompt
        markers = {self._tokenizer.id_to_token(token): token for token in (prompt.start_id, prompt.end_id)}
        self._markers = {name: token for name, token in markers.items() if name}
        self._split = re.compile("(" + "|".join(map(re.escape, sorted(self._markers))) + ")")

    def tokenize(self, text: str) -> PromptTokens:
        """The tokens of a prompt, which may be empty.

        As `CLIPTokenizer` of transformers: markers that a text spells out are read as markers, and the pieces between
        them are repaired by ftfy; spaces and case are in tokenizer.json.
        """
        content: list[int] = []
        for piece in self._split.split(text) if self._markers else [text]:
            if piece in self._markers:
                content.append(self._markers[piece])
            elif piece:
                content.extend(self._tokenizer.encode(ftfy.fix_text(piece), add_special_tokens=False).ids)
        prompt = self._prompt
        ids = np.full((1, prompt.context_length), prompt.pad_id, dtype=np.int64)
        kept = [prompt.start_id, *content[: prompt.context_length - 2], prompt.end_id]
        ids[0, : len(kept)] = kept
        return PromptTokens(ids, len(content) + 2)
