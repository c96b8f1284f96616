"""Trajectories of the teacher from noise to an image, which the network of few steps learns to shorten: kept in files."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mirage_training.mini_generator.diffusion import noisy
from mirage_training.mini_generator.latents import on_disk
from mirage_training.mini_generator.networks import TRAIN_TIMESTEPS, mixed_precision, signal_shares

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_training.mini_generator.diffusion import Examples
    from mirage_training.mini_generator.recipe import Recipe

SHARD = 32
"""Trajectories of one file: what a stopped run computes again at most."""
USUAL_SHARE = 0.5
"""Share of them that have the served guidance; the others have any that the service may be asked for."""


@dataclass(frozen=True)
class Trajectories:
    """N trajectories of S steps: points float16 [N, S + 1, 4, h, w], the last of them the image; states of the texts
    [N, 77, 128]; guidance [N]; which latents show the lesion that the text names [N, 1, h, w].
    """

    points: Tensor
    states: Tensor
    scales: Tensor
    lesions: Tensor


def step_timesteps(steps: int) -> list[int]:
    """The timesteps of the points: as the sampler's, from 999 in equal steps, and 0."""
    stride = TRAIN_TIMESTEPS // steps
    return [number * stride - 1 for number in range(steps, 0, -1)] + [0]


def travelled(folder: Path, teacher: Any, examples: Examples, recipe: Recipe) -> Trajectories:
    """Returns the trajectories, and makes those that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [
        on_disk(folder / f"{number:04d}.pt", partial(_shard, teacher, examples, recipe, number))
        for number in range(recipe.trajectories // SHARD)
    ]
    names = ("points", "states", "scales", "lesions")
    return Trajectories(*(torch.cat([each[name] for each in found]) for name in names))


def _shard(teacher: Any, examples: Examples, recipe: Recipe, number: int) -> dict[str, Tensor]:
    rng = np.random.default_rng([recipe.seed, 4, number])
    drawn = examples.draw(rng, SHARD)
    noise = rng.standard_normal(drawn.latents.shape, dtype=np.float32)[drawn.rows]
    usual = rng.random(SHARD) < USUAL_SHARE
    scales = np.where(usual, recipe.served_guidance, rng.uniform(1, recipe.most_guidance, SHARD))[drawn.rows]
    guidance = torch.from_numpy(scales).float()
    shares, times = signal_shares(), step_timesteps(recipe.original_steps)
    points = [torch.from_numpy(noise)]
    with torch.inference_mode():
        for start, end in itertools.pairwise(times):
            here = torch.full((SHARD,), start), torch.full((SHARD,), end)
            points.append(
                guided_step(teacher, points[-1], *here, drawn.states, examples.prompts.nothing, guidance, shares)
            )
    return {
        "points": torch.stack(points, dim=1).half(),
        "states": drawn.states.half(),
        "scales": guidance,
        "lesions": drawn.lesions,
    }


def clean_and_noise(velocity: Tensor, latents: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The clean latents and the noise that a velocity means, at this share [B, 1, 1, 1] of signal."""
    signal, rest = share.sqrt(), (1 - share).sqrt()
    return signal * latents - rest * velocity, signal * velocity + rest * latents


def guided_step(
    teacher: Any,
    latents: Tensor,
    start: Tensor,
    end: Tensor,
    states: Tensor,
    nothing: Tensor,
    scales: Tensor,
    shares: Tensor,
) -> Tensor:
    """One DDIM step (Song et al. 2020) from timesteps `start` to `end` with classifier-free guidance of `scales`."""
    count = len(latents)
    both = torch.cat([states, nothing.expand(count, -1, -1)])
    with mixed_precision():
        velocity = teacher(latents.repeat(2, 1, 1, 1), start.repeat(2), both).sample.float()
    with_text, without = velocity.chunk(2)
    guided = without + scales[:, None, None, None] * (with_text - without)
    share = shares[start][:, None, None, None]
    clean, _ = clean_and_noise(guided, latents, share)
    plain, _ = clean_and_noise(with_text, latents, share)
    clean = matched(clean, plain)
    noise = (latents - share.sqrt() * clean) / (1 - share).sqrt()
    return noisy(clean, noise, shares[end][:, None, None, None])


def matched(clean: Tensor, plain: Tensor) -> Tensor:
    """Guided latents [B, C, h, w] with the mean and spread, channel by channel, of those without guidance.

    Guidance drives both too far (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed"), and a
    T1 that is too bright looks like a FLAIR.
    """
    middle, spread = (clean.mean(dim=(2, 3), keepdim=True), clean.std(dim=(2, 3), keepdim=True))
    wanted, width = (plain.mean(dim=(2, 3), keepdim=True), plain.std(dim=(2, 3), keepdim=True))
    return (clean - middle) / (spread + 1e-6) * width + wanted
