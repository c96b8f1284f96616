"""The mini CLIP's text tower as transformers has it: the states that the UNet looks at, and the files of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from mirage_models.mini_clip.model import MODEL_CONFIG, load_checkpoint
from mirage_models.paths import bundles_folder

if TYPE_CHECKING:
    from open_clip.model import CLIP

START, END = 49406, 49407
_LAYER_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def mini_clip_checkpoint() -> Path:
    """The mini CLIP's checkpoint."""
    return bundles_folder() / "clip" / "checkpoint"


def text_config() -> dict[str, Any]:
    """`text_encoder/config.json`: the mini CLIP's text tower."""
    text = MODEL_CONFIG["text_cfg"]
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": START,
        "eos_token_id": END,
        "hidden_act": "gelu",
        "hidden_size": text["width"],
        "intermediate_size": 4 * text["width"],
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": text["context_length"],
        "model_type": "clip_text_model",
        "num_attention_heads": text["heads"],
        "num_hidden_layers": text["layers"],
        "pad_token_id": END,
        "projection_dim": MODEL_CONFIG["embed_dim"],
        "vocab_size": text["vocab_size"],
    }


def text_state(clip: CLIP) -> dict[str, Tensor]:
    """The tower's weights by transformers' names; its projection to the common space is left out."""
    found = clip.state_dict()
    state = {
        "text_model.embeddings.token_embedding.weight": found["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": found["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        state[f"text_model.final_layer_norm.{kind}"] = found[f"ln_final.{kind}"]
        for number in range(MODEL_CONFIG["text_cfg"]["layers"]):
            there, here = f"transformer.resblocks.{number}", f"text_model.encoder.layers.{number}"
            thirds = found[f"{there}.attn.in_proj_{kind}"].chunk(3)
            for name, third in zip(("q_proj", "k_proj", "v_proj"), thirds, strict=True):
                state[f"{here}.self_attn.{name}.{kind}"] = third
            for theirs, ours in _LAYER_NAMES.items():
                state[f"{here}.{ours}.{kind}"] = found[f"{there}.{theirs}.{kind}"]
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def load_text_tower(checkpoint: Path) -> CLIPTextModel:
    """The text tower of the mini CLIP in this folder, float32, in evaluation mode."""
    model = CLIPTextModel(CLIPTextConfig(**text_config()))
    model.load_state_dict(text_state(load_checkpoint(checkpoint)), strict=True)
    return model.eval().requires_grad_(False)


class Prompts:
    """Texts as the states that the UNet looks at."""

    def __init__(self, tower: CLIPTextModel) -> None:
        self._tower = tower
        self._tokenizer = SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
        self.nothing = self.states([""])

    def states(self, texts: list[str]) -> Tensor:
        """float32 [N, 77, 128]; filled up with end tokens, as the pipelines of diffusers fill."""
        ids = self._tokenizer(texts)
        after = torch.arange(ids.shape[1])[None] > ids.argmax(dim=-1)[:, None]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            states: Tensor = self._tower(ids.masked_fill(after, END), return_dict=False)[0].float()
        return states
