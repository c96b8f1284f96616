"""The Protocol of an engine, which runs one ONNX file on this machine's processors."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
Inputs: TypeAlias = Mapping[str, npt.NDArray[Any]]


class Session(Protocol):
    """A loaded network. May be called from several threads; an engine may then run one call after the other."""

    def run(self, inputs: Inputs) -> FloatArray:
        """Arrays by input name to the network's one output, an array of its own in float32; raises MODEL_FAILED."""
        ...

    def close(self) -> None:
        """Frees what it holds; `run` then raises MODEL_NOT_READY."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """Options of running networks: `threads` for one inference.

    `reduced_precision` lets an engine compute in bfloat16.
    """

    threads: int
    reduced_precision: bool = True


class Engine(Protocol):
    """Loads networks."""

    @property
    def description(self) -> str:
        """Name and version, such as "onnxruntime 1.32.0"."""
        ...

    def load(self, path: Path, *, inputs: Collection[str], output: str) -> Session:
        """Loads the network of an ONNX file.

        Raises BUNDLE_INVALID if it cannot be loaded or has other inputs or outputs.
        """
        ...


EngineFactory: TypeAlias = Callable[[EngineOptions], Engine]
