"""The pictures that are trained on: sections at training levels, each in a pose of its own, kept as pixels on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_generator.recipe import SIDE_PX

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirage_training.mini_clip.batches import SectionSource

Pixels = NDArray[np.uint8]
SHARD = 500
"""Pictures of one file: what a stopped run renders again at most."""


@dataclass(frozen=True)
class Pose:
    """Pose and exposure of a section in its picture: mild changes, so that no two pictures of a section are the
    same.
    """

    angle: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: tuple[float, float] = (0.0, 0.0)
    gamma: float = 1.0
    gain: float = 1.0


def draw_pose(rng: np.random.Generator) -> Pose:
    """A pose: turned by about 2 degrees, stretched by 2 %, moved by 1 mm; gamma and gain within a few per cent."""
    angle = float(np.clip(rng.normal(0, 2.0), -5, 5) * np.pi / 180)
    scale = [float(each) for each in rng.normal(1, 0.02, 2).clip(0.95, 1.05)]
    shift = [float(each) for each in rng.normal(0, 0.012, 2).clip(-0.03, 0.03)]
    gamma, gain = float(np.exp(rng.normal(0, 0.06))), float(rng.normal(1, 0.03))
    return Pose(angle, (scale[0], scale[1]), (shift[0], shift[1]), gamma, gain)


def posed(picture: NDArray[np.float32], pose: Pose) -> Pixels:
    """A native section float32 [FIELD_MM, FIELD_MM] 0..1 as a picture uint8 [SIDE_PX, SIDE_PX]."""
    cosine, sine = np.cos(pose.angle), np.sin(pose.angle)
    theta = torch.tensor(
        [
            [cosine * pose.scale[0], -sine * pose.scale[1], pose.shift[0]],
            [sine * pose.scale[0], cosine * pose.scale[1], pose.shift[1]],
        ],
        dtype=torch.float32,
    )
    stack = torch.from_numpy(np.ascontiguousarray(picture))[None, None]
    # Sampled at twice the resolution and averaged: three native pixels make two, and fine folds would else alias.
    grid = functional.affine_grid(theta[None], [1, 1, 2 * SIDE_PX, 2 * SIDE_PX], align_corners=False)
    fine = functional.grid_sample(stack, grid, mode="bilinear", align_corners=False)
    shown = (functional.avg_pool2d(fine, 2)[0, 0].clamp(0, 1) ** pose.gamma * pose.gain).clamp(0, 1)
    pixels: Pixels = (shown * 255).round().to(torch.uint8).numpy()
    return pixels


def training_picture(source: SectionSource, seed: int, index: int) -> tuple[SectionSpec, Pixels]:
    """The picture of this number: the same whenever it is asked for."""
    rng = np.random.default_rng([seed, index])
    spec = source.draw(rng)
    return spec, posed(source.render(spec)[0], draw_pose(rng))


@dataclass(frozen=True)
class Pictures:
    """`pixels` uint8 [N, SIDE_PX, SIDE_PX] and what each shows."""

    pixels: Pixels
    specs: tuple[SectionSpec, ...]


def rendered(folder: Path, make_source: Callable[[], SectionSource], *, count: int, seed: int) -> Pictures:
    """Returns the training pictures, and renders those that the folder lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    source: SectionSource | None = None
    pixels, specs = [], []
    for start in range(0, count, SHARD):
        size = min(SHARD, count - start)
        path = folder / f"{start:06d}-{size}.npz"
        if not path.exists():
            source = source or make_source()
            made = [training_picture(source, seed, index) for index in range(start, start + size)]
            part = path.with_suffix(".part.npz")
            words = json.dumps([asdict(spec) for spec, _ in made])
            np.savez_compressed(part, pixels=np.stack([shown for _, shown in made]), specs=np.array(words))
            part.replace(path)
        with np.load(path) as stored:
            pixels.append(stored["pixels"])
            specs += [_spec(each) for each in json.loads(str(stored["specs"]))]
    return Pictures(np.concatenate(pixels), tuple(specs))


def _spec(content: dict[str, Any]) -> SectionSpec:
    lesion = content.pop("lesion")
    if lesion is not None:
        lesion = Lesion(**{**lesion, "centre_mm": tuple(lesion["centre_mm"]), "axes_mm": tuple(lesion["axes_mm"])})
    return SectionSpec(**content, lesion=lesion)
