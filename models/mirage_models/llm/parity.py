"""Distance of a decoder from the original: its likeliest next token, and the probability that it gives the actual
one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mirage_inference.bundles.llm import LlmParity
from mirage_models.llm.texts import ParityText

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from mirage_inference.llm.decoder import Decoder
    from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeDecoder, OnnxRuntimeTextSession

    Floats = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.int32]

# A decoder that finds a token next to impossible is wrong, but not infinitely so: one token must not be all that
# counts.
_MOST_NATS = 40.0
# Tokens that the decoder scores at once behind what another graph has read.
_SCORED = 8


@dataclass(frozen=True)
class Predictions:
    """For each compared token of a text: the likeliest id int32 [T], and the actual one's -log p in nats float32
    [T].
    """

    likeliest: Ids
    surprise: Floats


def predictions(text: ParityText, pieces: Iterable[Floats]) -> Predictions:
    """Of logits float32 [.., V] that follow each token of the text, in order and in pieces."""
    likeliest = np.zeros(text.predicted, np.int32)
    surprise = np.zeros(text.predicted, np.float32)
    place = 0
    for logits in pieces:
        for row in logits:
            # The row after token `place` predicts token `place + 1`.
            target = place + 1 - text.start
            if 0 <= target < text.predicted:
                wide = row.astype(np.float64)
                peak = wide.max()
                total = peak + math.log(np.exp(wide - peak).sum())
                likeliest[target] = int(row.argmax())
                surprise[target] = min(total - wide[text.ids[place + 1]], _MOST_NATS)
            place += 1
    return Predictions(likeliest, surprise)


def run_decoder(decoder: Decoder, texts: Sequence[ParityText]) -> list[Predictions]:
    """Returns a decoder's predictions in each text, as the service runs it. Raises MODEL_FAILED."""
    found = []
    for text in texts:
        session = decoder.open(capacity=len(text.ids))
        # The tokens before the first compared one are a prompt like any other.
        if text.start > 1:
            session.prefill(text.ids[: text.start - 1])
        compared = ParityText(text.ids[text.start - 1 :], 1)
        found.append(predictions(compared, [session.score(compared.ids)]))
    return found


def run_prompts(decoder: OnnxRuntimeDecoder, texts: Sequence[ParityText]) -> list[Predictions]:
    """As `run_decoder`, with what comes before each few of the compared tokens read by the graph that reads prompts."""
    found = []
    for text in texts:
        session = decoder.open(capacity=len(text.ids))
        if text.start > 1:
            session.read(text.ids[: text.start - 1])
        compared = ParityText(text.ids[text.start - 1 :], 1)
        found.append(predictions(compared, _after_prompts(session, compared.ids)))
    return found


def _after_prompts(session: OnnxRuntimeTextSession, ids: Sequence[int]) -> Iterable[Floats]:
    for first in range(0, len(ids), _SCORED):
        group, length = ids[first : first + _SCORED], session.length
        yield session.score(group)
        session.rewind(length)
        session.read(group)


def compare(found: Sequence[Predictions], original: Sequence[Predictions]) -> LlmParity:
    """Agreement and perplexities over all compared tokens of all texts."""
    likeliest = np.concatenate([each.likeliest for each in found])
    wanted = np.concatenate([each.likeliest for each in original])
    ours = float(np.concatenate([each.surprise for each in found]).mean(dtype=np.float64))
    theirs = float(np.concatenate([each.surprise for each in original]).mean(dtype=np.float64))
    return LlmParity(
        tokens=len(wanted),
        agreement=round(float((likeliest == wanted).mean()), 6),
        perplexity=round(math.exp(ours), 6),
        perplexity_ratio=round(math.exp(ours - theirs), 6),
    )
