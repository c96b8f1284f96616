"""The second stage: the decoder alone learns to be sharp, on latents that stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional

from mirage_training.mini_clip.towers import read_image_weights
from mirage_training.mini_generator.autoencoder import as_input, edge_error
from mirage_training.mini_generator.networks import mixed_precision
from mirage_training.mini_generator.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirage_training.mini_generator.pictures import Pictures
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace

TEXTURE_WEIGHT = 8.0
TEXTURE_PX = 8
"""Sides of the squares in which the strength of fine detail is compared."""
PERCEPTION_WEIGHT = 0.8
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


def perception(towers: Path) -> Callable[[Tensor], list[Tensor]]:
    """Returns what gives features of pictures [B, 3, H, W] in -1..1 at four resolutions, each of unit length in every place:
    those of EfficientNet-Lite0, which was trained on ImageNet. Raises as `read_image_weights`.
    """
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(0, 1, 2, 3))
    network.load_state_dict(read_image_weights(towers), strict=False)
    network.eval().requires_grad_(False)
    return lambda pictures: [functional.normalize(found, dim=1, eps=1e-3) for found in network(pictures)]


def train_decoder(
    stage: Stage,
    pictures: Pictures,
    latents: Tensor,
    recipe: Recipe,
    pace: Pace,
    perceive: Callable[[Tensor], list[Tensor]] | None = None,
) -> bool:
    """Train on; True at the end. `perceive` adds the error of these features."""

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 5, step])
        chosen = rng.integers(len(latents), size=recipe.decoder.batch)
        known = latents[torch.from_numpy(chosen)].float()
        noise = torch.from_numpy(rng.standard_normal(known.shape, dtype=np.float32))
        return decoding_losses(stage.model, known + SAMPLER_ERROR * noise, as_input(pictures.pixels[chosen]), perceive)

    return stage.run(losses, pace)


def decoding_losses(
    model: Any, latents: Tensor, shown: Tensor, perceive: Callable[[Tensor], list[Tensor]] | None = None
) -> Losses:
    """Absolute errors of pixels, of edges, and of how strong fine detail is in each small square; with `perceive` also
    squared errors of features (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric").

    Texture does not ask where a fine line lies: a decoder that is unsure draws it somewhere instead of blurring it. Without
    the error of features it also draws blotches, which look like lesions.
    """
    with mixed_precision():
        made = model.decode(latents).sample.float()
    wrong = made - shown
    features = zip(perceive(made), perceive(shown), strict=True) if perceive else ()
    perceived = [(ours - theirs).square().sum(dim=1).mean() for ours, theirs in features]
    return {
        **({"features": PERCEPTION_WEIGHT * torch.stack(perceived).sum()} if perceived else {}),
        "pixels": wrong.abs().mean(),
        "edges": edge_error(wrong),
        "texture": TEXTURE_WEIGHT * (texture(made) - texture(shown)).abs().mean(),
    }


def texture(pictures: Tensor) -> Tensor:
    """Returns how strong fine detail is: pictures [B, 3, H, W] to root mean squares [B, 1, H / 8, W / 8]."""
    grey = pictures.mean(dim=1, keepdim=True)
    fine = grey - functional.avg_pool2d(grey, 3, stride=1, padding=1)
    return (functional.avg_pool2d(fine.square(), TEXTURE_PX) + _FLOOR).sqrt()
