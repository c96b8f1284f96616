"""The original of a Llama, Qwen 2.5, Qwen 3 or Gemma 3 checkpoint: the plain formulas in numpy, float32, layer by layer.

Without torch, so that a GGUF file is built without it. `tests_build` compares it with transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mirage_models.llm.layout_graph import EMBEDDING, LAST_NORM, OUTPUT
from mirage_models.llm.parity import Predictions, predictions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from mirage_models.llm.layout import LayoutConfig
    from mirage_models.llm.tensors import Checkpoint
    from mirage_models.llm.texts import ParityText

    Floats = npt.NDArray[np.float32]

_ROWS = 64


def run_layout(tensors: Checkpoint, config: LayoutConfig, texts: Sequence[ParityText]) -> list[Predictions]:
    """Returns the original's predictions in each text. Raises CheckpointError if a tensor is not what it should be."""
    return [
        predictions(text, pieces)
        for text, pieces in zip(texts, layout_logits(tensors, config, [text.ids for text in texts]), strict=True)
    ]


def layout_logits(
    tensors: Checkpoint, config: LayoutConfig, texts: Sequence[Sequence[int]]
) -> Iterator[Iterator[Floats]]:
    """Yields, for each text, its logits float32 [.., V] in pieces."""
    table = tensors.read(EMBEDDING, config.vocabulary, config.hidden)
    # All texts in one row: the matrices are read once, and only attention sees where a text ends.
    ends = np.cumsum([len(ids) for ids in texts])
    spans = [slice(end - len(ids), end) for end, ids in zip(ends, texts, strict=True)]
    state = table[np.concatenate([np.asarray(ids) for ids in texts])] * np.float32(config.embedding_scale)
    for number in range(config.layers):
        state = _layer(tensors, config, number, state, spans)
    state = _norm(tensors, config, LAST_NORM.removesuffix(".weight"), state)
    if not config.tied:
        table = tensors.read(OUTPUT, config.vocabulary, config.hidden)
    for span in spans:
        rows = state[span]
        yield (rows[first : first + _ROWS] @ table.T for first in range(0, len(rows), _ROWS))


def _norm(tensors: Checkpoint, config: LayoutConfig, name: str, values: Floats) -> Floats:
    scale = tensors.read(f"{name}.weight", values.shape[-1]) + np.float32(config.norm_offset)
    mean = np.mean(values * values, axis=-1, keepdims=True)
    normed: Floats = values / np.sqrt(mean + np.float32(config.epsilon)) * scale
    return normed


def _linear(tensors: Checkpoint, name: str, rows: int, values: Floats, *, biased: bool = False) -> Floats:
    product: Floats = values @ tensors.read(f"{name}.weight", rows, values.shape[-1]).T
    if biased:
        product += tensors.read(f"{name}.bias", rows)
    return product


def _layer(tensors: Checkpoint, config: LayoutConfig, number: int, state: Floats, spans: list[slice]) -> Floats:
    name = f"model.layers.{number}"
    attended = _attention(tensors, config, number, _norm(tensors, config, f"{name}.input_layernorm", state), spans)
    if config.norm_after:
        attended = _norm(tensors, config, f"{name}.post_attention_layernorm", attended)
    state = state + attended
    before = "pre_feedforward_layernorm" if config.norm_after else "post_attention_layernorm"
    normed = _norm(tensors, config, f"{name}.{before}", state)
    gate = _linear(tensors, f"{name}.mlp.gate_proj", config.intermediate, normed)
    up = _linear(tensors, f"{name}.mlp.up_proj", config.intermediate, normed)
    fallen = _linear(tensors, f"{name}.mlp.down_proj", config.hidden, _bent(config, gate) * up)
    if config.norm_after:
        fallen = _norm(tensors, config, f"{name}.post_feedforward_layernorm", fallen)
    return state + fallen


def _bent(config: LayoutConfig, values: Floats) -> Floats:
    if config.gate == "silu":
        # The logistic function by tanh, which does not overflow.
        inner = values * np.float32(0.5)
    else:
        inner = np.float32(np.sqrt(2 / np.pi)) * (values + np.float32(0.044715) * values**3)
    bent: Floats = np.float32(0.5) * values * (1 + np.tanh(inner))
    return bent


def _attention(tensors: Checkpoint, config: LayoutConfig, number: int, normed: Floats, spans: list[slice]) -> Floats:
    name, local = f"model.layers.{number}.self_attn", config.local[number]

    def heads(part: str, count: int) -> Floats:
        product = _linear(
            tensors, f"{name}.{part}_proj", count * config.head, normed, biased=config.attention_bias
        ).reshape(-1, count, config.head)
        return _norm(tensors, config, f"{name}.{part}_norm", product) if config.head_norm and part != "v" else product

    queries, keys, values = heads("q", config.heads), heads("k", config.key_heads), heads("v", config.key_heads)
    rotation = config.local_rotation if local else config.rotation
    cosines, sines = rotation.tables(max(span.stop - span.start for span in spans), config.head)
    result = np.empty((len(normed), config.heads, config.head), np.float32)
    shared = config.heads // config.key_heads
    for span in spans:
        length = span.stop - span.start
        place = np.arange(length)
        ahead = place[None] > place[:, None]
        if local:
            ahead |= place[None] <= place[:, None] - config.window
        turned = [_turned(part[span], cosines[:length], sines[:length]) for part in (queries, keys)]
        for head in range(config.heads):
            scores = turned[0][:, head] @ turned[1][:, head // shared].T * np.float32(config.scale)
            scores[ahead] = -np.inf
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            result[span, head] = scores / scores.sum(-1, keepdims=True) @ values[span, head // shared]
    return _linear(tensors, f"{name}.o_proj", config.hidden, result.reshape(len(normed), -1))


def _turned(heads: Floats, cosines: Floats, sines: Floats) -> Floats:
    first, second = np.split(heads, 2, axis=-1)
    cosines, sines = cosines[:, None], sines[:, None]
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
