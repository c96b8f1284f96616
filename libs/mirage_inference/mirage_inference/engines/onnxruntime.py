"""ONNX Runtime on the processor: runs every bundle; the one engine that is always there."""

from collections.abc import Collection
from pathlib import Path
from typing import cast

import onnxruntime as ort

from mirage_core.errors import Code, MirageError
from mirage_inference.engines.base import EngineOptions, FloatArray, Inputs


def open_session(path: Path, *, threads: int, arena: bool) -> ort.InferenceSession:
    """Returns a session of an ONNX file; raises BUNDLE_INVALID if it cannot be loaded.

    With `arena` the session keeps the memory of its largest run.
    """
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.enable_cpu_mem_arena = arena
    settings.log_severity_level = 4
    # Threads spin during an inference (a third faster), not after it, when the processor is the other services'.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1")
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no narrower base
        raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} cannot be loaded") from error


class OnnxRuntimeSession:
    """One network in ONNX Runtime."""

    def __init__(self, session: ort.InferenceSession, *, output: str) -> None:
        self._session: ort.InferenceSession | None = session
        self._output = output

    def run(self, inputs: Inputs) -> FloatArray:
        """See Session.run."""
        if self._session is None:
            raise MirageError(Code.MODEL_NOT_READY)
        try:
            return cast("FloatArray", self._session.run([self._output], dict(inputs))[0])
        except Exception as error:  # as above
            raise MirageError(Code.MODEL_FAILED) from error

    def close(self) -> None:
        """See Session.close."""
        self._session = None


class OnnxRuntimeEngine:
    """See Engine. Sessions do not keep an arena: the memory of a large batch or image returns to the system."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    @property
    def description(self) -> str:
        """See Engine.description."""
        return f"onnxruntime {ort.__version__}"

    def load(self, path: Path, *, inputs: Collection[str], output: str) -> OnnxRuntimeSession:
        """See Engine.load."""
        session = open_session(path, threads=self._options.threads, arena=False)
        names = {value.name for value in session.get_inputs()}, {value.name for value in session.get_outputs()}
        if names != (set(inputs), {output}):
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has other inputs and outputs than expected")
        return OnnxRuntimeSession(session, output=output)
