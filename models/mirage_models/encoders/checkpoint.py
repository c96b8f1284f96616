"""Open_clip checkpoints in the layout of the Hugging Face Hub: the builder's input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model in PyTorch fp32, evaluation mode, with the configuration that it came with.

    `model` has `encode_image(float[B, 3, S, S])` and `encode_text(int64[B, context])`, both to `float[B, dimension]`.
    """

    model: torch.nn.Module
    model_cfg: Mapping[str, Any]
    preprocess_cfg: Mapping[str, Any]
    directory: Path

    @property
    def text_cfg(self) -> Mapping[str, Any]:
        """The text tower's part of the configuration."""
        cfg: Mapping[str, Any] = self.model_cfg["text_cfg"]
        return cfg


def load_checkpoint(directory: Path) -> Checkpoint:
    """Load a local Hub-style directory (`open_clip_config.json` and weights) without touching a network.

    Raises FileNotFoundError where the configuration is absent, and what open_clip raises on weights that do not fit.
    """
    config = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
    model = open_clip.create_model(
        f"local-dir:{directory}", precision="fp32", device="cpu", load_weights=True, require_pretrained=True
    )
    model.eval().requires_grad_(False)
    cfg = dict(open_clip.get_model_preprocess_cfg(model))
    return Checkpoint(model=model, model_cfg=config["model_cfg"], preprocess_cfg=cfg, directory=directory)
