"""ONNX Runtime on the processor: runs every bundle; the one engine that is always there."""

from pathlib import Path
from typing import Any, cast

import numpy.typing as npt
import onnxruntime as ort

from mirage_core.errors import Code, MirageError
from mirage_encoder.engines.base import EngineOptions, FloatArray


class OnnxRuntimeSession:
    """One tower in ONNX Runtime."""

    def __init__(self, session: ort.InferenceSession, *, input_name: str, output_name: str) -> None:
        self._session: ort.InferenceSession | None = session
        self._input, self._output = input_name, output_name

    def run(self, batch: npt.NDArray[Any]) -> FloatArray:
        """See Session.run."""
        if self._session is None:
            raise MirageError(Code.MODEL_NOT_READY)
        try:
            return cast("FloatArray", self._session.run([self._output], {self._input: batch})[0])
        except Exception as error:  # the runtime's exceptions share no narrower base
            raise MirageError(Code.MODEL_FAILED) from error

    def close(self) -> None:
        """See Session.close."""
        self._session = None


class OnnxRuntimeEngine:
    """See Engine. Sessions do not keep an arena: the memory of a large batch returns to the system."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options

    @property
    def description(self) -> str:
        """See Engine.description."""
        return f"onnxruntime {ort.__version__}"

    def load(self, path: Path, *, input_name: str, output_name: str) -> OnnxRuntimeSession:
        """See Engine.load."""
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = self._options.threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        settings.enable_cpu_mem_arena = False
        settings.log_severity_level = 3
        # Threads spin during an inference (a third faster), not after it, when the processor is the other services'.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1")
        settings.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} cannot be loaded") from error
        names = {value.name for value in session.get_inputs()}, {value.name for value in session.get_outputs()}
        if names[0] != {input_name} or output_name not in names[1]:
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has other inputs and outputs than stated")
        return OnnxRuntimeSession(session, input_name=input_name, output_name=output_name)
