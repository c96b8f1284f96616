"""Weights stored in int8 and computed with in float32: a network of a quarter of the size, as exact as its weights.

For small networks, which int8 arithmetic would spoil and make no faster. An engine folds the way back to float32 into
constants while it loads; only rows of a table that are looked up are scaled as they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from mirage_models.generator.network_file import WeightsWriter, read_network, strip
from mirage_models.generator.quantise import quantised_weight

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

STORED = "weights"
DESCRIPTION = "int8 weights per channel, computed in float32"
LEAST_NUMBERS = 4096
"""Smaller weights stay as they are: they are not what a network's size comes from."""


def store_weights(source: Path, target: Path, *, name: str) -> None:
    """Write the network in `source` to `target` with its large weights in int8: the same bytes for the same input."""
    network = read_network(source)
    graph = network.model.graph
    tensors, nodes = list(graph.initializer), list(graph.node)
    axes = _axes(nodes, {tensor.name: tuple(tensor.dims) for tensor in tensors})
    del graph.initializer[:]
    del graph.node[:]
    looked_up = {node.input[0] for node in nodes if node.op_type == "Gather" and node.input[0] in axes}
    with WeightsWriter(target) as writer:
        for tensor in tensors:
            if tensor.name not in axes:
                graph.initializer.append(writer.put(tensor.name, network.read(tensor)))
                continue
            axis, array = axes[tensor.name], network.read(tensor)
            values, scales = quantised_weight(array, axis)
            shape = [-1 if each == axis else 1 for each in range(array.ndim)]
            graph.initializer.append(writer.put(f"{tensor.name}.int8", values))
            graph.initializer.append(writer.put(f"{tensor.name}.scale", np.ascontiguousarray(scales.reshape(shape))))
            if tensor.name not in looked_up:
                graph.node.extend(_scaled(f"{tensor.name}.int8", f"{tensor.name}.scale", tensor.name))
    for node in nodes:
        if node.op_type == "Gather" and node.input[0] in looked_up:
            graph.node.extend(_looked_up(node))
        else:
            graph.node.append(node)
    strip(network.model, name=name)
    target.write_bytes(network.model.SerializeToString(deterministic=True))


def _axes(nodes: list[onnx.NodeProto], shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The axis of output channels of each weight that can be stored: those that all their nodes use alike."""
    axes: dict[str, int] = {}
    spoilt: set[str] = set()
    for node in nodes:
        for place, used in enumerate(node.input):
            if used not in shapes:
                continue
            axis = _axis(node, place, len(shapes[used]))
            if axis is None or np.prod(shapes[used]) < LEAST_NUMBERS or axes.setdefault(used, axis) != axis:
                spoilt.add(used)
    # Looked up here and multiplied with there: one of the two ways back would be missing.
    kinds: dict[str, set[bool]] = {}
    for node in nodes:
        for used in node.input:
            kinds.setdefault(used, set()).add(node.op_type == "Gather")
    return {weight: axis for weight, axis in axes.items() if weight not in spoilt and len(kinds[weight]) == 1}


def _axis(node: onnx.NodeProto, place: int, rank: int) -> int | None:
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    match node.op_type:
        case "Conv" if place == 1 and rank == 4:
            return 0
        case "MatMul" if place == 1 and rank == 2:
            return 1
        case "Gemm" if place == 1 and rank == 2:
            return 0 if attributes.get("transB", 0) else 1
        case "Gather" if place == 0 and rank == 2 and attributes.get("axis", 0) == 0:
            return 0
    return None


def _scaled(values: str, scale: str, made: str) -> list[onnx.NodeProto]:
    # Not DequantizeLinear, which engines keep in the graph as a sign of int8 arithmetic.
    return [
        helper.make_node("Cast", [values], [f"{made}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{made}.float", scale], [made]),
    ]


def _looked_up(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    table, places = node.input
    rows, scales = f"{node.output[0]}.int8", f"{node.output[0]}.scale"
    return [
        helper.make_node("Gather", [f"{table}.int8", places], [rows], axis=0),
        helper.make_node("Gather", [f"{table}.scale", places], [scales], axis=0),
        *_scaled(rows, scales, node.output[0]),
    ]
