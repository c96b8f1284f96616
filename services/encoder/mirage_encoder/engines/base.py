"""The Protocol of an engine, which runs one ONNX file on this machine's processors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]


class Session(Protocol):
    """A loaded tower. Safe to call from several threads at once."""

    def run(self, batch: npt.NDArray[Any]) -> FloatArray:
        """`batch` (first axis: items) to float32 of shape (items, dimension); raises MODEL_FAILED."""
        ...

    def close(self) -> None:
        """Frees what it holds; `run` must not be called again."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """Options of running towers: `threads` for one inference.

    `reduced_precision` lets an engine compute in bfloat16.
    """

    threads: int
    reduced_precision: bool = True


class Engine(Protocol):
    """Loads towers."""

    @property
    def description(self) -> str:
        """Name and version, such as "onnxruntime 1.32.0"."""
        ...

    def load(self, path: Path, *, input_name: str, output_name: str) -> Session:
        """Loads the tower of an ONNX file; raises BUNDLE_INVALID if it cannot be loaded or lacks these names."""
        ...


EngineFactory: TypeAlias = Callable[[EngineOptions], Engine]
