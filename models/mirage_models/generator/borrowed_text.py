"""The mini generator's text tower, which the repository keeps once: in the mini encoder's checkpoint.

`python -m mirage_models.generator.borrowed_text --checkpoint DIR --out DIR` writes the complete checkpoint folder, as diffusers
and the builder read it: what was trained, the mini encoder's text tower under transformers' names, and CLIP's tokenizer.
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
from safetensors.torch import load_file

from mirage_models.generator.folder import write_json, write_part, write_tokenizer_files
from mirage_models.paths import bundles_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

START, END = 49406, 49407
BORROWED = "_text_tower"
INDEX: dict[str, Any] = {
    "_class_name": "LatentConsistencyModelPipeline",
    "_diffusers_version": diffusers.__version__,
    BORROWED: "mini-clip",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "LCMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
"""`model_index.json` of a mini generator whose text tower is borrowed."""
_KEPT = ("model_index.json", "scheduler", "unet", "vae")
_LAYER_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def mini_clip_checkpoint() -> Path:
    """Returns the folder of the mini encoder's checkpoint."""
    return bundles_folder() / "clip" / "checkpoint"


def read_text_tower(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns `text_encoder/config.json` and the weights (float32) of the text tower of an open_clip checkpoint."""
    model = json.loads((checkpoint / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    weights = load_file(checkpoint / "open_clip_model.safetensors")
    state = text_state({name: value.float() for name, value in weights.items()}, layers=model["text_cfg"]["layers"])
    return text_config(model), state


def text_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns transformers' configuration of the text tower that an open_clip `model_cfg` describes."""
    text = model["text_cfg"]
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": START,
        "eos_token_id": END,
        "hidden_act": "gelu",
        "hidden_size": text["width"],
        "intermediate_size": 4 * text["width"],
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": text["context_length"],
        "model_type": "clip_text_model",
        "num_attention_heads": text["heads"],
        "num_hidden_layers": text["layers"],
        "pad_token_id": END,
        "projection_dim": model["embed_dim"],
        "vocab_size": text["vocab_size"],
    }


def text_state(clip: Mapping[str, Tensor], *, layers: int) -> dict[str, Tensor]:
    """Returns the text tower's weights by transformers' names, without its projection to the common space."""
    state = {
        "text_model.embeddings.token_embedding.weight": clip["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": clip["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        state[f"text_model.final_layer_norm.{kind}"] = clip[f"ln_final.{kind}"]
        for number in range(layers):
            there, here = f"transformer.resblocks.{number}", f"text_model.encoder.layers.{number}"
            thirds = clip[f"{there}.attn.in_proj_{kind}"].chunk(3)
            for name, third in zip(("q_proj", "k_proj", "v_proj"), thirds, strict=True):
                state[f"{here}.self_attn.{name}.{kind}"] = third
            for theirs, ours in _LAYER_NAMES.items():
                state[f"{here}.{ours}.{kind}"] = clip[f"{there}.{theirs}.{kind}"]
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def lacks_text_tower(checkpoint: Path) -> bool:
    """Returns True for a folder whose `model_index.json` names a borrowed text tower."""
    try:
        index = json.loads((checkpoint / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get(BORROWED) == "mini-clip"


def complete(checkpoint: Path, out: Path, *, clip: Path | None = None) -> Path:
    """Writes the complete folder at `out` and returns it; `clip` is the mini encoder's checkpoint folder.

    Raises FileNotFoundError if the checkpoint lacks a part, and FileExistsError if `out` exists.
    """
    out.mkdir(parents=True)
    for name in _KEPT:
        source = checkpoint / name
        if source.is_dir():
            shutil.copytree(source, out / name)
        else:
            shutil.copy(source, out / name)
    write_json(out / "model_index.json", {key: value for key, value in INDEX.items() if key != BORROWED})
    config, state = read_text_tower(clip or mini_clip_checkpoint())
    write_part(out / "text_encoder", config, state, torch.float16, "model.safetensors")
    write_tokenizer_files(out / "tokenizer")
    return out


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and completes a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.generator.borrowed_text", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="what the repository holds of the mini generator"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; it must not exist")
    parsed = parser.parse_args(arguments)
    try:
        complete(parsed.checkpoint, parsed.out)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
