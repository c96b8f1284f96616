"""Vectors between numpy and the wire."""

import numpy as np
import numpy.typing as npt

from mirage.v1.common_pb2 import Vector
from mirage_core.errors import Code, MirageError

Array = npt.NDArray[np.float32]


def to_proto(vector: Array) -> Vector:
    """The message for a float32 array of shape (dimension,)."""
    return Vector(values=vector.tolist())


def from_proto(vector: Vector) -> Array:
    """The float32 array of shape (dimension,) in a message, unchecked."""
    return np.fromiter(vector.values, dtype=np.float32, count=len(vector.values))


def check_unit(vector: Array, *, dimension: int) -> Array:
    """Returns the normalised vector; raises VECTOR_* if it has another dimension, is not finite or is zero."""
    if vector.shape != (dimension,):
        raise MirageError(Code.VECTOR_WRONG_DIMENSION, expected=dimension, given=vector.size)
    if not np.isfinite(vector).all():
        raise MirageError(Code.VECTOR_NOT_FINITE)
    # In float64, so that huge finite components do not overflow to infinity.
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length < 1e-12:
        raise MirageError(Code.VECTOR_ZERO)
    return (vector / np.float64(length)).astype(np.float32)
