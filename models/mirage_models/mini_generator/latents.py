"""The pictures as latents: encoded once, of unit spread, kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirage_models.mini_generator.autoencoder import as_input

if TYPE_CHECKING:
    from mirage_models.mini_generator.pictures import Pictures

_BATCH = 64


@dataclass(frozen=True)
class Latents:
    """`values` float16 [N, 4, 16, 16], scaled to a standard deviation of 1; `factor` is what they were multiplied by."""

    values: Tensor
    factor: float


def encoded(path: Path, pictures: Pictures, autoencoder: Any) -> Latents:
    """The pictures' latents: from the file, or encoded and written there."""
    if not path.exists():
        parts = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for start in range(0, len(pictures.pixels), _BATCH):
                shown = as_input(pictures.pixels[start : start + _BATCH])
                # The means: the spread around them is far smaller than what a step of the sampler leaves.
                parts.append(autoencoder.encode(shown).latent_dist.mean.float())
        values = torch.cat(parts)
        factor = 1.0 / float(values.std())
        part = path.with_suffix(".writing")
        torch.save({"values": (values * factor).half(), "factor": factor}, part)
        part.replace(path)
    stored = torch.load(path, weights_only=True)
    return Latents(stored["values"], float(stored["factor"]))
