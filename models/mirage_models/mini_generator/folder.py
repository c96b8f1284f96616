"""The checkpoint as a folder: what is kept in the repository, and all of it for diffusers and for the builder.

`python -m mirage_models.mini_generator.folder --checkpoint DIR --out DIR` adds the mini CLIP's text tower and CLIP's
tokenizer, which the repository holds once, not twice.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch

from mirage_models.diffusion.folder import write_json, write_part, write_tokenizer_files
from mirage_models.mini_clip.model import load_checkpoint
from mirage_models.mini_generator.networks import schedule_config
from mirage_models.mini_generator.text_tower import mini_clip_checkpoint, text_config, text_state

if TYPE_CHECKING:
    from mirage_models.mini_generator.recipe import Recipe

KEPT = ("model_index.json", "scheduler", "unet", "vae")
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_BORROWED = "_text_tower"
_INDEX = {
    "_class_name": "LatentConsistencyModelPipeline",
    "_diffusers_version": diffusers.__version__,
    _BORROWED: "mini-clip",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_trained(out: Path, *, autoencoder: Any, unet: Any, recipe: Recipe) -> None:
    """Write what was trained, float16: index, schedule, UNet and autoencoder, whose latents need no scaling."""
    write_json(out / "model_index.json", _INDEX)
    write_json(out / "scheduler" / "scheduler_config.json", schedule_config(recipe))
    for part, network, more in (("unet", unet, {}), ("vae", autoencoder, {"scaling_factor": 1.0})):
        config = {key: value for key, value in network.config.items() if not key.startswith("_")}
        config = {"_class_name": type(network).__name__, **config, **more}
        write_part(out / part, config, network.state_dict(), torch.float16, _WEIGHTS)


def lacks_text_tower(checkpoint: Path) -> bool:
    """True for a folder that `write_trained` wrote and that was not completed."""
    try:
        index = json.loads((checkpoint / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get(_BORROWED) == "mini-clip"


def complete(checkpoint: Path, out: Path, *, clip: Path | None = None) -> Path:
    """Write the whole folder at `out`: what was trained, the mini CLIP's text tower and the tokenizer.

    Raises FileNotFoundError where the checkpoint lacks a part, and FileExistsError where `out` is there.
    """
    out.mkdir(parents=True)
    for name in KEPT:
        source = checkpoint / name
        if source.is_dir():
            shutil.copytree(source, out / name)
        else:
            shutil.copy(source, out / name)
    write_json(out / "model_index.json", {key: value for key, value in _INDEX.items() if key != _BORROWED})
    state = text_state(load_checkpoint(clip or mini_clip_checkpoint()))
    write_part(out / "text_encoder", text_config(), state, torch.float16, "model.safetensors")
    write_tokenizer_files(out / "tokenizer")
    return out


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and complete a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.mini_generator.folder", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="what the repository holds of the mini generator"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write, which must not be there")
    parsed = parser.parse_args(arguments)
    try:
        complete(parsed.checkpoint, parsed.out)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
