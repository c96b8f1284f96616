"""OpenVINO on the processor: several times faster for large networks, with AMX or VNNI instructions above all."""

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from mirage_core.errors import Code, MirageError
from mirage_inference.engines.base import EngineOptions, FloatArray, Inputs


class OpenVinoSession:
    """One network in OpenVINO. Calls take turns: each would use all threads, and hold gigabytes of its own."""

    def __init__(self, compiled: Any, shapes: Mapping[str, Any], *, output: str) -> None:
        self._request: Any = compiled.create_infer_request()
        self._shapes = shapes
        self._output = output
        self._turn = threading.Lock()

    def run(self, inputs: Inputs) -> FloatArray:
        """See Session.run."""
        with self._turn:
            if self._request is None:
                raise MirageError(Code.MODEL_NOT_READY)
            try:
                # One that is not given would be the one of the call before.
                if inputs.keys() != self._shapes.keys():
                    raise ValueError(sorted(inputs))
                for name, array in inputs.items():
                    # It would take an array of another shape and compute something else.
                    if not self._shapes[name].compatible(openvino.PartialShape(list(array.shape))):
                        raise ValueError(name, array.shape)
                self._request.infer(dict(inputs))
                # A copy: the tensor's memory is the request's.
                return np.array(self._request.get_tensor(self._output).data, dtype=np.float32)
            except Exception as error:  # the runtime's exceptions share no narrower base
                raise MirageError(Code.MODEL_FAILED) from error

    def close(self) -> None:
        """See Session.close."""
        with self._turn:
            self._request = None


class OpenVinoEngine:
    """See Engine. Computes in float32 unless `reduced_precision` allows what the processor does natively."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._core = openvino.Core()

    @property
    def description(self) -> str:
        """See Engine.description."""
        return f"openvino {openvino.__version__.split('-')[0]}"

    def load(self, path: Path, *, inputs: Collection[str], output: str) -> OpenVinoSession:
        """See Engine.load."""
        settings = {
            "INFERENCE_NUM_THREADS": self._options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if not self._options.reduced_precision:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            compiled = self._core.compile_model(self._core.read_model(str(path)), "CPU", settings)
            # A port may have more names than one.
            shapes = {name: port.partial_shape for port in compiled.inputs for name in port.get_names() & set(inputs)}
            same = len(shapes) == len(compiled.inputs) == len(inputs)
            same = same and [output in port.get_names() for port in compiled.outputs] == [True]
        except Exception as error:  # as above
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} cannot be loaded") from error
        if not same:
            raise MirageError(Code.BUNDLE_INVALID, reason=f"{path.name} has other inputs and outputs than expected")
        return OpenVinoSession(compiled, shapes, output=output)
