"""UNet and decoder to int8: weights per channel, activations with ranges from the model's own runs (QDQ).

Written out here because the libraries that do it hold a network several times over in memory. What stays in float32:
the first and the last convolution, layers on one vector (the timestep's), and layers on the prompt, whose few outlying
numbers are most of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from mirage_models.generator.network_file import NetworkFile, WeightsWriter, data_path, read_network, strip

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import numpy.typing as npt

    Inputs = Mapping[str, npt.NDArray[Any]]

_LEVELS = 255


@dataclass(frozen=True)
class Recipe:
    """A way to quantise: the operators whose activations are held in 8 bits; the other layers stay in float32."""

    name: str
    operators: frozenset[str]
    description: str


FULL = Recipe(
    "full",
    frozenset({"Conv", "MatMul"}),
    "int8 weights per channel and uint8 activations with ranges from calibration in convolutions and linear layers",
)
CONVOLUTIONS = Recipe(
    "convolutions",
    frozenset({"Conv"}),
    "int8 weights per channel and uint8 activations with ranges from calibration in convolutions, the rest in float32",
)
RECIPES = {recipe.name: recipe for recipe in (FULL, CONVOLUTIONS)}


@dataclass(frozen=True)
class Span:
    """The least and the greatest value that an activation took."""

    least: float
    most: float

    def merged(self, other: Span) -> Span:
        """The span of both."""
        return Span(min(self.least, other.least), max(self.most, other.most))


@dataclass(frozen=True)
class Layer:
    """A node to quantise: its place in the graph, its activation, its weight and the weight's axis of output
    channels.
    """

    index: int
    activation: str
    weight: str
    axis: int


def layers(network: NetworkFile, recipe: Recipe, *, keep: Collection[str] = ()) -> list[Layer]:
    """The layers that a recipe quantises; not those that take an input of the graph in `keep` directly."""
    graph = network.model.graph
    tensors = network.initialisers()
    outputs = {value.name for value in graph.output}
    last = _last_convolutions(graph, outputs)
    first = {value.name for value in graph.input} | set(keep)
    found = []
    for index, node in enumerate(graph.node):
        if node.op_type not in recipe.operators or len(node.input) < 2 or node.input[1] not in tensors:
            continue
        if node.input[0] in first or node.input[0] in tensors or index in last:
            continue
        rank = len(tensors[node.input[1]].dims)
        if rank != (4 if node.op_type == "Conv" else 2):
            continue
        found.append(Layer(index, node.input[0], node.input[1], 0 if node.op_type == "Conv" else 1))
    return found


def _last_convolutions(graph: onnx.GraphProto, outputs: Collection[str]) -> set[int]:
    # From the outputs backwards through what only reshapes or rescales, to the convolutions that made them.
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    seen: set[int] = set()
    open_names = list(outputs)
    while open_names:
        index = makers.get(open_names.pop())
        if index is None or index in seen:
            continue
        node = graph.node[index]
        if node.op_type == "Conv":
            seen.add(index)
        elif node.op_type in {"Add", "Sub", "Mul", "Div", "Clip", "Reshape", "Identity", "Cast", "Min", "Max"}:
            open_names.extend(node.input)
    return seen


class SpanRecorder:
    """A network that notes the span of activations while it runs; a session as in `mirage_inference.engines`."""

    def __init__(self, source: Path, names: Collection[str], *, output: str, threads: int) -> None:
        """Opens the network in `source`, and keeps a graph that also outputs the spans of `names` in its folder
        until `close`.
        """
        self._names = sorted(names)
        self._source, self._output = source, output
        self.spans: dict[str, Span] = {}
        model = onnx.load(source, load_external_data=False)
        for name in self._names:
            for operator, suffix in (("ReduceMin", "least"), ("ReduceMax", "most")):
                model.graph.node.append(helper.make_node(operator, [name], [f"{name}.{suffix}"], keepdims=0))
                model.graph.output.append(helper.make_tensor_value_info(f"{name}.{suffix}", TensorProto.FLOAT, []))
        self._path = source.with_name(f"{source.stem}.spans.onnx")
        onnx.save(model, self._path)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.enable_cpu_mem_arena = False
        settings.log_severity_level = 3
        self._session: Any = ort.InferenceSession(str(self._path), settings, providers=["CPUExecutionProvider"])

    def run(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """See Session.run; raises ValueError if an activation is not a number."""
        wanted = [f"{name}.{suffix}" for name in self._names for suffix in ("least", "most")]
        result, *found = self._session.run([self._output, *wanted], dict(inputs))
        values = [float(value) for value in found]
        for name, least, most in zip(self._names, values[::2], values[1::2], strict=True):
            if not np.isfinite([least, most]).all():
                raise ValueError(f"{self._source.name}: an activation is no number")
            spans = Span(least, most)
            self.spans[name] = spans.merged(self.spans.get(name, spans))
        return np.asarray(result, dtype=np.float32)

    def close(self) -> None:
        """See Session.close."""
        self._session = None
        self._path.unlink(missing_ok=True)


def quantise(source: Path, target: Path, chosen: Collection[Layer], spans: Mapping[str, Span], *, name: str) -> None:
    """Write the network in `source` to `target` with the chosen layers in int8: the same bytes for the same input."""
    network = read_network(source)
    graph = network.model.graph
    axes = {layer.weight: layer.axis for layer in chosen}
    tensors = list(graph.initializer)
    nodes = list(graph.node)
    del graph.initializer[:]
    del graph.node[:]
    by_index = {layer.index: layer for layer in chosen}
    others = {nodes[i].input[1] for i in range(len(nodes)) if i not in by_index and len(nodes[i].input) > 1} & set(axes)
    with WeightsWriter(target) as writer:
        for tensor in tensors:
            if tensor.name not in axes or tensor.name in others:
                graph.initializer.append(writer.put(tensor.name, network.read(tensor)))
            if tensor.name in axes:
                values, scales = quantised_weight(network.read(tensor), axes[tensor.name])
                graph.initializer.append(writer.put(f"{tensor.name}.int8", values))
                graph.initializer.append(writer.put(f"{tensor.name}.scale", scales))
        for activation in sorted({layer.activation for layer in chosen}):
            scale, zero = _activation_scale(spans[activation])
            graph.initializer.append(writer.put(f"{activation}.scale", scale))
            graph.initializer.append(writer.put(f"{activation}.zero", zero))
    ready: set[str] = set()
    for index, node in enumerate(nodes):
        if layer := by_index.get(index):
            graph.node.extend(_dequantised(layer, ready))
            node.input[0], node.input[1] = f"{layer.activation}.near", f"{layer.weight}.near"
        graph.node.append(node)
    strip(network.model, name=name)
    target.write_bytes(network.model.SerializeToString(deterministic=True))


def quantised_weight(weight: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """A float weight as int8 of its shape and one float32 scale for each index on `axis`; symmetric, -127 to 127."""
    values = np.asarray(weight, dtype=np.float32)
    rest = tuple(each for each in range(values.ndim) if each != axis)
    scales = np.maximum(np.abs(values).max(axis=rest), np.float32(1e-12)) / np.float32(127)
    spread = scales.reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    return np.rint(values / spread).clip(-127, 127).astype(np.int8), scales.astype(np.float32)


def _activation_scale(span: Span) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    # Zero must be a level of its own: convolutions pad with it.
    least, most = min(span.least, 0.0), max(span.most, 0.0)
    scale = max((most - least) / _LEVELS, 1e-12)
    return np.array(scale, dtype=np.float32), np.array(np.clip(round(-least / scale), 0, _LEVELS), dtype=np.uint8)


def _dequantised(layer: Layer, ready: set[str]) -> list[onnx.NodeProto]:
    made = []
    if f"{layer.activation}.near" not in ready:
        scale, zero = f"{layer.activation}.scale", f"{layer.activation}.zero"
        levels = f"{layer.activation}.uint8"
        made.append(helper.make_node("QuantizeLinear", [layer.activation, scale, zero], [levels]))
        made.append(helper.make_node("DequantizeLinear", [levels, scale, zero], [f"{layer.activation}.near"]))
    if f"{layer.weight}.near" not in ready:
        inputs = [f"{layer.weight}.int8", f"{layer.weight}.scale"]
        made.append(helper.make_node("DequantizeLinear", inputs, [f"{layer.weight}.near"], axis=layer.axis))
    ready.update(output for node in made for output in node.output)
    return made


def network_files(path: Path) -> list[str]:
    """Returns the names of a network's files: the graph, and the weights file if there is one."""
    return [path.name, *([data_path(path).name] if data_path(path).is_file() else [])]
