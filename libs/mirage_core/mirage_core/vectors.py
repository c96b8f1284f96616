"""Vectors between numpy and the wire."""

import math

import numpy as np
import numpy.typing as npt

from mirage_core.errors import Code, MirageError
from mirage_protos.v1.vector_pb2 import Vector

Array = npt.NDArray[np.float32]


def vector_to_proto(vector: Array) -> Vector:
    """Returns the message for a float32 array of shape (dimension,)."""
    return Vector(float32=np.ascontiguousarray(vector, dtype="<f4").tobytes())


def vector_from_proto(vector: Vector) -> Array:
    """Returns the float32 array of shape (dimension,) in a message, read-only; its values are not checked.

    Raises REQUEST_MALFORMED if the bytes are not whole float32 components.
    """
    if len(vector.float32) % 4:
        raise MirageError(Code.REQUEST_MALFORMED, field="vector")
    return np.frombuffer(vector.float32, dtype="<f4").astype(np.float32, copy=False)


def check_unit(vector: Array, *, dimension: int) -> Array:
    """Returns the normalised vector; raises VECTOR_* if it has another dimension, is not finite or is zero."""
    if vector.shape != (dimension,):
        raise MirageError(Code.VECTOR_WRONG_DIMENSION, expected=dimension, given=vector.size)
    # In float64, so that huge finite components do not overflow to infinity.
    wide = vector.astype(np.float64)
    length = math.sqrt(wide @ wide)
    if not math.isfinite(length):
        raise MirageError(Code.VECTOR_NOT_FINITE)
    if length < 1e-12:
        raise MirageError(Code.VECTOR_ZERO)
    return (wide / length).astype(np.float32)
