"""The PyTorch original, run by diffusers' own pipeline in float32: what a bundle is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler, StableDiffusionPipeline

from mirage_models.generator.checkpoint import load_text, load_unet, load_vae
from mirage_models.generator.references import References
from mirage_models.generator.schedules import make_original
from mirage_models.generator.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirage_models.generator.checkpoint import Checkpoint
    from mirage_models.generator.references import Floats, Pixels


class Original:
    """The pipeline of a checkpoint with its scheduler, its LoRA fused."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.pipeline = make_pipeline(checkpoint, load_unet(checkpoint))
        self._scale = checkpoint.latent_scale
        # Samplers of a plain Stable Diffusion draw no noise after the first.
        self._adds_noise = checkpoint.sampler is None

    def make(
        self, prompts: Sequence[str], *, steps: int, guidance: float, side: int, negative_prompt: str = ""
    ) -> References:
        """An image of each prompt, square; its noise is torch's for the prompt's number as a seed."""
        noises, latents, images = [], [], []
        shape = (1, int(self.pipeline.unet.config.in_channels), side // self._scale, side // self._scale)
        for seed, prompt in enumerate(prompts):
            random = torch.Generator().manual_seed(seed)
            noise = [torch.randn(shape, generator=random) for _ in range(steps if self._adds_noise else 1)]
            after: list[Any] = []

            def keep(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any], into: Any = after) -> Any:
                into.append(values["latents"].numpy().copy())
                return values

            # The scheduler draws the later noise itself, from a generator in the same state as this one.
            again = torch.Generator().manual_seed(seed)
            torch.randn(shape, generator=again)
            result = self.pipeline(
                prompt,
                height=side,
                width=side,
                num_inference_steps=steps,
                guidance_scale=guidance,
                **({"negative_prompt": negative_prompt} if negative_prompt else {}),
                latents=noise[0].clone(),
                generator=again,
                output_type="np",
                callback_on_step_end=keep,
                callback_on_step_end_tensor_inputs=["latents"],
            )
            noises.append(torch.cat(noise).numpy())
            latents.append(np.concatenate(after))
            images.append((result.images[0] * 255).round().astype(np.uint8))
        return References(tuple(prompts), guidance, np.stack(noises), np.stack(latents), np.stack(images))


def decode_tiny(tiny: Any, latents: Floats) -> Pixels:
    """Decodes latents float32[images, channels, h, w] with a tiny autoencoder to uint8[images, height, width, 3]."""
    with torch.inference_mode():
        scaled = torch.from_numpy(latents) / tiny.config.scaling_factor
        image = (tiny.decode(scaled, return_dict=False)[0] * 0.5 + 0.5).clamp(0, 1)
    return np.asarray((image.permute(0, 2, 3, 1).numpy() * 255).round(), dtype=np.uint8)


def make_pipeline(checkpoint: Checkpoint, unet: Any) -> Any:
    """diffusers' pipeline of a checkpoint's parts with this UNet.

    Without a safety checker, which would blank images.
    """
    parts = {
        "vae": load_vae(checkpoint),
        "text_encoder": load_text(checkpoint),
        "tokenizer": load_tokenizer(checkpoint),
        "unet": unet,
        "scheduler": _scheduler(checkpoint),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    pipeline = LatentConsistencyModelPipeline(**parts) if checkpoint.native else StableDiffusionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _scheduler(checkpoint: Checkpoint) -> Any:
    if checkpoint.sampler is not None:
        return make_original(checkpoint.scheduler, checkpoint.sampler)
    return LCMScheduler.from_config(checkpoint.scheduler)
