"""The second network: a diffusion model of latents, which predicts their velocity (Salimans and Ho 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mirage_models.mini_generator.networks import TRAIN_TIMESTEPS, make_unet, signal_shares
from mirage_models.mini_generator.prompts import training_text
from mirage_models.mini_generator.stage import Stage

if TYPE_CHECKING:
    from mirage_atlas.demo.sections import SectionSpec
    from mirage_models.mini_generator.recipe import Recipe
    from mirage_models.mini_generator.stage import Losses, Pace
    from mirage_models.mini_generator.text_tower import Prompts


@dataclass(frozen=True)
class Examples:
    """What both UNets are trained on: latents [N, 4, h, w], what they show, and the text tower."""

    latents: Tensor
    specs: tuple[SectionSpec, ...]
    prompts: Prompts

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        """Latents float32 [count, 4, h, w] and the states of a text of each [count, 77, 128]."""
        chosen = rng.integers(len(self.specs), size=count)
        texts = [training_text(self.specs[index], rng) for index in chosen]
        return self.latents[torch.from_numpy(chosen)].float(), self.prompts.states(texts)


def noisy(latents: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Latents with this share [B, 1, 1, 1] of signal in their variance."""
    return share.sqrt() * latents + (1 - share).sqrt() * noise


def diffusion_stage(folder: Path, recipe: Recipe) -> Stage:
    """The stage, as far as it got in this folder."""
    return Stage(folder, "diffusion", make_unet(recipe, guided=False), recipe.diffusion)


def train_diffusion(stage: Stage, examples: Examples, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""
    shares = signal_shares()
    batch = recipe.diffusion.batch

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 2, step])
        latents, states = examples.draw(rng, batch)
        # Evenly spread timesteps: less chance in a step's loss than in independent ones.
        places = (rng.permutation(batch) + rng.random(batch)) / batch
        timesteps = torch.from_numpy((places * TRAIN_TIMESTEPS).astype(np.int64))
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        share = shares[timesteps][:, None, None, None]
        velocity = share.sqrt() * noise - (1 - share).sqrt() * latents
        with torch.autocast("cpu", torch.bfloat16):
            predicted = stage.model(noisy(latents, noise, share), timesteps, states).sample.float()
        return {"velocity": (predicted - velocity).square().mean()}

    return stage.run(losses, pace)
