"""The order of a head's dimensions for ONNX Runtime's attention.

The kernel wants heads of a multiple of 16, and the two halves that turn against each other of a multiple of 8; Dolly's
heads (80, of which 20 turn) do not fit. Attention gives the same result for any order of the dimensions, if queries
and keys have the same one: so dimensions that do not turn are put between those that do, with an angle of zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from mirage_models.llm.architecture import NeoxConfig

    Floats = npt.NDArray[np.float32]

_HALF, _HEAD = 8, 16


@dataclass(frozen=True)
class HeadLayout:
    """`places[i]` is the dimension at place i of a query's or key's head, -1 for a zero.

    `size` dimensions in all, of which twice `half` go through the kernel's rotation, `turning` pairs of them by an
    angle.
    """

    places: tuple[int, ...]
    half: int
    turning: int

    @property
    def size(self) -> int:
        """Dimensions of a head as the kernel sees it."""
        return len(self.places)


def head_layout(config: NeoxConfig) -> HeadLayout:
    """Returns the layout of a model's heads: unchanged if the kernel takes it."""
    turning = config.rotary // 2
    half = max(_HALF, -(-turning // _HALF) * _HALF)
    still = iter(range(config.rotary, config.head))
    places = [*range(turning), *(next(still, -1) for _ in range(half - turning))]
    places += [*range(turning, config.rotary), *(next(still, -1) for _ in range(half - turning))]
    places += list(still)
    places += [-1] * (-len(places) % _HEAD)
    return HeadLayout(tuple(places), half, turning)


def rotation(config: NeoxConfig, layout: HeadLayout) -> tuple[Floats, Floats]:
    """Returns cosines and sines float32 [context, half] of the rotary embedding (Su et al. 2021).

    1 and 0 for dimensions that do not turn.
    """
    frequencies = config.rotary_base ** -(np.arange(layout.turning, dtype=np.float64) / max(1, layout.turning))
    # In float32, as transformers computes them.
    angles = np.arange(config.context, dtype=np.float32)[:, None] * frequencies.astype(np.float32)
    angles = np.pad(angles, ((0, 0), (0, layout.half - layout.turning)))
    return np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)


def arrange(part: Floats, places: tuple[int, ...]) -> Floats:
    """Heads [H, D, ...] with their dimensions at these places: [H * len(places), ...]."""
    index = np.array(places)
    arranged = np.where((index >= 0).reshape(1, -1, *[1] * (part.ndim - 2)), part[:, index], np.float32(0))
    return arranged.reshape(-1, *part.shape[2:])


def plain_places(head: int, size: int) -> tuple[int, ...]:
    """For values, whose order stays: the head's dimensions, then zeros."""
    return (*range(head), *[-1] * (size - head))
