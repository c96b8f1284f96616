"""Weights of the training loss: a lesion, which covers a few of 256 latents, counts more than the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mirage_atlas.demo.lesions import lesion_mask
from mirage_training.mini_generator.recipe import LATENT_SCALE, SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirage_atlas.demo.sections import SectionSpec

REACH_MM = 6
"""How far around a lesion its latents are taken to lie: what a pose moves it by, half a latent."""


def lesion_latents(specs: Sequence[SectionSpec]) -> Tensor:
    """Returns a mask of the latents that may show a lesion: bool [N, 1, h, w], for sections before they are posed."""
    return _mask(specs, REACH_MM)


def lesion_cores(specs: Sequence[SectionSpec]) -> Tensor:
    """Returns a mask of the latents that a lesion itself reaches, without the space around it: bool [N, 1, h, w]."""
    return _mask(specs, 0)


def _mask(specs: Sequence[SectionSpec], reach_mm: int) -> Tensor:
    side = SIDE_PX // LATENT_SCALE
    shown = torch.zeros(len(specs), 1, side, side, dtype=torch.bool)
    for index, spec in enumerate(specs):
        if spec.lesion is None:
            continue
        axes = spec.lesion.axes_mm
        wider = replace(spec.lesion, axes_mm=(axes[0] + reach_mm, axes[1] + reach_mm, axes[2] + reach_mm))
        mask = torch.from_numpy(lesion_mask(wider, spec.plane, spec.level_mm))
        shown[index] = functional.adaptive_max_pool2d(mask[None], side) > 0.5
    return shown


def weighted_mean(losses: Tensor, lesions: Tensor, weight: float) -> Tensor:
    """The mean of losses [B, C, h, w] with those where `lesions` [B, 1, h, w] counted `weight` times."""
    counted = torch.where(lesions, weight, 1.0).expand_as(losses)
    return (losses * counted).sum() / counted.sum()
