"""Sources of the noise that images start from."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from mirage_inference.engines.base import FloatArray


class NoiseSource(Protocol):
    """Gives standard normal noise: first what the image starts from, then what each step but the last adds."""

    def draw(self, shape: tuple[int, ...]) -> FloatArray:
        """float32 of this shape."""
        ...


class SeededNoise:
    """Noise of a seed: numpy's PCG64, float32 by the ziggurat method; the same on every machine with the same numpy."""

    def __init__(self, seed: int) -> None:
        """Raises ValueError for a negative seed."""
        self._random = np.random.Generator(np.random.PCG64(seed))

    def draw(self, shape: tuple[int, ...]) -> FloatArray:
        """See NoiseSource.draw."""
        return self._random.standard_normal(shape, dtype=np.float32)


class GivenNoise:
    """Noise that was drawn elsewhere: to compare two programs on the same noise."""

    def __init__(self, arrays: Iterable[FloatArray]) -> None:
        self._arrays = iter(arrays)

    def draw(self, shape: tuple[int, ...]) -> FloatArray:
        """See NoiseSource.draw; raises ValueError if it is used up or has another shape."""
        array = next(self._arrays, None)
        if array is None or array.shape != shape:
            raise ValueError(f"no noise of shape {shape} was given")
        return np.asarray(array, dtype=np.float32)
