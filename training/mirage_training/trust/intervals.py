"""Shares with their 95 % intervals (Wilson 1927)."""

from __future__ import annotations

from dataclasses import dataclass

from mirage_core.intervals import wilson


@dataclass(frozen=True)
class Share:
    """`hits` of `total`."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The share, 0 to 1; 0 of nothing."""
        return self.hits / self.total if self.total else 0.0

    def interval(self) -> tuple[float, float]:
        """Returns the bounds of the true share with 95 % confidence."""
        return wilson(self.hits, self.total)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:.3f} ({low:.3f} to {high:.3f}; {self.hits} of {self.total})"
