"""Configurations of the public checkpoints, to write random ones of exactly their form.

Sources: `config.json` of each part of stable-diffusion-v1-5/stable-diffusion-v1-5, whose layout Nihirc/Prompt2MedImage
has (it was trained from Stable Diffusion 1.x with diffusers); SimianLuo/LCM_Dreamshaper_v7, of the same sizes, with a
`time_cond_proj_dim`; madebyollin/taesd; latent-consistency/lcm-lora-sdv1-5, made by diffusers'
`train_lcm_distill_lora_sd_wds.py`, whose `target_modules` are listed below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Size: TypeAlias = Literal["small", "full"]
Kind: TypeAlias = Literal["prompt2medimage", "lcm-dreamshaper-v7"]


@dataclass(frozen=True)
class Sizes:
    """Channels, widths and layers: the differences between a full checkpoint and a small one with the same kinds of
    keys.
    """

    unet_channels: tuple[int, ...]
    layers: int
    groups: int
    heads: int
    width: int
    text_layers: int
    text_heads: int
    text_inner: int
    decoder_channels: tuple[int, ...]
    tiny_channels: int
    side: int
    lora_rank: int


SIZES: dict[Size, Sizes] = {
    "full": Sizes((320, 640, 1280, 1280), 2, 32, 8, 768, 12, 12, 3072, (128, 256, 512, 512), 64, 512, 64),
    "small": Sizes((32, 64), 1, 8, 2, 32, 2, 2, 64, (8, 16, 16, 16), 8, 128, 4),
}

LORA_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
)


def unet_config(kind: Kind, sizes: Sizes) -> dict[str, Any]:
    """`unet/config.json`."""
    return {
        "act_fn": "silu",
        "attention_head_dim": sizes.heads,
        "block_out_channels": list(sizes.unet_channels),
        "center_input_sample": False,
        "cross_attention_dim": sizes.width,
        "down_block_types": ["CrossAttnDownBlock2D"] * (len(sizes.unet_channels) - 1) + ["DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": sizes.layers,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": sizes.groups,
        "out_channels": 4,
        "sample_size": sizes.side // 8,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (len(sizes.unet_channels) - 1),
        **({"time_cond_proj_dim": 256} if kind == "lcm-dreamshaper-v7" else {}),
    }


def vae_config(sizes: Sizes) -> dict[str, Any]:
    """`vae/config.json`."""
    return {
        "act_fn": "silu",
        "block_out_channels": list(sizes.decoder_channels),
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": sizes.layers,
        "norm_num_groups": min(32, sizes.groups),
        "out_channels": 3,
        "sample_size": sizes.side,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    }


def tiny_config(sizes: Sizes) -> dict[str, Any]:
    """`config.json` of a tiny autoencoder."""
    channels = [sizes.tiny_channels] * 4
    return {
        "act_fn": "relu",
        "in_channels": 3,
        "latent_channels": 4,
        "encoder_block_out_channels": channels,
        "decoder_block_out_channels": channels,
        "num_encoder_blocks": [1, 3, 3, 3],
        "num_decoder_blocks": [3, 3, 3, 1],
        "latent_magnitude": 3,
        "latent_shift": 0.5,
        "out_channels": 3,
        "scaling_factor": 1.0,
        "upsampling_scaling_factor": 2,
    }


def text_config(sizes: Sizes) -> dict[str, Any]:
    """`text_encoder/config.json`."""
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": sizes.width,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": sizes.text_inner,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": sizes.text_heads,
        "num_hidden_layers": sizes.text_layers,
        "pad_token_id": 1,
        "projection_dim": sizes.width,
        "vocab_size": 49408,
    }


def scheduler_config(kind: Kind) -> dict[str, Any]:
    """`scheduler/scheduler_config.json`: as Stable Diffusion 1.5 has it, or a native LCM."""
    shared = {
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "steps_offset": 1,
        "trained_betas": None,
    }
    if kind == "prompt2medimage":
        return {"_class_name": "PNDMScheduler", **shared, "set_alpha_to_one": False, "skip_prk_steps": True}
    return {
        "_class_name": "LCMScheduler",
        **shared,
        "clip_sample_range": 1.0,
        "dynamic_thresholding_ratio": 0.995,
        "original_inference_steps": 50,
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": False,
        "sample_max_value": 1.0,
        "set_alpha_to_one": True,
        "thresholding": False,
        "timestep_scaling": 10.0,
        "timestep_spacing": "leading",
    }


def model_index(kind: Kind) -> dict[str, Any]:
    """`model_index.json`."""
    native = kind == "lcm-dreamshaper-v7"
    return {
        "_class_name": "LatentConsistencyModelPipeline" if native else "StableDiffusionPipeline",
        "_diffusers_version": "0.22.0.dev0" if native else "0.13.0.dev0",
        "feature_extractor": ["transformers", "CLIPImageProcessor" if native else "CLIPFeatureExtractor"],
        "requires_safety_checker": True,
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", scheduler_config(kind)["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
