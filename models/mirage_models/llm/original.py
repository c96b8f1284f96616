"""The original: transformers' GPT-NeoX in PyTorch, float32 and eager, run layer by layer.

A model of 2.8 B parameters takes 11 GB in float32. Here one layer at a time is in memory: transformers' own layer,
given its weights, run on all texts, and let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GPTNeoXConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer, GPTNeoXRotaryEmbedding

from mirage_models.llm.architecture import CONFIG_FILE, read_json
from mirage_models.llm.graph import EMBEDDING, OUTPUT
from mirage_models.llm.parity import Predictions, predictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mirage_models.llm.architecture import NeoxConfig
    from mirage_models.llm.tensors import Tensors
    from mirage_models.llm.texts import ParityText

_ROWS = 256


def run_original(
    source: Path, tensors: Tensors, config: NeoxConfig, texts: Sequence[ParityText], *, threads: int
) -> list[Predictions]:
    """Returns the original's predictions in each text. Raises CheckpointError if a tensor is not what it should be."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            return _run(source, tensors, config, texts)
    finally:
        torch.set_num_threads(before)


def _run(source: Path, tensors: Tensors, config: NeoxConfig, texts: Sequence[ParityText]) -> list[Predictions]:
    theirs = GPTNeoXConfig(**read_json(source / CONFIG_FILE))
    theirs._attn_implementation = "eager"
    table = tensors.read(EMBEDDING, config.vocabulary, config.hidden)
    states = [torch.from_numpy(table[list(text.ids)])[None] for text in texts]
    del table
    rotary = GPTNeoXRotaryEmbedding(theirs)
    positions = [torch.arange(state.shape[1])[None] for state in states]
    angles = [rotary(state, place) for state, place in zip(states, positions, strict=True)]
    masks = [_causal(state.shape[1]) for state in states]
    for number in range(config.layers):
        layer = _layer(theirs, tensors, number)
        for index, state in enumerate(states):
            states[index] = layer(
                state,
                attention_mask=masks[index],
                position_ids=positions[index],
                position_embeddings=angles[index],
            )[0]
        del layer
    norm = _filled(torch.nn.LayerNorm(config.hidden, eps=config.epsilon), tensors, "gpt_neox.final_layer_norm")
    states = [norm(state)[0] for state in states]
    output = torch.from_numpy(tensors.read(EMBEDDING if config.tied else OUTPUT, config.vocabulary, config.hidden))
    return [predictions(text, _logits(state, output)) for text, state in zip(texts, states, strict=True)]


def _logits(state: torch.Tensor, output: torch.Tensor) -> Iterable[Any]:
    for first in range(0, len(state), _ROWS):
        yield (state[first : first + _ROWS] @ output.T).numpy()


def _causal(length: int) -> torch.Tensor:
    mask = torch.full((length, length), float(np.finfo(np.float32).min)).triu(1)
    return mask[None, None]


def _layer(theirs: GPTNeoXConfig, tensors: Tensors, number: int) -> Any:
    with torch.device("meta"):
        layer = GPTNeoXLayer(theirs, layer_idx=number)
    return _filled(layer, tensors, f"gpt_neox.layers.{number}")


def _filled(module: Any, tensors: Tensors, prefix: str) -> Any:
    state = {
        name: torch.from_numpy(tensors.read(f"{prefix}.{name}", *parameter.shape))
        for name, parameter in module.named_parameters()
    }
    module.load_state_dict(state, assign=True)
    return module.eval()
