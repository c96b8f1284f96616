"""Checkpoints with random weights in the public ones' files, keys and dtypes: to test the path, and to measure speed.

`python -m mirage_models.generator.random_checkpoint --kind prompt2medimage --size full --out DIR`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from mirage_models.generator.configs import (
    LORA_TARGETS,
    SIZES,
    Kind,
    Size,
    model_index,
    scheduler_config,
    text_config,
    tiny_config,
    unet_config,
    vae_config,
)
from mirage_models.generator.folder import write_json, write_part, write_tokenizer_files

if TYPE_CHECKING:
    from mirage_models.generator.folder import State

LORA_FILE = "pytorch_lora_weights.safetensors"
# The decoder's attention before diffusers renamed it, as the public checkpoints have it.
_OLD_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def write_random_checkpoint(kind: Kind, out: Path, *, size: Size = "small", seed: int = 0, half: bool = False) -> Path:
    """Write a folder in the layout of diffusers, the same bytes for the same seed.

    "prompt2medimage" has pickled weights (`.bin`), "lcm-dreamshaper-v7" safetensors. Weights are the libraries' own
    initialisation, in float32 or float16; the last layers are scaled so that noise is predicted, and colours are given,
    of the spread that trained models have.
    """
    sizes = SIZES[size]
    torch.manual_seed(seed)
    pickled = kind == "prompt2medimage"
    dtype = torch.float16 if half else torch.float32
    write_json(out / "model_index.json", model_index(kind))
    write_json(out / "scheduler" / "scheduler_config.json", scheduler_config(kind))
    write_tokenizer_files(out / "tokenizer")
    write_json(out / "feature_extractor" / "preprocessor_config.json", {"crop_size": 224, "size": 224})
    write_json(out / "safety_checker" / "config.json", {"architectures": ["StableDiffusionSafetyChecker"]})
    text = CLIPTextModel(CLIPTextConfig(**text_config(sizes))).state_dict()
    text["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    write_part(
        out / "text_encoder", text_config(sizes), text, dtype, "pytorch_model.bin" if pickled else "model.safetensors"
    )
    weights = "diffusion_pytorch_model." + ("bin" if pickled else "safetensors")
    vae = AutoencoderKL(**vae_config(sizes))
    _spread_decoder(vae, sizes.side // 8)
    config = {"_class_name": "AutoencoderKL", **vae_config(sizes)}
    write_part(out / "vae", config, _old_names(vae.state_dict()), dtype, weights)
    del vae
    unet = UNet2DConditionModel(**unet_config(kind, sizes)).eval()
    _spread_unet(unet, sizes.width)
    config = {"_class_name": "UNet2DConditionModel", **unet_config(kind, sizes)}
    write_part(out / "unet", config, unet.state_dict(), dtype, weights)
    return out


def write_random_lora(out: Path, *, size: Size = "small", seed: int = 0) -> Path:
    """Write `out/pytorch_lora_weights.safetensors` for the UNet of "prompt2medimage": float16, keys of kohya's form."""
    sizes = SIZES[size]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config("prompt2medimage", sizes))
    random = torch.Generator().manual_seed(seed)
    state: State = {}
    rank = sizes.lora_rank
    for name, module in unet.named_modules():
        if not any(name == target or name.endswith("." + target) for target in LORA_TARGETS):
            continue
        shape = tuple(module.weight.shape)
        key = "lora_unet_" + name.replace(".", "_")
        down = torch.randn((rank, *shape[1:]), generator=random) / rank
        up = torch.randn((shape[0], rank, *([1] * (len(shape) - 2))), generator=random) * 0.02
        state[f"{key}.lora_down.weight"], state[f"{key}.lora_up.weight"] = down.half(), up.half()
        state[f"{key}.alpha"] = torch.tensor(float(rank), dtype=torch.float16)
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / LORA_FILE, metadata={"format": "pt"})
    return out


def write_random_tiny_decoder(out: Path, *, size: Size = "small", seed: int = 0) -> Path:
    """Write `out/config.json` and `out/diffusion_pytorch_model.safetensors` of a tiny autoencoder, float32."""
    torch.manual_seed(seed)
    config = tiny_config(SIZES[size])
    state = AutoencoderTiny(**config).state_dict()
    config = {"_class_name": "AutoencoderTiny", **config}
    write_part(out, config, state, torch.float32, "diffusion_pytorch_model.safetensors")
    return out


def _old_names(state: State) -> State:
    out = {}
    for name, tensor in state.items():
        old = name
        if ".mid_block.attentions." in name:
            for new, former in _OLD_NAMES.items():
                old = old.replace(new, former)
        out[old] = tensor
    return out


def _spread_unet(unet: Any, width: int) -> None:
    random = torch.Generator().manual_seed(0)
    latents = torch.randn((1, 4, 16, 16), generator=random)
    with torch.no_grad():
        predicted = unet(latents, 500, torch.randn((1, 77, width), generator=random)).sample
        unet.conv_out.weight /= predicted.std()
        unet.conv_out.bias.zero_()


def _spread_decoder(vae: Any, side: int) -> None:
    latents = torch.randn((1, 4, min(side, 16), min(side, 16)), generator=torch.Generator().manual_seed(0)) / 0.18215
    with torch.no_grad():
        image = vae.decode(latents).sample
        vae.decoder.conv_out.weight *= 0.5 / image.std()
        vae.decoder.conv_out.bias.zero_()


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.generator.random_checkpoint", description=__doc__)
    parser.add_argument("--kind", choices=[*get_args(Kind), "lora", "tiny-decoder"], required=True)
    parser.add_argument("--size", choices=get_args(Size), default="small")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--half", action="store_true", help="weights in float16")
    parsed = parser.parse_args()
    if parsed.kind == "lora":
        write_random_lora(parsed.out, size=parsed.size, seed=parsed.seed)
    elif parsed.kind == "tiny-decoder":
        write_random_tiny_decoder(parsed.out, size=parsed.size, seed=parsed.seed)
    else:
        write_random_checkpoint(parsed.kind, parsed.out, size=parsed.size, seed=parsed.seed, half=parsed.half)


if __name__ == "__main__":
    main()
