"""Engines that run the ONNX files of encoders and generators, and the choice of one."""

from typing import Literal, TypeAlias

from mirage_core.errors import Code, MirageError
from mirage_inference.engines.base import Engine, EngineOptions

EngineChoice: TypeAlias = Literal["auto", "onnxruntime", "openvino"]
EngineKind: TypeAlias = Literal["onnxruntime", "openvino"]


def make_engine(kind: EngineKind, options: EngineOptions) -> Engine:
    """Returns an engine; raises BUNDLE_INVALID if it is not installed.

    An engine is imported when it is made: a process that runs no network does not load one.
    """
    try:
        if kind == "openvino":
            from mirage_inference.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(options)
        from mirage_inference.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(options)
    except ImportError as error:
        raise MirageError(Code.BUNDLE_INVALID, reason=f"the engine {kind} is not installed") from error
