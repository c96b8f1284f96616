"""The network of few steps learns from its own images: one lesion of the right size where a text names one, none
otherwise, and fine detail.

Four of five texts that the teacher learnt from name a lesion, so it draws lesions that no text asked for, and its student
learns that too. Here half of the texts name none, and of the trajectories only those count whose image agrees with its
text. What the finder sees in the student's own images goes back through the sampler's steps (Clark et al. 2023, "Directly
Fine-Tuning Diffusion Models on Differentiable Rewards").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mirage_atlas.demo.captions import caption
from mirage_training.mini_generator.autoencoder import as_input
from mirage_training.mini_generator.diffusion import noisy
from mirage_training.mini_generator.distillation import (
    SERVED_STEPS,
    boundary,
    distance,
    drawn_points,
    guidance_states,
)
from mirage_training.mini_generator.emphasis import lesion_latents
from mirage_training.mini_generator.finder import contrasts
from mirage_training.mini_generator.latents import on_disk
from mirage_training.mini_generator.networks import mixed_precision, signal_shares
from mirage_training.mini_generator.prompts import whole_query
from mirage_training.mini_generator.stage import Stage
from mirage_training.mini_generator.trajectories import SHARD, clean_and_noise, step_timesteps

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mirage_training.mini_generator.finder import LesionFinder
    from mirage_training.mini_generator.pictures import Pictures
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace
    from mirage_training.mini_generator.text_tower import Prompts
    from mirage_training.mini_generator.trajectories import Trajectories

OWN = 8
"""The student's own images in a step."""
OWN_GUIDANCE = (2.0, 3.5)
SHORT_SHARE = 0.3
"""Of their texts; the others are captions. Both name the plane, the contrast, and the lesion if there is one."""
SURE = 2.0
"""The finder's logit that a lesion is to reach."""
CLEAR = 4.0
"""How far below 0 it is to be where there is to be none."""
NEAR = 3
"""Squares around a section's own lesion where a text's lesion may be: a text names a lobe."""
ROOM = 1.0
"""How many times the squares of the section's own lesion may show one."""
AGREEMENT_WEIGHT = 0.015
CONTRAST_WEIGHT = 0.03
DETAIL_WEIGHT = 0.1
BANDS = (0.0125, 0.03, 0.06, 0.12, 0.25, 1.0)
"""Edges of bands of frequency, in cycles a pixel; the last is the fine detail of detail.py."""
WANTED = (1.0, 1.0, 1.0, 1.0, 0.75)
"""How much of each band's energy in the real picture the images are to have: with all of the fine detail they show noise."""
_FLOOR = 1e-3


@dataclass(frozen=True)
class Guide:
    """Looks at images: `decode` latents [B, 4, h, w] to pictures [B, 3, H, W] in -1..1, and a finder; both are fixed."""

    decode: Callable[[Tensor], Tensor]
    finder: LesionFinder

    @classmethod
    def of(cls, autoencoder: Any, finder: LesionFinder) -> Guide:
        """With the decoder of an autoencoder."""
        return cls(lambda latents: autoencoder.decode(latents).sample.float(), finder)


@dataclass(frozen=True)
class Asked:
    """Texts of real pictures: their states [B, 77, 128], the squares that may show a lesion (bool [B, 1, 20, 20]), the numbers of
    the contrasts [B], and the energies of the pictures [B, bands].
    """

    states: Tensor
    lesions: Tensor
    sequences: Tensor
    energies: Tensor


@dataclass(frozen=True)
class Texts:
    """Has the numbers of pictures with and without a lesion, and turns their texts into states."""

    pictures: Pictures
    sick: NDArray[np.intp]
    well: NDArray[np.intp]
    prompts: Prompts

    @classmethod
    def of(cls, pictures: Pictures, prompts: Prompts) -> Texts:
        """Those of the pictures."""
        sick = np.array([spec.lesion is not None for spec in pictures.specs])
        return cls(pictures, np.flatnonzero(sick), np.flatnonzero(~sick), prompts)

    def draw(self, rng: np.random.Generator, count: int) -> Asked:
        """Texts of pictures drawn by chance, every other one with a lesion."""
        kinds = (self.well if number % 2 else self.sick for number in range(count))
        numbers = [int(kind[rng.integers(len(kind))]) for kind in kinds]
        specs = [self.pictures.specs[number] for number in numbers]
        texts = [whole_query(spec, rng) if rng.random() < SHORT_SHARE else caption(spec, rng) for spec in specs]
        shown = as_input(self.pictures.pixels[numbers])
        return Asked(self.prompts.states(texts), lesion_latents(specs), contrasts(specs), energies(shown))


def energies(pictures: Tensor) -> Tensor:
    """The energy of each picture [B, 3, H, W] in -1..1 in each band [B, bands], as `detail.fine_energy` for pictures of 0..1."""
    side = pictures.shape[-1]
    places = torch.fft.fftfreq(side)
    frequency = torch.hypot(places[:, None], places[None])
    spectra = torch.fft.fft2(pictures.mean(dim=1) / 2).abs().square() / side**2
    bands = [(frequency >= low) & (frequency < high) for low, high in pairwise(BANDS)]
    return torch.stack([(spectra * band).sum(dim=(1, 2)) for band in bands], dim=1)


