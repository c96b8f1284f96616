"""Small GPT-NeoX checkpoints and bundles of them, for the tests of language models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from mirage_inference.bundles import LlmManifest
from mirage_models.llm.task import LlmTask
from mirage_models.llm.tensors import SAFETENSORS
from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace


def build_language(source: Path, out: Path, **fields: Any) -> LlmManifest:
    """Builds a bundle as the command does."""
    request = BuildRequest(source=source, name="tiny", origin="random weights", licence="Apache-2.0", **fields)
    with open_workspace(out, identity={}) as workspace:
        manifest = LlmTask().build(request, workspace)
        workspace.seal(manifest, out, replace=False)
    return manifest


def save_random_model(folder: Path, **config: Any) -> GPTNeoXForCausalLM:
    """A tiny model of transformers' own making, saved in `folder` without a tokenizer, with biases and norms that matter."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 96, "max_position_embeddings": 64}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**(sizes | config)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.eval().save_pretrained(folder)
    return model


def change_weights(folder: Path, changes: Mapping[str, torch.Tensor | None]) -> None:
    """Replaces tensors of a checkpoint in one safetensors file; None takes one away."""
    state = load_file(folder / SAFETENSORS)
    for name, tensor in changes.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    save_file(state, folder / SAFETENSORS, metadata={"format": "pt"})
