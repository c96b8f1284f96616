"""The last stage: a latent consistency model of the diffusion model, which takes a few steps instead of dozens.

From every point of the teacher's trajectory to an image the student is drawn to that image (Luhman and Luhman 2021, "Knowledge
Distillation in Iterative Generative Models"), in the form of a latent consistency model (Luo et al. 2023), with the
guidance scale as an input. The trajectories are computed once and kept (trajectories.py). A student that learns from its own
results, as in Luo's algorithm 1, made worse images after 300 steps than this one after 250 (the model card has figures).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_training.mini_generator.emphasis import weighted_mean
from mirage_training.mini_generator.networks import make_unet, mixed_precision, signal_shares
from mirage_training.mini_generator.stage import Stage
from mirage_training.mini_generator.trajectories import clean_and_noise, step_timesteps

if TYPE_CHECKING:
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace
    from mirage_training.mini_generator.trajectories import Trajectories

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
SERVED_STEPS = 4
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


def distillation_stage(folder: Path, recipe: Recipe, teacher: Any) -> Stage:
    """The stage, as far as it got in this folder; at its start the student is the teacher."""
    student = make_unet(recipe, guided=True)
    absent, surplus = student.load_state_dict(teacher.state_dict(), strict=False)
    if surplus or absent != ["time_embedding.cond_proj.weight"]:
        raise ValueError("the teacher is not of the student's form")
    return Stage(folder, "distillation", student, recipe.distillation)


def drawn_points(rng: np.random.Generator, count: int, steps: int) -> NDArray[np.int64]:
    """Places on the trajectory [count], from 0 (noise) to `steps` - 1: half of them those that four steps of the sampler begin
    at.
    """
    places = ((rng.permutation(count) + rng.random(count)) / count * steps).astype(np.int64)
    served = rng.permutation(count) < count // 2
    places[served] = rng.integers(SERVED_STEPS, size=int(served.sum())) * (steps // SERVED_STEPS)
    return places


def distance(student: Any, trajectories: Trajectories, chosen: Tensor, places: Tensor, recipe: Recipe) -> Tensor:
    """How far the student's results are from the images of these trajectories [B], from these places on them [B]."""
    shares, timesteps = signal_shares(), torch.tensor(step_timesteps(recipe.original_steps))
    here, image = trajectories.points[chosen, places].float(), trajectories.points[chosen, -1].float()
    at, states = timesteps[places], trajectories.states[chosen].float()
    guidance = guidance_states(trajectories.scales[chosen], recipe.guidance_dimension)
    with mixed_precision():
        velocity = student(here, at, states, timestep_cond=guidance).sample.float()
    clean, _ = clean_and_noise(velocity, here, shares[at][:, None, None, None])
    skip, out = boundary(at)
    wrong = skip * here + out * clean - image
    losses = (wrong.square() + HUBER**2).sqrt() - HUBER
    return weighted_mean(losses, trajectories.lesions[chosen], recipe.lesion_weight)


def train_distillation(stage: Stage, trajectories: Trajectories, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""
    batch = stage.recipe.batch

    def of_step(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 3, step])
        chosen = torch.from_numpy(rng.integers(len(trajectories.points), size=batch))
        places = torch.from_numpy(drawn_points(rng, batch, recipe.original_steps))
        return {"distance": distance(stage.model, trajectories, chosen, places, recipe)}

    return stage.run(of_step, pace)
