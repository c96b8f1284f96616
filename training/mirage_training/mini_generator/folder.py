"""The mini generator as a checkpoint folder in diffusers' layout, without CLIP's tokenizer."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch

from mirage_models.generator.checkpoint import DRAWS_FILE
from mirage_models.generator.folder import write_json, write_part
from mirage_models.generator.whole_folder import INDEX, TEXT, text_tower_folder
from mirage_training.mini_generator.networks import schedule_config

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_inference.bundles import Draws
    from mirage_training.mini_generator.recipe import Recipe

_WEIGHTS = "diffusion_pytorch_model.safetensors"


def write_trained(out: Path, *, autoencoder: Any, unet: Any, recipe: Recipe, draws: Draws) -> None:
    """Writes index, schedule, text tower, what it draws, and what was trained: UNet and autoencoder, whose latents need no
    scaling.
    """
    write_json(out / "model_index.json", INDEX)
    write_json(out / DRAWS_FILE, draws.model_dump(mode="json"))
    shutil.copytree(text_tower_folder(), out / TEXT)
    write_json(out / "scheduler" / "scheduler_config.json", schedule_config(recipe))
    for part, network, more in (("unet", unet, {}), ("vae", autoencoder, {"scaling_factor": 1.0})):
        config = {key: value for key, value in network.config.items() if not key.startswith("_")}
        config = {"_class_name": type(network).__name__, **config, **more}
        write_part(out / part, config, network.state_dict(), torch.float16, _WEIGHTS)
