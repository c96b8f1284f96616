"""ONNX files with their weights in a second file: read one tensor at a time, always written in the same order.

A UNet's weights are 3.4 GB, more than a protobuf message may hold and more than is needed in memory at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

    Array = npt.NDArray[Any]

INLINE_BYTES = 1024
"""Smaller tensors stay in the ONNX file: shapes and scalars, which an engine wants while it reads the graph."""
_PAGE = 4096


@dataclass(frozen=True)
class NetworkFile:
    """A graph without its weights, and the folder that has them."""

    model: onnx.ModelProto
    folder: Path

    def initialisers(self) -> dict[str, onnx.TensorProto]:
        """The graph's tensors by name."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    def read(self, tensor: onnx.TensorProto) -> Array:
        """Returns the values of one tensor, memory-mapped if they are in the weights file."""
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return np.asarray(numpy_helper.to_array(tensor))
        place = {entry.key: entry.value for entry in tensor.external_data}
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        if 0 in shape:
            return np.zeros(shape, dtype)
        path, offset = self.folder / place["location"], int(place.get("offset", 0))
        return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)


def read_network(path: Path) -> NetworkFile:
    """Returns the graph of an ONNX file without reading its weights."""
    return NetworkFile(onnx.load(path, load_external_data=False), path.parent)


def data_path(path: Path) -> Path:
    """Returns the path of the weights of an ONNX file that this module wrote."""
    return path.with_name(path.name + ".data")


class WeightsWriter:
    """Writes tensors one after another into the weights file of `path`; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = data_path(path)
        self._stream: Any = None
        self._end = 0

    def __enter__(self) -> WeightsWriter:
        self._stream = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if not self._end:
            self._path.unlink()

    def put(self, name: str, array: Array) -> onnx.TensorProto:
        """Returns the tensor as a graph holds it: a small one with its values, a larger one with its place in the
        weights file.
        """
        # Not ascontiguousarray: it makes a vector of a scalar.
        array = np.asarray(array, order="C")
        if array.nbytes < INLINE_BYTES:
            return numpy_helper.from_array(array, name)
        # Whole pages, so that an engine can map a tensor and need not copy it.
        self._end += self._stream.write(b"\0" * (-self._end % _PAGE))
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (("location", self._path.name), ("offset", str(self._end)), ("length", str(array.nbytes))):
            tensor.external_data.add(key=key, value=value)
        self._end += self._stream.write(array.data)
        return tensor


def write_network(network: NetworkFile, path: Path, *, name: str) -> None:
    """Write graph and weights at `path` without what differs from one machine to the next: the same bytes every
    time.
    """
    strip(network.model, name=name)
    tensors = list(network.model.graph.initializer)
    del network.model.graph.initializer[:]
    with WeightsWriter(path) as writer:
        network.model.graph.initializer.extend(writer.put(each.name, network.read(each)) for each in tensors)
    path.write_bytes(network.model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto, *, name: str) -> None:
    """Removes names, stack traces, versions and intermediate shapes that the exporter left, and renames the graph."""
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = name, ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
