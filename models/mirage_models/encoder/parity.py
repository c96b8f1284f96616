"""Distance of vectors from the original's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mirage_inference.bundles import Parity

if TYPE_CHECKING:
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

NEIGHBOURS = 10


def overlap(queries: Vectors, images: Vectors, *, against: tuple[Vectors, Vectors]) -> float:
    """Mean share of each query's ten nearest images that stays the same as for the (queries, images) in `against`."""
    here, there = _nearest(queries, images), _nearest(*against)
    shared = [len(np.intersect1d(first, second)) for first, second in zip(here, there, strict=True)]
    return float(np.mean(shared) / here.shape[1])


def _nearest(queries: Vectors, images: Vectors) -> npt.NDArray[np.intp]:
    # A stable sort: equal scores keep the order of the images on both sides.
    return np.argsort(-(queries @ images.T), axis=1, kind="stable")[:, :NEIGHBOURS]


def measure(vectors: Vectors, original: Vectors, *, overlap_at_10: float | None) -> Parity:
    """Cosines of unit vectors, row by row, as a Parity."""
    cosines = (vectors.astype(np.float64) * original.astype(np.float64)).sum(axis=1)
    return Parity(
        items=len(vectors),
        cosine_min=round(float(cosines.min()), 6),
        cosine_mean=round(float(cosines.mean()), 6),
        overlap_at_10=None if overlap_at_10 is None else round(overlap_at_10, 4),
    )
