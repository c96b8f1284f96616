"""The pictures as latents: encoded once, each channel of mean 0 and spread 1, kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mirage_training.mini_generator.autoencoder import as_input
from mirage_training.mini_generator.networks import mixed_precision
from mirage_training.mini_generator.recipe import LATENT_CHANNELS, LATENT_SCALE, SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirage_atlas.demo.sections import SectionSpec
    from mirage_training.mini_generator.pictures import Pictures, Pixels

_BATCH = 64


def encoded(path: Path, pictures: Pictures, autoencoder: Any) -> Tensor:
    """The pictures' latents float16 [N, 4, 20, 20], from the file, or encoded and written there.

    The autoencoder is changed to give and take them so (`standardise`).
    """

    def encode() -> dict[str, Tensor]:
        values = _encode(autoencoder, pictures.pixels)
        mean, spread = values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3))
        scaled = (values - mean[:, None, None]) / spread[:, None, None]
        return {"values": scaled.half(), "mean": mean, "spread": spread}

    stored = on_disk(path, encode)
    standardise(autoencoder, stored["mean"], stored["spread"])
    kept: Tensor = stored["values"]
    return kept


def encoded_mirrored(path: Path, pictures: Pictures, autoencoder: Any) -> Tensor:
    """The same of the pictures seen in a mirror, by the autoencoder as `encoded` has changed it.

    Zero for pictures whose mirror image is not trained on.
    """

    def encode() -> Tensor:
        chosen = sided(pictures.specs)
        latents = torch.zeros((len(pictures.specs), LATENT_CHANNELS, *(SIDE_PX // LATENT_SCALE,) * 2), dtype=torch.half)
        if chosen:
            latents[chosen] = _encode(autoencoder, pictures.pixels[chosen][:, :, ::-1]).half()
        return latents

    kept: Tensor = on_disk(path, encode)
    return kept


def on_disk(path: Path, make: Callable[[], Any]) -> Any:
    """Tensors of a file, or those that are made and then written there."""
    if not path.exists():
        part = path.with_suffix(".writing")
        torch.save(make(), part)
        part.replace(path)
    return torch.load(path, weights_only=True)


def sided(specs: Sequence[SectionSpec]) -> list[int]:
    """Returns which sections show a lesion on one side, so that the mirror image has one on the other.

    In a sagittal section the side is that of the section itself.
    """
    return [index for index, spec in enumerate(specs) if spec.lesion and spec.plane != "sagittal"]


def _encode(autoencoder: Any, pixels: Pixels) -> Tensor:
    parts = []
    with torch.inference_mode(), mixed_precision():
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
