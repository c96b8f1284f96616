"""Vectors of the mini CLIP's text tower, without a service."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from mirage_inference.encoder.model import EncoderModel, load_model
from mirage_inference.engines.base import EngineOptions
from mirage_models.paths import mini_clip_bundle


@cache
def _model() -> EncoderModel:
    return load_model(mini_clip_bundle(), engine="onnxruntime", options=EngineOptions(threads=1))


@cache
def vector(text: str) -> npt.NDArray[np.float32]:
    """The unit vector of a text, float32 [dimension]."""
    model = _model()
    row: npt.NDArray[np.float32] = model.embed_texts([model.tokenizer.tokenize(text)])[0]
    return row


def cosines(sentence: str, captions: Sequence[str]) -> list[float]:
    """Between a sentence and each caption."""
    return [float(vector(sentence) @ vector(caption)) for caption in captions]
