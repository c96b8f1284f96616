"""Measures how much captions are like those that a small llm learnt from: the share of known words, and perplexity."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

import numpy as np

from mirage_inference.llm.decoder import Decoder
from mirage_inference.llm.prompt import caption_line
from mirage_inference.llm.tokenizer import LlmTokenizer
from mirage_inference.llm.words import plain

_WORD = re.compile(r"[^\W\d_]{2,}")
_TOKENS_MAX = 512


def caption_words(text: str) -> list[str]:
    """Returns the words of a caption, in lower case and one spelling."""
    return _WORD.findall(plain(text))


def known_share(captions: Sequence[str], vocabulary: Collection[str]) -> float:
    """Returns the share of the captions' words that are in the vocabulary, 0 to 1; 1 without words."""
    words = [word for caption in captions for word in caption_words(caption)]
    return sum(word in vocabulary for word in words) / len(words) if words else 1.0


def perplexity(decoder: Decoder, tokenizer: LlmTokenizer, captions: Sequence[str]) -> float:
    """Returns the perplexity of captions as a prompt has them, of their first tokens; raises MODEL_FAILED."""
    lines = "\n".join(caption_line(number, caption) for number, caption in enumerate(captions, start=1))
    ids = tokenizer.encode(lines)[: min(_TOKENS_MAX, decoder.context_length)]
    if len(ids) < 2:
        return 1.0
    logits = decoder.open(capacity=len(ids)).score(ids)[:-1].astype(np.float64)
    peaks = logits.max(axis=1)
    totals = peaks + np.log(np.exp(logits - peaks[:, None]).sum(axis=1))
    return math.exp(float(np.mean(totals - logits[np.arange(len(ids) - 1), ids[1:]])))
