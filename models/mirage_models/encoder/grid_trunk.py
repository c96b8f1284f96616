"""An image trunk that keeps places: EfficientNet-Lite0 with what is seen where next to what is seen at all.

Averaging over the picture loses the side of a lesion and the level of a section. This trunk joins the usual average with a narrow
copy of the last feature map, cell by cell. timm knows it as `mirage_lite0_grid`, so that open_clip builds it by its name.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import register_model

NAME = "mirage_lite0_grid"
SIDE = 6
"""Cells along a side of the last feature map, for pictures of 192 pixels."""
NARROW = 32


class GridTrunk(torch.nn.Module):
    """float32 [B, 3, 192, 192] to float32 [B, num_features]."""

    num_features = 1280 + NARROW * SIDE * SIDE

    def __init__(self) -> None:
        """Begins with random weights."""
        super().__init__()
        self.body: Any = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        self.places = torch.nn.Conv2d(1280, NARROW, 1)
        self.default_cfg: dict[str, Any] = {}

    def reset_classifier(self, classes: int, **_: object) -> None:
        """Does nothing: it has no classifier. open_clip calls this on every trunk."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode."""
        return self.join(self.body.forward_features(pixels))

    def join(self, hidden: torch.Tensor) -> torch.Tensor:
        """Joins the average of the last feature map with its narrow copy."""
        return torch.cat([hidden.mean(dim=(2, 3)), self.places(hidden).flatten(1)], dim=1)


@register_model  # type: ignore[untyped-decorator]  # timm has no types here
def mirage_lite0_grid(pretrained: bool = False, **_: object) -> GridTrunk:
    """Returns the trunk with random weights, however it is asked."""
    return GridTrunk()
