"""Measures how large each channel of a decoder's activations gets, so that a graph in int8 can make large ones smaller.

A few channels of a language model's activations are far larger than the others, which then have few of the 8 bits.
SmoothQuant (Xiao et al. 2022) divides each channel by a factor and multiplies the weights that read it by the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mirage_inference.engines.onnxruntime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mirage_inference.llm.decoder import DecoderShape

    Floats = npt.NDArray[np.float32]

Peaks: TypeAlias = "Mapping[str, Floats]"
"""By the name of a product's input, the largest absolute value [K] of each channel, of rows whose largest one is 1."""
_PRODUCTS = ("MatMul", "MatMulNBits")
_PIECE = 128
_LEAST = 1e-5
# 1 makes all channels of the activations equally large, 0 all columns of the weights.
_SHARE = 0.85


def factors(peaks: Floats, weights: Floats) -> Floats:
    """Returns the factors [K] that weights [N, K] are multiplied by, and their input's channels divided by.

    They make the channels nearly equally large: weights in 8 bits bear it better than activations, which round a token
    with the scale of its largest channel.
    """
    largest = np.maximum(np.abs(weights).max(0), np.float32(_LEAST) * max(np.abs(weights).max(), np.float32(1e-20)))
    found = np.maximum(peaks, np.float32(_LEAST)) ** _SHARE / largest ** (1 - _SHARE)
    result: Floats = (found / np.exp(np.log(found).mean(dtype=np.float64))).astype(np.float32)
    return result


def measure_peaks(decoder: Path, shape: DecoderShape, texts: Sequence[Sequence[int]], *, threads: int) -> Peaks:
    """Runs texts (ids) through a decoder's graph; returns the peaks of all products' inputs.

    Writes and removes a file next to `decoder`. Raises BUNDLE_INVALID if the graph cannot be loaded.
    """
    path = decoder.with_name(f"peaks.{decoder.name}")
    names = _write_observed(decoder, path)
    try:
        session = open_session(path, threads=threads, arena=False)
    finally:
        path.unlink()
    peaks: dict[str, Floats] = {}
    for text in texts:
        for first in range(0, len(text), _PIECE):
            found = session.run([f"{name}.peaks" for name in names], _feeds(text[first : first + _PIECE], shape))
            for name, values in zip(names, found, strict=True):
                # A row of zeros has no peaks: NaN, which is left out.
                peaks[name] = np.fmax(peaks.get(name, np.float32(0)), values)
    return peaks


def _write_observed(decoder: Path, path: Path) -> list[str]:
    """Writes the graph with the peaks as further outputs; returns the names of what is observed."""
    model = onnx.load(decoder, load_external_data=False)
    graph = model.graph
    names = sorted({node.input[0] for node in graph.node if node.op_type in _PRODUCTS})
    for axis, value in (("peaks.last", [-1]), ("peaks.rows", [0, 1])):
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), axis))
    for name in names:
        size, rows, even = (f"{name}.{part}" for part in ("peaks.size", "peaks.row", "peaks.even"))
        graph.node.extend(
            [
                helper.make_node("Abs", [name], [size]),
                helper.make_node("ReduceMax", [size, "peaks.last"], [rows], keepdims=1),
                helper.make_node("Div", [size, rows], [even]),
                helper.make_node("ReduceMax", [even, "peaks.rows"], [f"{name}.peaks"], keepdims=0),
            ]
        )
        graph.output.append(helper.make_tensor_value_info(f"{name}.peaks", TensorProto.FLOAT, ["channels"]))
    path.write_bytes(model.SerializeToString())
    return names


def _feeds(ids: Sequence[int], shape: DecoderShape) -> dict[str, npt.NDArray[np.generic]]:
    cache = np.zeros((1, shape.heads, len(ids), shape.head_size), np.float32)
    names = (f"{kind}.{layer}" for layer in range(shape.layers) for kind in ("key", "value"))
    return {
        "input_ids": np.array([ids], np.int64),
        "rows": np.zeros(1, np.int64),
        "seqlens_k": np.array([len(ids) - 1], np.int32),
        "total": np.array(len(ids), np.int32),
        **{name: cache.copy() for name in names},
    }
