"""An answer without a model: sentences taken from the captions, each with its source."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirage_core.sentences import split_sentences

SENTENCES_MAX = 6
_A_CAPTION = 2
_CHARS_MAX = 400
_READ_CHARS = 4_000
_WORD = re.compile(r"\w+")
_BLANKS = re.compile(r"\s+")


def extract(captions: Sequence[tuple[str, str]], *, query: str = "") -> list[tuple[str, tuple[str, ...]]]:
    """Returns at most `SENTENCES_MAX` sentences of the captions, each with the ids of the captions that have it.

    `captions` are (id, text), best first. Of each (its first 4,000 characters) the first sentence and the one that shares
    most words with the query; of a very long sentence the beginning. A sentence of several captions is used once. Except
    for the final full stop, every word is from a caption.
    """
    chosen: dict[str, list[str]] = {}
    for record, caption in captions:
        for sentence in _best(caption, query):
            ids = chosen.setdefault(sentence, [])
            if record not in ids:
                ids.append(record)
    return [(sentence, tuple(ids)) for sentence, ids in list(chosen.items())[:SENTENCES_MAX]]


def _best(caption: str, query: str) -> list[str]:
    shown = (c if c.isprintable() or c.isspace() else " " for c in caption[:_READ_CHARS])
    line = _BLANKS.sub(" ", "".join(shown)).strip()
    sentences = [sentence.text for sentence in split_sentences(line)]
    asked = set(_WORD.findall(query.lower()))
    shared = [len(asked & set(_WORD.findall(sentence.lower()))) for sentence in sentences]
    order = sorted(range(1, len(sentences)), key=lambda i: -shared[i])[: _A_CAPTION - 1]
    return [_finished(sentences[i]) for i in sorted({0, *(i for i in order if shared[i])} if sentences else ())]


def _finished(sentence: str) -> str:
    if len(sentence) > _CHARS_MAX:
        return (
            sentence[:_CHARS_MAX].rpartition(" ")[0].rstrip(",;: ") + " …"
            if " " in sentence[:_CHARS_MAX]
            else (sentence[:_CHARS_MAX] + "…")
        )
    return sentence if sentence[-1] in ".!?…" else sentence + "."
