"""A Stable Diffusion 1.x folder in the layout of diffusers: what is in it, and its parts as PyTorch modules in
float32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel

from mirage_inference.bundles import Draws
from mirage_models.generator.schedules import LCM, choose_sampler, diffusion_schedule, lcm_schedule
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_inference.bundles import SamplerName, Schedule

    Config = dict[str, Any]

INDEX_FILE = "model_index.json"
DRAWS_FILE = "draws.json"
"""What a model of few subjects draws, as the manifest's `draws`: a file of MIRAGE's own, next to those of diffusers."""
KNOWN_PIPELINES = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
_KNOWN_PARTS = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
}
_WEIGHTS = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
}
_SECOND_WIDTH = 1024
# Buffers that older versions of the libraries saved and newer ones make themselves.
_DISPENSABLE = ("position_ids",)


@dataclass(frozen=True)
class Checkpoint:
    """A folder that was found whole: its configurations, its LoRA (None: nothing to fuse), its tiny autoencoder.

    `sampler` is that of a plain Stable Diffusion, or None for a latent consistency model. `draws` is what the folder's
    `draws.json` says, None if there is none.
    """

    folder: Path
    unet: Config
    vae: Config
    text: Config
    scheduler: Config
    tokenizer: Config
    lora: Path | None
    tiny: Path | None
    safety_checker: str
    sampler: SamplerName | None = None
    draws: Draws | None = None

    @property
    def schedule(self) -> Schedule:
        """The sampler's constants; raises UnknownArchitectureError."""
        return (
            lcm_schedule(self.scheduler) if self.sampler is None else diffusion_schedule(self.scheduler, self.sampler)
        )

    @property
    def native(self) -> bool:
        """True for a UNet that takes the guidance as an embedding."""
        return self.unet.get("time_cond_proj_dim") is not None

    @property
    def side(self) -> int:
        """Pixels of a side of the images it was trained on."""
        return int(self.unet.get("sample_size") or 64) * self.latent_scale

    @property
    def latent_scale(self) -> int:
        """Side in pixels of the square that one latent covers."""
        return int(2 ** (len(self.vae["block_out_channels"]) - 1))

    @property
    def side_multiple(self) -> int:
        """The number that sides in pixels are multiples of, so that the UNet can halve the latents at each level but the last."""
        return int(self.latent_scale * 2 ** (len(self.unet["block_out_channels"]) - 1))


def read_checkpoint(
    folder: Path, *, lora: Path | None = None, tiny: Path | None = None, sampler: SamplerName | None = None
) -> Checkpoint:
    """Look at a folder's configurations and for its files.

    `sampler` is for a plain Stable Diffusion, instead of the one that its scheduler's configuration names. Raises
    UnknownArchitectureError for classes other than those of Stable Diffusion 1.x and for schedulers that are not known,
    and CheckpointError for what is absent, cannot be read, or does not belong together.
    """
    index = read_json(folder / INDEX_FILE)
    if index.get("_class_name") not in KNOWN_PIPELINES:
        raise UnknownArchitectureError(
            f"{INDEX_FILE} names a {index.get('_class_name')}; known are {', '.join(KNOWN_PIPELINES)}"
        )
    for part, known in _KNOWN_PARTS.items():
        entry = index.get(part)
        found = entry[-1] if isinstance(entry, list) and entry else None
        if found not in (known, f"{known}Fast"):
            raise UnknownArchitectureError(f"{part} is a {found}; a {known} is known")
    unet, vae = read_json(folder / "unet" / "config.json"), read_json(folder / "vae" / "config.json")
    for key, value in (("addition_embed_type", None), ("class_embed_type", None), ("encoder_hid_dim", None)):
        if unet.get(key) != value:
            raise UnknownArchitectureError(f"unet: {key} is {unet[key]}, which Stable Diffusion 1.x has not")
    if unet.get("in_channels") != vae.get("latent_channels"):
        raise UnknownArchitectureError(
            f"unet takes {unet.get('in_channels')} channels, a latent has {vae.get('latent_channels')}: "
            "models to edit images with are not known"
        )
    text = read_json(folder / "text_encoder" / "config.json")
    _check_texts(unet, text)
    for part, names in _WEIGHTS.items():
        if not any((folder / part / name).is_file() for name in names):
            raise CheckpointError(f"{part} has no weights: neither of {', '.join(names)} is in {part}/")
    for name in ("vocab.json", "merges.txt"):
        if not (folder / "tokenizer" / name).is_file():
            raise CheckpointError(f"the tokenizer is not whole: tokenizer/{name} is missing")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    checkpoint = Checkpoint(
        folder=folder,
        unet=unet,
        vae=vae,
        text=text,
        scheduler=scheduler,
        tokenizer=read_json(folder / "tokenizer" / "tokenizer_config.json"),
        lora=lora,
        tiny=tiny,
        safety_checker=_safety_checker(folder, index),
        draws=_draws(folder / DRAWS_FILE),
    )
    if checkpoint.native and lora is not None:
        raise CheckpointError(
            "this UNet is a latent consistency model already: there is nothing to fuse an LCM-LoRA for"
        )
    distilled = checkpoint.native or lora is not None or scheduler.get("_class_name") == LCM
    return replace(checkpoint, sampler=choose_sampler(scheduler, distilled=distilled, wanted=sampler))


