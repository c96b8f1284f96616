"""The first stage: pictures to latents of an eighth of their sides and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mirage_training.mini_generator.begun import begin_autoencoder
from mirage_training.mini_generator.networks import make_autoencoder, mixed_precision
from mirage_training.mini_generator.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mirage_training.mini_generator.pictures import Pictures
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace

DIVERGENCE_WEIGHT = 3e-4
EDGE_WEIGHT = 1.0
"""Of the error of differences between neighbouring pixels, in addition to that of the pixels: without it edges stay soft."""


def as_input(pixels: NDArray[np.uint8]) -> Tensor:
    """Grey pictures uint8 [B, H, W] as the autoencoder takes them: float32 [B, 3, H, W] in -1..1."""
    scaled = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 127.5 - 1
    return scaled[:, None].repeat(1, 3, 1, 1)


def autoencoder_stage(folder: Path, recipe: Recipe, begin: Path | None = None) -> Stage:
    """The stage, as far as it got in this folder; at its start that of the checkpoint `begin`, if there is one."""
    autoencoder = make_autoencoder(recipe)
    begin_autoencoder(autoencoder, begin)
    return Stage(folder, "autoencoder", autoencoder, recipe.autoencoder)


def train_autoencoder(stage: Stage, pictures: Pictures, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 1, step])
        chosen = rng.integers(len(pictures.pixels), size=recipe.autoencoder.batch)
        random = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return reconstruction_losses(stage.model, as_input(pictures.pixels[chosen]), random)

    return stage.run(losses, pace)


def edge_error(wrong: Tensor) -> Tensor:
    """The mean absolute error of differences between neighbouring pixels, of errors [B, C, H, W]."""
    return (wrong[..., 1:, :] - wrong[..., :-1, :]).abs().mean() + (wrong[..., 1:] - wrong[..., :-1]).abs().mean()


def reconstruction_losses(model: Any, shown: Tensor, random: torch.Generator) -> Losses:
    """Absolute errors of pixels and of edges, and the divergence of the latents from unit normal ones."""
    with mixed_precision():
        found = model.encode(shown).latent_dist
        mean, deviation = found.mean.float(), found.std.float()
        latents = mean + deviation * torch.randn(mean.shape, generator=random)
        made = model.decode(latents).sample.float()
    wrong = made - shown
    variance = deviation.square()
    divergence = 0.5 * (mean.square() + variance - 1 - variance.log()).mean()
    return {
        "pixels": wrong.abs().mean(),
        "edges": EDGE_WEIGHT * edge_error(wrong),
        "divergence": DIVERGENCE_WEIGHT * divergence,
    }
