"""The third stage: a latent consistency model of the diffusion model, which takes a few steps instead of dozens.

Luo et al., "Latent Consistency Models", 2023, algorithm 1: the student's result from a noisier point is drawn to its
result from the point after one guided DDIM step of the teacher, with the guidance scale as an input.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_training.mini_generator.diffusion import noisy
from mirage_training.mini_generator.emphasis import weighted_mean
from mirage_training.mini_generator.networks import TRAIN_TIMESTEPS, make_unet, signal_shares
from mirage_training.mini_generator.stage import Stage

if TYPE_CHECKING:
    from mirage_training.mini_generator.diffusion import Examples
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
STAGE_NUMBERS = {"distillation": 3, "refinement": 4}
SERVED_STEPS = 4
LENGTHS = np.array([1, 2, 4])
"""Of the teacher's steps while refining, in steps of the sampler."""
HUBER = 0.03
"""Of the pseudo-Huber loss, for one latent's number (Song and Dhariwal 2023: 0.00054 times the root of the dimension)."""


def guidance_states(scales: Tensor, dimension: int) -> Tensor:
    """Guidance scales [B] as the UNet takes them, [B, dimension]: `get_guidance_scale_embedding` of diffusers'
    pipeline.
    """
    half = dimension // 2
    frequencies = torch.exp(torch.arange(half) * -(np.log(10_000.0) / (half - 1)))
    angles = (scales - 1.0)[:, None] * 1000.0 * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def boundary(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the shares of its input and of its prediction in a consistency model's result, each [B, 1, 1, 1]: at 0
    only the input.
    """
    scaled = timesteps.float()[:, None, None, None] * TIMESTEP_SCALING
    return SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2).sqrt()


def clean_and_noise(velocity: Tensor, latents: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The clean latents and the noise that a velocity means, at this share [B, 1, 1, 1] of signal."""
    signal, rest = share.sqrt(), (1 - share).sqrt()
    return signal * latents - rest * velocity, signal * velocity + rest * latents


def distillation_stage(folder: Path, recipe: Recipe, teacher: Any) -> Stage:
    """The stage, as far as it got in this folder; at its start the student is the teacher."""
    student = make_unet(recipe, guided=True)
    absent, surplus = student.load_state_dict(teacher.state_dict(), strict=False)
    if surplus or absent != ["time_embedding.cond_proj.weight"]:
        raise ValueError("the teacher is not of the student's form")
    return Stage(folder, "distillation", student, recipe.distillation)


def refinement_stage(folder: Path, recipe: Recipe, student: Any) -> Stage:
    """The fourth stage, as far as it got in this folder: at its start it is the third's student."""
    further = make_unet(recipe, guided=True)
    further.load_state_dict(student.state_dict())
    return Stage(folder, "refinement", further, recipe.refinement)


def train_distillation(stage: Stage, teacher: Any, examples: Examples, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""
    return _train(stage, teacher, examples, recipe, pace, draw=_evenly)


def train_refinement(stage: Stage, teacher: Any, examples: Examples, recipe: Recipe, pace: Pace) -> bool:
    """Train on with longer steps of the teacher, so that what it knows has fewer of them to go through.

    True at the end.

    Half of the points are those that four steps of the sampler begin at.
    """
    return _train(stage, teacher, examples, recipe, pace, draw=_far)


Draw = Callable[[np.random.Generator, int, int], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Numbers of sampler steps [count]: from 1 to `steps` each, and how many of them the teacher goes at once."""


def _evenly(rng: np.random.Generator, count: int, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    places = (rng.permutation(count) + rng.random(count)) / count
    return (places * steps).astype(np.int64) + 1, np.ones(count, dtype=np.int64)


def _far(rng: np.random.Generator, count: int, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    starts, _ = _evenly(rng, count, steps)
    served = rng.permutation(count) < count // 2
    starts[served] = steps - rng.integers(SERVED_STEPS, size=int(served.sum())) * (steps // SERVED_STEPS)
    return starts, rng.choice(LENGTHS, size=count)


def _train(stage: Stage, teacher: Any, examples: Examples, recipe: Recipe, pace: Pace, *, draw: Draw) -> bool:
    shares = signal_shares()
    stride = TRAIN_TIMESTEPS // recipe.original_steps
    batch, dimension = stage.recipe.batch, recipe.guidance_dimension
    number = STAGE_NUMBERS[stage.name]

    def consistent(latents: Tensor, timesteps: Tensor, states: Tensor, guidance: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            velocity = stage.model(latents, timesteps, states, timestep_cond=guidance).sample.float()
        clean, _ = clean_and_noise(velocity, latents, shares[timesteps][:, None, None, None])
        skip, out = boundary(timesteps)
        return skip * latents + out * clean

    def of_step(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, number, step])
        drawn = examples.draw(rng, batch)
        states, rows = drawn.states, drawn.rows
        starts, lengths = (each[rows] for each in draw(rng, batch, recipe.original_steps))
        start = torch.from_numpy(starts) * stride - 1
        end = (start - torch.from_numpy(lengths) * stride).clamp(min=0)
        noise = torch.from_numpy(rng.standard_normal(drawn.latents.shape, dtype=np.float32)[rows])
        scales = torch.from_numpy(rng.uniform(1, recipe.most_guidance, batch)[rows]).float()
        guidance = guidance_states(scales, dimension)
        share = shares[start][:, None, None, None]
        far = noisy(drawn.latents, noise, share)
        found = consistent(far, start, states, guidance)
        with torch.no_grad():
            near = guided_step(teacher, far, start, end, states, examples.prompts.nothing, scales, shares)
            target = consistent(near, end, states, guidance)
        wrong = found - target
        losses = (wrong.square() + HUBER**2).sqrt() - HUBER
        return {"consistency": weighted_mean(losses, drawn.lesions, recipe.lesion_weight)}

    return stage.run(of_step, pace)


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
    with torch.autocast("cpu", torch.bfloat16):
        velocity = teacher(latents.repeat(2, 1, 1, 1), start.repeat(2), both).sample.float()
    with_text, without = velocity.chunk(2)
    guided = without + scales[:, None, None, None] * (with_text - without)
    clean, noise = clean_and_noise(guided, latents, shares[start][:, None, None, None])
    return noisy(clean, noise, shares[end][:, None, None, None])
