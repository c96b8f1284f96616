"""One comparison with the original's outputs, and the bar that it has to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """`measured` on `items` of `what` (such as "text: least cosine") in one variant, and the least that it had to
    be.
    """

    variant: str
    what: str
    items: int
    measured: float
    bar: float

    @property
    def passed(self) -> bool:
        """Returns True if the bar is reached; never for a NaN."""
        return self.measured >= self.bar
