"""What a verification finds: one comparison with the original's outputs, and the bar that it had to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """`measured` on `items` of `what` (such as "text: least cosine") in one variant, and the least that it had to be."""

    variant: str
    what: str
    items: int
    measured: float
    bar: float

    @property
    def passed(self) -> bool:
        """True where the bar was reached; never for a NaN."""
        return self.measured >= self.bar
