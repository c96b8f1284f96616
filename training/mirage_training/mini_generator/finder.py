"""A network finds lesions in pictures, and names their contrast. With it the network of few steps learns to draw a lesion if
a text names one, and only then (agreement.py).

It learns from the rendered pictures, not from the encoder that judges the generator in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_training.mini_generator.autoencoder import as_input
from mirage_training.mini_generator.emphasis import lesion_cores, lesion_latents
from mirage_training.mini_generator.recipe import LATENT_SCALE, SIDE_PX
from mirage_training.mini_generator.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirage_atlas.demo.sections import SectionSpec
    from mirage_training.mini_generator.pictures import Pictures
    from mirage_training.mini_generator.recipe import Recipe
    from mirage_training.mini_generator.stage import Losses, Pace

WEIGHT = 10.0
CONTRAST_WEIGHT = 0.1
NOISE = 0.04
"""The most noise, as spread, that is added to a picture of -1..1; some pictures are also smoothed a little."""
SMOOTHED = 0.3
_GROUPS = 8


class LesionFinder(nn.Module):
    """Grey pictures float32 [B, 1, 160, 160] in -1..1 to logits [B, 1, 20, 20] of a lesion in each square of 8 px, and to
    those of the contrasts [B, 3], in the order of `SEQUENCES`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(1, width, stride=2)
        self.second = nn.Sequential(
            _convolution(width, 2 * width, stride=2), _convolution(2 * width, 2 * width, stride=1)
        )
        self.third = nn.Sequential(
            _convolution(2 * width, 4 * width, stride=2),
            _convolution(4 * width, 4 * width, stride=1, dilation=2),
            _convolution(4 * width, 4 * width, stride=1, dilation=4),
        )
        self.whole = nn.Linear(4 * width, 4 * width)
        # Two more channels: where in the picture a square is.
        self.join = nn.Conv2d(4 * width + 2, 4 * width, 1)
        self.last = nn.Conv2d(4 * width, 1, 1)
        self.contrast = nn.Linear(4 * width, len(SEQUENCES))
        line = torch.linspace(-1, 1, SIDE_PX // LATENT_SCALE)
        self.register_buffer("places", torch.stack(torch.meshgrid(line, line, indexing="xy"))[None])

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.third(self.second(self.first(pictures)))
        mean = features.mean(dim=(2, 3))
        placed = torch.cat([features, self.get_buffer("places").expand(len(features), -1, -1, -1)], dim=1)
        lesions = self.last(functional.silu(self.join(placed) + self.whole(mean)[:, :, None, None]))
        return lesions, self.contrast(mean)


def _convolution(inner: int, outer: int, *, stride: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, stride, dilation, dilation=dilation), nn.GroupNorm(_GROUPS, outer), nn.SiLU()
    )


@dataclass(frozen=True)
class Truth:
    """Which squares show a lesion, float32 [N, 1, 20, 20] of 0 or 1, and which count: not the rim of a lesion."""

    lesions: Tensor
    counted: Tensor

    def of(self, chosen: Tensor) -> Truth:
        """The rows of these pictures."""
        return Truth(self.lesions[chosen], self.counted[chosen])

    def turned(self) -> Truth:
        """As in a mirror."""
        return Truth(self.lesions.flip(3), self.counted.flip(3))

    def error(self, logits: Tensor) -> Tensor:
        """The mean binary cross-entropy of the squares that count."""
        losses = functional.binary_cross_entropy_with_logits(logits, self.lesions, reduction="none")
        return (losses * self.counted).sum() / self.counted.sum()


def truth(specs: Sequence[SectionSpec]) -> Truth:
    """What is known of pictures: a pose moves a lesion by up to half a square, so its rim does not count."""
    cores = lesion_cores(specs)
    return Truth(cores.float(), (cores | ~lesion_latents(specs)).float())


def finder_stage(folder: Path, recipe: Recipe) -> Stage:
    """The stage, as far as it got in this folder."""
    torch.manual_seed(recipe.seed + 2)
    return Stage(folder, "finder", LesionFinder(recipe.finder_width), recipe.finder)


def train_finder(stage: Stage, pictures: Pictures, recipe: Recipe, pace: Pace) -> bool:
    """Train on; True at the end."""
    if stage.done:
        return True
    known, sequences = truth(pictures.specs), contrasts(pictures.specs)

    def losses(step: int) -> Losses:
        rng = np.random.default_rng([recipe.seed, 6, step])
        chosen = rng.integers(len(pictures.pixels), size=recipe.finder.batch)
        shown, right = as_input(pictures.pixels[chosen])[:, :1], known.of(torch.from_numpy(chosen))
        if rng.random() < 0.5:
            shown, right = shown.flip(3), right.turned()
        if rng.random() < SMOOTHED:
            around = functional.pad(shown, (1, 1, 1, 1), mode="replicate")
            shown = 0.4 * shown + 0.6 * functional.avg_pool2d(around, 3, stride=1)
        noise = torch.from_numpy(rng.standard_normal(shown.shape, dtype=np.float32))
        lesions, contrast = stage.model(shown + float(rng.uniform(0, NOISE)) * noise)
        wrong = functional.cross_entropy(contrast, sequences[torch.from_numpy(chosen)])
        return {"lesions": WEIGHT * right.error(lesions), "contrast": CONTRAST_WEIGHT * wrong}

    return stage.run(losses, pace)


def contrasts(specs: Sequence[SectionSpec]) -> Tensor:
    """The number of each section's contrast, int64 [N]."""
    return torch.tensor([SEQUENCES.index(spec.sequence) for spec in specs])
