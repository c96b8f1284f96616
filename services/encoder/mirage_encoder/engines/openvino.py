"""OpenVINO on the processor: the faster engine with AMX or VNNI instructions. It is imported only if it is used."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from mirage_core.errors import Code, MirageError
from mirage_encoder.engines.base import EngineOptions, FloatArray


class OpenVinoSession:
    """One tower in OpenVINO; concurrent calls get an inference request each."""

    def __init__(self, compiled: Any, *, output_name: str) -> None:
        self._compiled = compiled
        self._shape = compiled.inputs[0].partial_shape
        self._output = output_name

    def run(self, batch: npt.NDArray[Any]) -> FloatArray:
        """See Session.run."""
        if self._compiled is None:
            raise MirageError(Code.MODEL_NOT_READY)
        try:
            # It would take an array of another shape and compute something else.
            if not self._shape.compatible(openvino.PartialShape(list(batch.shape))):
                raise ValueError(batch.shape)
            request = self._compiled.create_infer_request()
            request.infer([batch])
            # A copy: the tensor's memory is the request's.
            return np.array(request.get_tensor(self._output).data, dtype=np.float32)
        except Exception as error:  # the runtime's exceptions share no narrower base
            raise MirageError(Code.MODEL_FAILED) from error

    def close(self) -> None:
        """See Session.close."""
        self._compiled = None


class OpenVinoEngine:
    """See Engine. Computes in float32 unless `reduced_precision` allows what the processor does natively."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._core = openvino.Core()

    @property
    def description(self) -> str:
        """See Engine.description."""
        return f"openvino {openvino.__version__.split('-')[0]}"

    def load(self, path: Path, *, input_name: str, output_name: str) -> OpenVinoSession:
        """See Engine.load."""
        settings = {
            "INFERENCE_NUM_THREADS": self._options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if not self._options.reduced_precision:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = self._core.read_model(str(path))
            compiled = self._core.compile_model(model, "CPU", settings)
            inputs = {name for port in compiled.inputs for name in port.get_names()}
            outputs = {name for port in compiled.outputs for name in port.get_names()}
        except Exception as error:  # as above
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} cannot be loaded") from error
        if input_name not in inputs or output_name not in outputs:
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has other inputs and outputs than stated")
        return OpenVinoSession(compiled, output_name=output_name)
