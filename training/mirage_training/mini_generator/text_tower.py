"""The mini CLIP's text tower as transformers has it: the states that the UNet looks at, and the files of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from mirage_models.generator.borrowed_text import END, read_text_tower
from mirage_training.mini_clip.model import MODEL_CONFIG

if TYPE_CHECKING:
    from pathlib import Path


def load_text_tower(checkpoint: Path) -> CLIPTextModel:
    """The text tower of the mini CLIP in this folder, float32, in evaluation mode."""
    config, state = read_text_tower(checkpoint)
    model = CLIPTextModel(CLIPTextConfig(**config))
    model.load_state_dict(state, strict=True)
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