def unlike(found: Tensor, wanted: Tensor, sequences: Tensor) -> Tensor:
    """How far energies [B, bands] are from `wanted`, on average over the images of each contrast."""
    ratios = (found / (wanted * torch.tensor(WANTED))).clamp(min=_FLOOR).log()
    return torch.stack([ratios[sequences == each].mean(dim=0).square().sum() for each in sequences.unique()]).mean()


def disagreement(found: Tensor, wanted: Tensor) -> Tensor:
    """How far the finder's logits [B, 1, h, w] are from one lesion at most, near the squares `wanted` (bool, the same shape;
    none at all means no lesion) and of about their size: [B].
    """
    near = functional.max_pool2d(wanted.float(), 2 * NEAR + 1, 1, NEAR) > 0
    missing = functional.relu(SURE - found.masked_fill(~near, -torch.inf).amax(dim=(1, 2, 3)))
    elsewhere = functional.relu(CLEAR + found.masked_fill(near, -torch.inf).amax(dim=(1, 2, 3)))
    room = ROOM * wanted.sum(dim=(1, 2, 3)).clamp(min=1)
    excess = functional.relu(found.sigmoid().sum(dim=(1, 2, 3)) / room - 1)
    return torch.where(wanted.any(dim=(1, 2, 3)), missing + excess, 0) + elsewhere


def right_trajectories(path: Path, trajectories: Trajectories, guide: Guide) -> tuple[Tensor, Tensor]:
    """Rows of trajectories whose image agrees with its text: those with a lesion and those without; all of a kind if none
    agrees. How far each is from it is kept in the file.
    """

    def seen() -> Tensor:
        with torch.inference_mode():
            shards = zip(trajectories.points[:, -1].split(SHARD), trajectories.lesions.split(SHARD), strict=True)
            pictures = ((guide.decode(ends.float()).mean(dim=1, keepdim=True), lesions) for ends, lesions in shards)
            return torch.cat([disagreement(guide.finder(shown)[0], lesions) for shown, lesions in pictures])

    sick = trajectories.lesions.flatten(1).any(dim=1)
    agrees = on_disk(path, seen) < torch.where(sick, SURE, CLEAR)
    rows = [torch.nonzero(kind & agrees if (kind & agrees).any() else kind)[:, 0] for kind in (sick, ~sick)]
    return rows[0], rows[1]


def sampled(student: Any, noises: list[Tensor], states: Tensor, guidance: Tensor, recipe: Recipe) -> Tensor:
    """Latents [B, 4, h, w] that the student makes in the served steps; `noises` are one for each of them."""
    shares = signal_shares()
    stride = recipe.original_steps // SERVED_STEPS
    times = step_timesteps(recipe.original_steps)[: recipe.original_steps : stride]
    latents = noises[0]
    for number, time in enumerate(times):
        at = torch.full((len(latents),), time)
        with mixed_precision():
            velocity = student(latents, at, states, timestep_cond=guidance).sample.float()
        clean, _ = clean_and_noise(velocity, latents, shares[at][:, None, None, None])
        skip, out = boundary(at)
        clean = skip * latents + out * clean
        if number + 1 == len(times):
            return clean
        share = shares[torch.full((len(latents),), times[number + 1])][:, None, None, None]
        latents = noisy(clean, noises[number + 1], share)
    raise ValueError("there are no steps")


def agreement_stage(folder: Path, recipe: Recipe, student: Any) -> Stage:
    """The stage, as far as it got in this folder; at its start the student is that of the distillation."""
    student.requires_grad_(True)
    return Stage(folder, "agreement", student, recipe.agreement)


def train_agreement(
    stage: Stage,
    trajectories: Trajectories,
    right: tuple[Tensor, Tensor],
    texts: Texts,
    guide: Guide,
    recipe: Recipe,
    pace: Pace,
) -> bool:
    """Train on; True at the end. `right`: rows of trajectories with and without a lesion that agree with their texts."""
    batch = recipe.agreement.batch
    half = batch // 2

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 7, step])
        chosen = torch.cat(
            [
                rows[torch.from_numpy(rng.integers(len(rows), size=size))]
                for rows, size in zip(right, (half, batch - half), strict=True)
            ]
        )
        places = torch.from_numpy(drawn_points(rng, batch, recipe.original_steps))
        asked = texts.draw(rng, OWN)
        scales = torch.from_numpy(rng.uniform(*OWN_GUIDANCE, OWN)).float()
        shape = (OWN, *trajectories.points.shape[2:])
        noises = [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for _ in range(SERVED_STEPS)]
        guidance = guidance_states(scales, recipe.guidance_dimension)
        shown = guide.decode(sampled(stage.model, noises, asked.states, guidance, recipe))
        found, contrast = guide.finder(shown.mean(dim=1, keepdim=True))
        wrong = disagreement(found, asked.lesions).mean()
        return {
            "distance": distance(stage.model, trajectories, chosen, places, recipe),
            "agreement": AGREEMENT_WEIGHT * wrong,
            "contrast": CONTRAST_WEIGHT * functional.cross_entropy(contrast, asked.sequences),
            "detail": DETAIL_WEIGHT * unlike(energies(shown), asked.energies, asked.sequences),
        }

    return stage.run(losses, pace)
