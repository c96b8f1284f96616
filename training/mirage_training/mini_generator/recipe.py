"""Everything except the code that decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

SIDE_PX = 160
"""Sides of the pictures: 1.2 mm a pixel."""
LATENT_SCALE = 8
LATENT_CHANNELS = 4


@dataclass(frozen=True)
class StageRecipe:
    """One network's training: optimiser steps, items of each, the peak of the learning rate and its warm-up in steps.

    The rate falls along a cosine to a twentieth. `average` is how much of the averaged weights a step keeps.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    average: float = 0.998
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Recipe:
    """A run: its seed, how many pictures are rendered, widths of the networks, and each stage's recipe.

    `unet_attention`: which of the UNet's levels look at the text and across the picture. `lesion_weight`: how often the
    error of latents that show a lesion is counted. `trajectories`: how many of the teacher's, from noise to an image, the
    last stage learns from. `texts`: how many are written to count the words that are known.
    """

    seed: int = 20261124
    pictures: int = 24_000
    vae_channels: tuple[int, ...] = (16, 24, 48, 96)
    vae_groups: int = 8
    unet_channels: tuple[int, ...] = (64, 112, 112)
    unet_attention: tuple[bool, ...] = (False, True, True)
    unet_layers: int = 1
    unet_heads: int = 4
    unet_groups: int = 16
    guidance_dimension: int = 256
    most_guidance: float = 4.0
    original_steps: int = 20
    lesion_weight: float = 4.0
    finder_width: int = 24
    finder: StageRecipe = field(default_factory=lambda: StageRecipe(1_200, 32, 2e-3, warmup=30, average=0.98))
    autoencoder: StageRecipe = field(default_factory=lambda: StageRecipe(1500, 12, 2e-3, average=0.995))
    decoder: StageRecipe = field(default_factory=lambda: StageRecipe(2_100, 8, 8e-4, warmup=30, average=0.99))
    diffusion: StageRecipe = field(default_factory=lambda: StageRecipe(8_500, 32, 8e-4, average=0.999))
    served_guidance: float = 2.0
    trajectories: int = 2_048
    texts: int = 20_000
    distillation: StageRecipe = field(default_factory=lambda: StageRecipe(700, 32, 4e-4, average=0.995))
    agreement: StageRecipe = field(default_factory=lambda: StageRecipe(300, 32, 1e-4, warmup=15, average=0.98))


def continued(recipe: Recipe) -> Recipe:
    """The recipe of a run that begins with the networks of a generator trained before: its autoencoder as it is."""
    return replace(
        recipe,
        pictures=16_000,
        autoencoder=replace(recipe.autoencoder, steps=0),
        diffusion=StageRecipe(4_600, 32, 4e-4, average=0.998),
    )
