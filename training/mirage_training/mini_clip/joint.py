"""mini-clip 2: an open_clip model with a MiniLM text tower and an EfficientNet-Lite image tower, and heads for its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mirage_atlas.demo.landmarks import PLANES
from mirage_models.encoder.checkpoint import make_model
from mirage_models.encoder.grid_trunk import NAME
from mirage_training.mini_clip.losses import LEVEL_BINS_MM
from mirage_training.mini_clip.model import GROUPS
from mirage_training.mini_clip.prepare import FROZEN
from mirage_training.mini_clip.towers import read_image_weights, read_text_weights, text_config, tokenizer_json
from mirage_training.mini_clip.views import SIDE_PX

CONTEXT = 77
PREPROCESS: dict[str, Any] = {
    "size": [SIDE_PX, SIDE_PX],
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
    "fill_color": 0,
}


def model_config(dimension: int) -> dict[str, Any]:
    """The configuration as `open_clip_config.json` has it."""
    return {
        "embed_dim": dimension,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": NAME, "timm_pool": "", "timm_proj": "linear", "image_size": SIDE_PX},
        "text_cfg": {
            "hf_model_name": "all-MiniLM-L6-v2, cut",
            "hf_tokenizer_name": "all-MiniLM-L6-v2, cut",
            "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler",
            "context_length": CONTEXT,
        },
    }


def pretrained_model(towers: Path, *, layers: tuple[int, ...], kept: list[str], dimension: int) -> Any:
    """Returns the model with the pretrained towers and random projections."""
    model = make_model(model_config(dimension), tower=text_config(len(layers), len(kept)))
    model.text.transformer.load_state_dict(read_text_weights(towers, layers=layers, kept=kept))
    model.visual.trunk.body.load_state_dict(read_image_weights(towers))
    return model


def trunk_features(model: Any, features: Tensor) -> Tensor:
    """What the trunk gives for the features that the frozen stages gave: [N, num_features]."""
    body = model.visual.trunk.body
    hidden = features
    for stage in body.blocks[FROZEN:]:
        hidden = stage(hidden)
    joined: Tensor = model.visual.trunk.join(body.bn2(body.conv_head(hidden)))
    return joined


def encode_features(model: Any, features: Tensor) -> Tensor:
    """Embeddings [N, dim] of the features that the frozen stages gave."""
    embedded: Tensor = model.visual.head(trunk_features(model, features))
    return embedded


class JointHeads(nn.Module):
    """Linear readers of the unit vectors: every fact, and for renderings the attributes of the template's sections."""

    def __init__(self, dimension: int, facts: list[str]) -> None:
        super().__init__()
        self.facts = nn.Linear(dimension, len(facts))
        self.attributes = nn.ModuleDict({name: nn.Linear(dimension, classes) for name, classes in GROUPS.items()})
        self.level = nn.Linear(dimension, len(PLANES))
        self.level_bins = nn.Linear(dimension, len(PLANES) * len(LEVEL_BINS_MM))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.sigmoid = nn.Parameter(torch.tensor([10.0, -5.0]))

    def forward(self, unit: Tensor) -> dict[str, Tensor]:
        """Logits of the template's attributes, as `model.Heads` gives them."""
        wide = unit * self.scale
        return {name: head(wide) for name, head in self.attributes.items()} | {"level": self.level(wide)}

    def read_level_bins(self, unit: Tensor) -> Tensor:
        """Logits [N, planes, bins of a level]."""
        logits: Tensor = self.level_bins(unit * self.scale)
        return logits.unflatten(1, (len(PLANES), len(LEVEL_BINS_MM)))

    def read_facts(self, unit: Tensor) -> Tensor:
        """Logits of all facts [N, facts]."""
        logits: Tensor = self.facts(unit * self.scale)
        return logits


def save_checkpoint(state: dict[str, Tensor], folder: Path, *, kept: list[str], layers: int, dimension: int) -> None:
    """Writes configuration, tokenizer and weights (float16) as a checkpoint of open_clip with a Hugging Face text tower."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_config(dimension), "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    (folder / "config.json").write_text(json.dumps(text_config(layers, len(kept)), indent=2) + "\n", "utf-8")
    (folder / "tokenizer.json").write_text(tokenizer_json(kept), "utf-8")
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(options, indent=2) + "\n", "utf-8")
    half = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}
    save_file(half, folder / "open_clip_model.safetensors")


def read_state(folder: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint in float32."""
    return {name: value.float() for name, value in load_file(folder / "open_clip_model.safetensors").items()}
