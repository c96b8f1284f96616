"""Intervals of measured shares."""

from math import sqrt

_Z = 1.959964


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share (Wilson, JASA 22, 1927); 0 to 1 without data."""
    if not total:
        return 0.0, 1.0
    share, square = hits / total, _Z * _Z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = _Z * sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)
