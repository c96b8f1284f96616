"""Measures how far pictures are from real ones as a whole: how strong their fine detail is, and how their vectors are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

FINE = 0.25
"""Cycles a pixel from which detail counts as fine: half of what pixels can show."""


def fine_energy(pictures: Bytes) -> float:
    """The mean energy of a picture's fine detail, of grey pictures uint8 [N, side, side]."""
    side = pictures.shape[-1]
    places = np.fft.fftfreq(side)
    fine = np.hypot(places[:, None], places[None]) >= FINE
    spectra = np.abs(np.fft.fft2(pictures.astype(np.float64) / 255)) ** 2
    return float(spectra[:, fine].sum(axis=1).mean() / side**2)


def frechet_distance(some: Floats, others: Floats) -> float:
    """Frechet's distance of two normal distributions fitted to vectors [N, dim] (Heusel et al. 2017), here an encoder's.

    It depends on how many vectors there are: compare figures of as many only.
    """
    first, second = some.astype(np.float64), others.astype(np.float64)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of the root of a product of two covariances is the sum of the roots of its eigenvalues.
    roots = np.sqrt(np.linalg.eigvals(one @ other).real.clip(0)).sum()
    apart = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
    return float(apart + np.trace(one) + np.trace(other) - 2 * roots)
