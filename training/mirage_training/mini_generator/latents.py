"""The pictures as latents: encoded once, each channel of mean 0 and spread 1, kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirage_training.mini_generator.autoencoder import as_input

if TYPE_CHECKING:
    from mirage_training.mini_generator.pictures import Pictures, Pixels

_BATCH = 64


def encoded(path: Path, pictures: Pictures, autoencoder: Any) -> Tensor:
    """The pictures' latents float16 [N, 4, 16, 16], from the file, or encoded and written there.

    The autoencoder is changed to give and take them so (`standardise`).
    """
    if not path.exists():
        values = _encode(autoencoder, pictures.pixels)
        mean, spread = values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3))
        scaled = (values - mean[:, None, None]) / spread[:, None, None]
        part = path.with_suffix(".writing")
        torch.save({"values": scaled.half(), "mean": mean, "spread": spread}, part)
        part.replace(path)
    stored = torch.load(path, weights_only=True)
    standardise(autoencoder, stored["mean"], stored["spread"])
    kept: Tensor = stored["values"]
    return kept


def encoded_mirrored(path: Path, pictures: Pictures, autoencoder: Any) -> Tensor:
    """The same of the pictures seen in a mirror, by the autoencoder as `encoded` has changed it."""
    if not path.exists():
        part = path.with_suffix(".writing")
        torch.save(_encode(autoencoder, pictures.pixels[:, :, ::-1]).half(), part)
        part.replace(path)
    kept: Tensor = torch.load(path, weights_only=True)
    return kept


def _encode(autoencoder: Any, pixels: Pixels) -> Tensor:
    parts = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(pixels), _BATCH):
            shown = as_input(pixels[start : start + _BATCH])
            # The means: the spread around them is far smaller than what a step of the sampler leaves.
            parts.append(autoencoder.encode(shown).latent_dist.mean.float())
    return torch.cat(parts)


def standardise(autoencoder: Any, mean: Tensor, spread: Tensor) -> None:
    """Folds a shift and a scale of each latent channel into the convolutions next to the latents.

    One factor for all channels, which is what a configuration can say, would leave some far larger than others; noise
    would then drown the small ones first.
    """
    before, after = autoencoder.quant_conv, autoencoder.post_quant_conv
    count = len(mean)
    with torch.no_grad():
        after.bias += after.weight[:, :, 0, 0] @ mean
        after.weight *= spread[None, :, None, None]
        # The first half of the channels are means, the other the logarithms of variances.
        before.weight[:count] /= spread[:, None, None, None]
        before.bias[:count] = (before.bias[:count] - mean) / spread
        before.bias[count:] -= 2 * spread.log()
