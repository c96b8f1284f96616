"""The untrained networks and the noise schedule, in diffusers' classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from mirage_training.mini_clip.model import MODEL_CONFIG
from mirage_training.mini_generator.recipe import LATENT_CHANNELS, LATENT_SCALE, SIDE_PX

if TYPE_CHECKING:
    from mirage_training.mini_generator.recipe import Recipe

TRAIN_TIMESTEPS = 1000


def mixed_precision() -> torch.autocast:
    """Products in bfloat16 on processors with units for it (AMX); others are faster in float32."""
    fast = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


def make_autoencoder(recipe: Recipe) -> Any:
    """Pictures float32 [B, 3, 160, 160] in -1..1 to latents [B, 4, 20, 20] and back."""
    torch.manual_seed(recipe.seed)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=recipe.vae_channels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=recipe.vae_groups,
        sample_size=SIDE_PX,
    )


def make_unet(recipe: Recipe, *, guided: bool) -> Any:
    """Predicts velocity from noisy latents, the timestep and the text tower's states [B, 77, 128].

    `guided`: it takes the guidance scale as an embedding too, at first without an effect.
    """
    torch.manual_seed(recipe.seed + 1)
    unet = UNet2DConditionModel(
        sample_size=SIDE_PX // LATENT_SCALE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=recipe.unet_layers,
        block_out_channels=recipe.unet_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in recipe.unet_attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(recipe.unet_attention)),
        cross_attention_dim=MODEL_CONFIG["text_cfg"]["width"],
        attention_head_dim=recipe.unet_heads,
        norm_num_groups=recipe.unet_groups,
        time_cond_proj_dim=recipe.guidance_dimension if guided else None,
    )
    # Products and a softmax: for heads this small, PyTorch's fused attention takes three times as long going backwards.
    unet.set_attn_processor(AttnProcessor())
    if guided:
        with torch.no_grad():
            unet.time_embedding.cond_proj.weight.zero_()
    return unet


def schedule_config(recipe: Recipe) -> dict[str, Any]:
    """`scheduler/scheduler_config.json`: Stable Diffusion's noise, velocity predicted (Salimans and Ho 2022), 20 steps."""
    return {
        "_class_name": "LCMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": TRAIN_TIMESTEPS,
        "original_inference_steps": recipe.original_steps,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": False,
        "set_alpha_to_one": True,
        "steps_offset": 1,
        "thresholding": False,
        "timestep_scaling": 10.0,
        "trained_betas": None,
    }


def signal_shares() -> torch.Tensor:
    """float32 [1000]: how much of the variance of noisy latents is signal, by timestep."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAIN_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()
