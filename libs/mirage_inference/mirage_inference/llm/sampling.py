"""Chooses the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Sampling:
    """`temperature` 0 takes the most likely token.

    Above, one is drawn from the likeliest that make up `top_p` together.

    (Nucleus sampling, Holtzman et al. 2020.) The same seed draws the same tokens. Raises ValueError outside of the
    ranges.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10 or not 0 < self.top_p <= 1 or self.seed < 0:
            raise ValueError(f"temperature 0 to 10, top_p above 0 and at most 1, seed not negative: not {self}")


class Sampler:
    """Draws the tokens of one text."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def pick(self, logits: npt.NDArray[np.float32]) -> int:
        """A token for logits [V]; of equally likely ones the first."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self._sampling.temperature
        shares = np.exp(scaled - scaled.max())
        shares /= shares.sum()
        order = np.argsort(-shares, kind="stable")
        running = np.cumsum(shares[order])
        # The token with which the sum reaches top_p still belongs.
        count = int(np.searchsorted(running, self._sampling.top_p)) + 1
        point = self._random.random() * running[min(count, len(order)) - 1]
        return int(order[min(int(np.searchsorted(running, point, side="right")), count - 1, len(order) - 1)])
