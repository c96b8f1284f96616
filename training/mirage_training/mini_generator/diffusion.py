"""The second network: a diffusion model of latents, which predicts their velocity (Salimans and Ho 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_training.mini_clip.batches import mirrored
from mirage_training.mini_generator.begun import begin_unet
from mirage_training.mini_generator.emphasis import lesion_latents, weighted_mean
from mirage_training.mini_generator.latents import sided
from mirage_training.mini_generator.networks import TRAIN_TIMESTEPS, make_unet, mixed_precision, signal_shares
from mirage_training.mini_generator.prompts import training_text
from mirage_training.mini_generator.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirage_atlas.demo.sections import SectionSpec
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace
    from mirage_training.mini_generator.text_tower import Prompts


PAIR_SHARE = 0.5
"""How much of a batch are lesions and their mirror images, side by side."""


@dataclass(frozen=True)
class Batch:
    """Latents float32 [B, 4, h, w], which of them show a lesion [B, 1, h, w], and the states of a text of each [B, 77,
    128].

    `rows` [B]: whose noise, timestep and guidance each has. A section and its mirror image have the same, so that what
    differs in their losses is the side alone.
    """

    latents: Tensor
    lesions: Tensor
    states: Tensor
    rows: NDArray[np.int64]


class Examples:
    """The training data of both UNets: latents [N, 4, h, w] of sections and of their mirror images, specs, the text
    tower.
    """

    def __init__(
        self, latents: Tensor, mirrored_latents: Tensor, specs: Sequence[SectionSpec], prompts: Prompts
    ) -> None:
        self.prompts = prompts
        self._latents, self._mirrored = latents, mirrored_latents
        self._specs = tuple(specs)
        self._lesions = lesion_latents(specs)
        self._sided = sided(specs)

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        """Half of them are lesions with their mirror images and the same words except for the side, the rest any
        section.
        """
        pairs = int(count * PAIR_SHARE) // 2 if self._sided else 0
        chosen = rng.integers(len(self._specs), size=count - 2 * pairs)
        sided = np.array(self._sided, dtype=np.int64)[rng.integers(max(1, len(self._sided)), size=pairs)]
        texts = [training_text(self._specs[index], rng) for index in chosen]
        seeds = rng.integers(2**32, size=pairs)
        shown = [self._specs[index] for index in sided]
        for specs in (shown, map(mirrored, shown)):
            texts += [training_text(spec, np.random.default_rng(seed)) for spec, seed in zip(specs, seeds, strict=True)]
        plain, lesions = torch.from_numpy(np.concatenate([chosen, sided])), torch.from_numpy(sided)
        rows = np.arange(count)
        rows[count - pairs :] -= pairs
        return Batch(
            torch.cat([self._latents[plain], self._mirrored[lesions]]).float(),
            torch.cat([self._lesions[plain], self._lesions[lesions].flip(3)]),
            self.prompts.states(texts),
            rows,
        )


def noisy(latents: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Latents with this share [B, 1, 1, 1] of signal in their variance."""
    return share.sqrt() * latents + (1 - share).sqrt() * noise


def diffusion_stage(folder: Path, recipe: Recipe, begin: Path | None = None) -> Stage:
    """The stage, as far as it got in this folder; at its start the UNet of the checkpoint `begin`, if there is one."""
    unet = make_unet(recipe, guided=False)
    begin_unet(unet, begin)
    return Stage(folder, "diffusion", unet, recipe.diffusion)


def train_diffusion(stage: Stage, examples: Examples, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""
    shares = signal_shares()
    batch = recipe.diffusion.batch

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 2, step])
        drawn = examples.draw(rng, batch)
        # Evenly spread timesteps: less chance in a step's loss than in independent ones.
        places = (rng.permutation(batch) + rng.random(batch)) / batch
        timesteps = torch.from_numpy((places * TRAIN_TIMESTEPS).astype(np.int64)[drawn.rows])
        noise = torch.from_numpy(rng.standard_normal(drawn.latents.shape, dtype=np.float32)[drawn.rows])
        share = shares[timesteps][:, None, None, None]
        velocity = share.sqrt() * noise - (1 - share).sqrt() * drawn.latents
        with mixed_precision():
            predicted = stage.model(noisy(drawn.latents, noise, share), timesteps, drawn.states).sample.float()
        return {"velocity": weighted_mean((predicted - velocity).square(), drawn.lesions, recipe.lesion_weight)}

    return stage.run(losses, pace)
