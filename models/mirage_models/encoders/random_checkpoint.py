"""A checkpoint with random weights, to measure speed where no trained weights can be had.

`python -m mirage_models.encoders.random_checkpoint --config vit-l-14-448 --out DIR --seed 0`
"""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from mirage_models.encoders.checkpoint import CONFIG_FILE, WEIGHTS_FILE


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    folder = resources.files("mirage_models.encoders") / "configs"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def write_random_checkpoint(preset: str, out: Path, *, seed: int = 0, half: bool = False) -> Path:
    """Write `out/open_clip_config.json` and `out/open_clip_model.safetensors`, the same bytes for the same seed.

    Weights are open_clip's own initialisation, in float32 or float16. Raises KeyError for a preset that is not there.
    """
    if preset not in preset_names():
        raise KeyError(preset)
    text = (resources.files("mirage_models.encoders") / "configs" / f"{preset}.json").read_text("utf-8")
    config = json.loads(text)
    torch.manual_seed(seed)
    model = CLIP(**config["model_cfg"])
    dtype = torch.float16 if half else torch.float32
    state = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / WEIGHTS_FILE)
    (out / CONFIG_FILE).write_text(text, "utf-8")
    return out


def main() -> None:
    """Read the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m mirage_models.encoders.random_checkpoint", description=__doc__)
    parser.add_argument("--config", choices=preset_names(), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_random_checkpoint(arguments.config, arguments.out, seed=arguments.seed)


if __name__ == "__main__":
    main()
