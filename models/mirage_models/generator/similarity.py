"""Similarity of two images, and of two latents, in numpy, so that `verify` needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_WINDOW = 7


def cosine(first: Array, second: Array) -> float:
    """Returns the cosine of two arrays of one shape, taken as vectors; 0 if one of them is all zeros."""
    a, b = np.asarray(first, dtype=np.float64).ravel(), np.asarray(second, dtype=np.float64).ravel()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def ssim(first: Array, second: Array) -> float:
    """Structural similarity of two RGB images, uint8[height, width, 3]: the mean over channels and windows of 7 x 7.

    Source: Wang et al., 2004, with a uniform window and the sample covariance; equal to scikit-image's
    `structural_similarity(first, second, channel_axis=2)`. Raises ValueError for other shapes or sides below 7.
    """
    if first.shape != second.shape or first.ndim != 3 or min(first.shape[:2]) < _WINDOW:
        raise ValueError(f"shapes {first.shape} and {second.shape}")
    x, y = first.astype(np.float64), second.astype(np.float64)
    mean_x, mean_y = _means(x), _means(y)
    size = _WINDOW**2
    sample = size / (size - 1)
    variance_x = sample * (_means(x * x) - mean_x * mean_x)
    variance_y = sample * (_means(y * y) - mean_y * mean_y)
    covariance = sample * (_means(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float((likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))).mean())


def _means(values: Array) -> Array:
    # Covers every window inside the image, by running sums along one axis and then the other.
    for axis in (0, 1):
        sums = np.cumsum(values, axis=axis)
        sums = np.insert(sums, 0, 0.0, axis=axis)
        count = sums.shape[axis]
        ahead, behind = np.arange(_WINDOW, count), np.arange(0, count - _WINDOW)
        values = (sums.take(ahead, axis=axis) - sums.take(behind, axis=axis)) / _WINDOW
    return values
