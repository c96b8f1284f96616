"""The mini generator's text tower: the states that the UNet looks at."""

from __future__ import annotations

import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from mirage_models.generator.whole_folder import END, WEIGHTS, filled, text_tower_folder
from mirage_training.mini_generator.networks import mixed_precision


def load_text_tower() -> CLIPTextModel:
    """Returns the text tower in float32 and evaluation mode."""
    folder = text_tower_folder()
    model = CLIPTextModel(CLIPTextConfig.from_pretrained(folder, local_files_only=True))
    model.load_state_dict(filled(load_file(folder / WEIGHTS)))
    return model.float().eval().requires_grad_(False)


class Prompts:
    """Texts as the states that the UNet looks at."""

    def __init__(self, tower: CLIPTextModel) -> None:
        self._tower = tower
        self._tokenizer = SimpleTokenizer(context_length=tower.config.max_position_embeddings)
        self.nothing = self.states([""])

    def states(self, texts: list[str]) -> Tensor:
        """float32 [N, 77, 128]; filled up with end tokens, as the pipelines of diffusers fill."""
        ids = self._tokenizer(texts)
        after = torch.arange(ids.shape[1])[None] > ids.argmax(dim=-1)[:, None]
        with torch.no_grad(), mixed_precision():
            states: Tensor = self._tower(ids.masked_fill(after, END), return_dict=False)[0].float()
        return states
