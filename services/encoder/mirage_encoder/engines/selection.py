"""Selects the engine of a tower."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from mirage_core.errors import Code, MirageError
from mirage_encoder.engines.base import Engine, EngineOptions
from mirage_encoder.engines.onnxruntime import OnnxRuntimeEngine

EngineChoice: TypeAlias = Literal["auto", "onnxruntime", "openvino"]
EngineKind: TypeAlias = Literal["onnxruntime", "openvino"]

# Below this a tower answers in a few milliseconds anywhere, and OpenVINO's own memory would be the larger part.
_LARGE_BYTES = 100 * 2**20


def resolve(choice: EngineChoice, path: Path, *, mixes_batch: bool) -> EngineKind:
    """Returns the engine of a tower's file: the chosen one; with "auto", OpenVINO for large towers if it is installed.

    Towers whose activations are quantised at run time (`mixes_batch`) are excepted: ONNX Runtime has kernels for them.
    """
    if choice != "auto":
        return choice
    if not mixes_batch and path.stat().st_size >= _LARGE_BYTES and find_spec("openvino") is not None:
        return "openvino"
    return "onnxruntime"


def make_engine(kind: EngineKind, options: EngineOptions) -> Engine:
    """Returns an engine; raises BUNDLE_INVALID if it is not installed."""
    if kind == "onnxruntime":
        return OnnxRuntimeEngine(options)
    try:
        # Imported here: it costs memory and start time that a small model does not repay.
        from mirage_encoder.engines.openvino import OpenVinoEngine
    except ImportError as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the engine openvino is not installed") from error
    return OpenVinoEngine(options)
