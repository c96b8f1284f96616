"""The arithmetic of queries: weighted terms, added up and normalised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mirage_core.errors import Code, MirageError

Array = npt.NDArray[np.float32]

# A sum this much shorter than its terms is what rounding leaves of terms that cancel; its direction means nothing.
CANCELS_BELOW = 1e-3


@dataclass(frozen=True, eq=False)
class Combination:
    """A query: `vector` is of length 1, float32, shape (dimension,).

    `shift` is its cosine with the first term. `shares` say what each term contributed: the projection of the weighted
    term on the query over the length of the weighted sum; they add up to 1.
    """

    vector: Array
    shift: float
    shares: tuple[float, ...]


def check_weights(weights: Sequence[float]) -> None:
    """Raises WEIGHT_NOT_FINITE or WEIGHTS_ALL_ZERO."""
    if not all(map(math.isfinite, weights)):
        raise MirageError(Code.WEIGHT_NOT_FINITE)
    if not any(weights):
        raise MirageError(Code.WEIGHTS_ALL_ZERO)


def combine(vectors: Sequence[Array], weights: Sequence[float]) -> Combination:
    """Returns the weighted sum of unit vectors, normalised.

    Raises WEIGHT_NOT_FINITE, WEIGHTS_ALL_ZERO, or QUERY_CANCELS_OUT if the sum is shorter than CANCELS_BELOW times
    the sum of the absolute weights.
    """
    check_weights(weights)
    if len(vectors) == 1:
        sign = math.copysign(1.0, weights[0])
        return Combination(vectors[0] * np.float32(sign), sign, (1.0,))
    # Only the ratio of the weights matters; scaled to 1 they cannot overflow.
    scaled = np.asarray(weights, dtype=np.float64)
    scaled = scaled / np.abs(scaled).max()
    terms = np.stack(vectors).astype(np.float64)
    total = scaled @ terms
    length = math.sqrt(total @ total)
    if length < CANCELS_BELOW * float(np.abs(scaled).sum()):
        raise MirageError(Code.QUERY_CANCELS_OUT)
    query = total / length
    cosines = terms @ query
    shares = scaled * cosines / length
    return Combination(query.astype(np.float32), max(-1.0, min(1.0, float(cosines[0]))), tuple(shares.tolist()))


def cosine(first: Array, second: Array) -> float:
    """Of two unit vectors."""
    return float(np.clip(np.dot(first.astype(np.float64), second.astype(np.float64)), -1, 1))
