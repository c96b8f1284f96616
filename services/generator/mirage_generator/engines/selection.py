"""Selects the engine of a network."""

from importlib.util import find_spec
from typing import Literal, TypeAlias

from mirage_core.errors import Code, MirageError
from mirage_generator.engines.base import Engine, EngineOptions
from mirage_generator.engines.onnxruntime import OnnxRuntimeEngine

EngineChoice: TypeAlias = Literal["auto", "onnxruntime", "openvino"]
EngineKind: TypeAlias = Literal["onnxruntime", "openvino"]


def resolve(choice: EngineChoice, role: str) -> EngineKind:
    """Returns the engine of a network: the chosen one.

    With "auto", OpenVINO if it is installed, except for the text tower.

    The text tower runs once per image, on 77 tokens: a second engine would save less there than its memory costs.
    """
    if choice != "auto":
        return choice
    return "openvino" if role != "text" and find_spec("openvino") is not None else "onnxruntime"


def make_engine(kind: EngineKind, options: EngineOptions) -> Engine:
    """Returns an engine; raises BUNDLE_INVALID if it is not installed."""
    if kind == "onnxruntime":
        return OnnxRuntimeEngine(options)
    try:
        # Imported here: it costs memory and start time, and is not everywhere.
        from mirage_generator.engines.openvino import OpenVinoEngine
    except ImportError as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the engine openvino is not installed") from error
    return OpenVinoEngine(options)
