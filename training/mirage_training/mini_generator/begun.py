"""The networks of a generator that was trained before, which a run may begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel


def begin_autoencoder(autoencoder: Any, checkpoint: Path | None) -> None:
    """Gives the autoencoder the weights of the checkpoint's; raises ValueError if it is of another form."""
    if checkpoint is not None:
        _take(autoencoder, AutoencoderKL.from_pretrained(checkpoint / "vae", **_LOCAL), checkpoint)


def begin_unet(unet: Any, checkpoint: Path | None) -> None:
    """Gives the diffusion model the weights of the checkpoint's UNet, without those of its guidance.

    Raises ValueError if it is of another form.
    """
    if checkpoint is not None:
        _take(unet, UNet2DConditionModel.from_pretrained(checkpoint / "unet", **_LOCAL), checkpoint)


_LOCAL: dict[str, Any] = {"local_files_only": True, "torch_dtype": torch.float32}
_GUIDANCE = "time_embedding.cond_proj.weight"


def _take(network: Any, trained: Any, checkpoint: Path) -> None:
    weights = trained.state_dict()
    if _GUIDANCE not in network.state_dict():
        weights.pop(_GUIDANCE, None)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint} has networks of another form") from error