def _draws(path: Path) -> Draws | None:
    if not path.is_file():
        return None
    try:
        return Draws.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path.name} does not say what the model draws: {error}") from error


def _check_texts(unet: Config, text: Config) -> None:
    """Raises UnknownArchitectureError for the text tower of Stable Diffusion 2, or one that the UNet is not made for."""
    width, looked_at = text.get("hidden_size"), unet.get("cross_attention_dim")
    if width == _SECOND_WIDTH or unet.get("use_linear_projection"):
        raise UnknownArchitectureError(
            f"this is Stable Diffusion 2: its text tower is OpenCLIP's, {width} wide; the builder knows Stable Diffusion 1.x"
        )
    if width != looked_at:
        raise UnknownArchitectureError(f"text_encoder gives texts {width} wide, the unet takes {looked_at}")


def _safety_checker(folder: Path, index: Config) -> str:
    entry = index.get("safety_checker")
    if not (isinstance(entry, list) and entry and entry[-1]):
        return "absent in the checkpoint"
    there = (folder / "safety_checker").is_dir()
    return f"{entry[-1]} named by the checkpoint{'' if there else ' (its files were not fetched)'}, not built in"


def read_json(path: Path) -> Config:
    """A JSON object; raises CheckpointError."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent.name}/{path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.parent.name}/{path.name} cannot be read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name} is no object")
    return content


def load_unet(checkpoint: Checkpoint) -> Any:
    """The UNet in float32, the LoRA fused."""
    from mirage_models.generator.lora import fuse_lora

    unet = _load(UNet2DConditionModel, checkpoint.folder, "unet")
    if checkpoint.lora is not None:
        fuse_lora(unet, checkpoint.lora)
    return unet


def load_vae(checkpoint: Checkpoint) -> Any:
    """The autoencoder in float32."""
    return _load(AutoencoderKL, checkpoint.folder, "vae")


def load_text(checkpoint: Checkpoint) -> Any:
    """The text tower in float32."""
    return _load(CLIPTextModel, checkpoint.folder, "text_encoder")


def load_tiny(folder: Path) -> Any:
    """A tiny autoencoder in float32; raises UnknownArchitectureError for another one."""
    config = read_json(folder / "config.json")
    if config.get("_class_name") != "AutoencoderTiny":
        raise UnknownArchitectureError(f"tiny decoder: a {config.get('_class_name')}; an AutoencoderTiny is known")
    return _load(AutoencoderTiny, folder.parent, folder.name)


def _load(kind: Any, folder: Path, part: str) -> Any:
    safe = any((folder / part).glob("*.safetensors"))
    try:
        # Pickled weights are read by torch.load(weights_only=True): no code of the checkpoint runs.
        module, report = kind.from_pretrained(
            folder / part,
            **{"dtype" if kind is CLIPTextModel else "torch_dtype": torch.float32},
            use_safetensors=safe,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # the libraries raise whatever the file gave them
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise CheckpointError(f"{part}: the weights cannot be loaded: {reason}") from error
    missing = sorted(report.get("missing_keys", ()))
    unexpected = sorted(key for key in report.get("unexpected_keys", ()) if not key.endswith(_DISPENSABLE))
    wrong = [str(each[0]) for each in report.get("mismatched_keys", ())]
    for what, keys in (("lacks", missing), ("has, and should not have,", unexpected), ("has in another shape", wrong)):
        if keys:
            raise CheckpointError(f"{part} {what} {keys[0]}" + (f" and {len(keys) - 1} more" if len(keys) > 1 else ""))
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{part}: {name} holds values that are no numbers")
    return module.eval().requires_grad_(False)
