"""Prepare the views to train on: `python -m mirage_training.mini_clip.prepare --work DIR --archives DIR --real DIR`.

Shards that are there are passed over, so a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import importlib.resources
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor

from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_clip.items import Made, Others, Pictures, Real, Renderings, Volumes
from mirage_training.mini_clip.towers import read_image_weights
from mirage_training.mini_clip.views import write_shard
from mirage_training.mini_clip.workfolder import cached_template

FROZEN = 5
"""Stages of the image tower that stay as ImageNet left them."""


def read_config() -> dict[str, Any]:
    """The one configuration of a run."""
    text = (importlib.resources.files("mirage_training.mini_clip") / "config.toml").read_text("utf-8")
    return tomllib.loads(text)


def frozen_stages(towers: Path) -> Callable[[Tensor], Tensor]:
    """Pixels to the features of the last frozen stage: float32 [N, 112, 12, 12]."""
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    trunk.load_state_dict(read_image_weights(towers))
    trunk = trunk.eval().to(memory_format=torch.channels_last)

    def run(pixels: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            hidden = trunk.bn1(trunk.conv_stem(pixels.to(memory_format=torch.channels_last)))
            for stage in trunk.blocks[:FROZEN]:
                hidden = stage(hidden)
        return hidden.float().contiguous()

    return run


def photographs() -> list[Image.Image]:
    """Photographs of installed packages: scikit-image, scikit-learn."""
    pictures = []
    for package, names in (
        ("skimage.data", ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png",
                          "gravel.png", "horse.png", "motorcycle_left.png", "page.png", "rocket.jpg", "text.png")),
        ("sklearn.datasets.images", ("china.jpg", "flower.jpg")),
    ):  # fmt: skip
        for name in names:
            file = importlib.resources.files(package) / name
            if file.is_file():
                with file.open("rb") as opened:
                    pictures.append(Image.open(opened).convert("RGB"))
    return pictures


def main() -> int:
    """Write the shards that are missing."""
    parser = argparse.ArgumentParser(prog="python -m mirage_training.mini_clip.prepare", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the views")
    parser.add_argument("--towers", type=Path, required=True, help="folder with the archives of the two towers")
    parser.add_argument("--archives", type=Path, required=True, help="folder with the demonstration's archives")
    parser.add_argument("--real", type=Path, required=True, help="folder of real images with captions.jsonl")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shards", type=int, help="number of shards, if not that of the configuration")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = read_config()
    shards = config["views"]["shards"] if arguments.shards is None else arguments.shards
    source = SectionSource(cached_template(arguments.work))
    renderings, volumes, pictures = Renderings(source), Volumes(arguments.archives), Pictures(arguments.archives)
    real, others = Real(arguments.real, "train"), Others(photographs(), source)
    makers: dict[str, Callable[[np.random.Generator], Made]] = {
        "brain": renderings.make, "real": real.make, "volumes": volumes.make, "pictures": pictures.make, "others": others.make,
    }  # fmt: skip
    stem = frozen_stages(arguments.towers)
    for number in range(shards):
        path = arguments.work / "views" / f"{number:03d}.npy"
        if path.exists():
            continue
        began = time.monotonic()
        write_shard(path, number, config["seed"], makers, stem)
        print(f"{path.name}: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
