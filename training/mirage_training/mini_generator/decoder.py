"""The second stage: the decoder alone learns to be sharp, on latents that stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mirage_training.mini_generator.autoencoder import as_input, edge_error
from mirage_training.mini_generator.networks import mixed_precision
from mirage_training.mini_generator.stage import Stage

if TYPE_CHECKING:
    from mirage_training.mini_generator.pictures import Pictures
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace

TEXTURE_WEIGHT = 8.0
TEXTURE_PX = 8
"""Sides of the squares in which the strength of fine detail is compared."""
SAMPLER_ERROR = 0.1
"""Spread of the noise on the latents: about what a sampler's last step leaves wrong."""
_FLOOR = 1e-4


def decoder_stage(folder: Path, recipe: Recipe, autoencoder: Any) -> Stage:
    """The stage, as far as it got in this folder; at its start the decoder is that of `autoencoder`, whose encoder
    stays.
    """
    autoencoder.requires_grad_(False)
    autoencoder.decoder.requires_grad_(True)
    autoencoder.post_quant_conv.requires_grad_(True)
    return Stage(folder, "decoder", autoencoder, recipe.decoder)


def train_decoder(stage: Stage, pictures: Pictures, latents: Tensor, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 5, step])
        chosen = rng.integers(len(latents), size=recipe.decoder.batch)
        known = latents[torch.from_numpy(chosen)].float()
        noise = torch.from_numpy(rng.standard_normal(known.shape, dtype=np.float32))
        return decoding_losses(stage.model, known + SAMPLER_ERROR * noise, as_input(pictures.pixels[chosen]))

    return stage.run(losses, pace)


def decoding_losses(model: Any, latents: Tensor, shown: Tensor) -> Losses:
    """Absolute errors of pixels, of edges, and of how strong fine detail is in each small square.

    The last does not ask where a fine line lies: a decoder that is unsure draws it somewhere instead of blurring it.
    """
    with mixed_precision():
        made = model.decode(latents).sample.float()
    wrong = made - shown
    return {
        "pixels": wrong.abs().mean(),
        "edges": edge_error(wrong),
        "texture": TEXTURE_WEIGHT * (texture(made) - texture(shown)).abs().mean(),
    }


def texture(pictures: Tensor) -> Tensor:
    """How strong fine detail is: pictures [B, 3, H, W] to root mean squares [B, 1, H / 8, W / 8]."""
    grey = pictures.mean(dim=1, keepdim=True)
    fine = grey - functional.avg_pool2d(grey, 3, stride=1, padding=1)
    return (functional.avg_pool2d(fine.square(), TEXTURE_PX) + _FLOOR).sqrt()
