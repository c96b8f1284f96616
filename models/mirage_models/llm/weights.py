"""An ONNX graph while it is written; its weights are written straight into a second file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper

from mirage_models.llm.blocks import STORED_BLOCK, Blocks, Stored, quantise, quantise_columns
from mirage_models.llm.smoothing import factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mirage_models.llm.smoothing import Peaks

    Floats = npt.NDArray[np.float32]

Precision: TypeAlias = Literal["int4", "int8", "fp32"]
Form: TypeAlias = Precision | Literal["prompt"]
"""A precision of the decoder, or that of the graph that reads prompts: int8 weights with one scale for each column."""
BLOCK: dict[Form, int] = {"int4": 64, "int8": 32}
"""Weights that share a scale (32 bits): in int4, 4.5 bits a weight in all, as many as llama.cpp's Q4_0."""
OPSET = 21
_CONTRIB = "com.microsoft"
_CONTRIB_KINDS = ("MatMulNBits", "DynamicQuantizeMatMul", "GroupQueryAttention", "QuickGelu")
# The runtime maps a tensor from the file instead of reading it if it begins at such a multiple.
_ALIGNMENT = 64 * 2**10
_INLINE_BYTES = 1024
# Activations as int8 with a scale for each block (MLAS's CompInt8): what makes decoding fast.
_ACCURACY_LEVEL = 4
# Of a matrix in the form "prompt", at most. Each costs an addition of what comes out.
_PARTS = 4
# A row is divided by no less than this, so that a row of zeros stays one.
_LEAST = 1e-20
_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.int64): TensorProto.INT64,
}


class GraphWriter:
    """Collects nodes and writes tensors to `data`; close it with `model`.

    Tensors that `shared` has by name are read from the file that it names, next to this one. `peaks` are those of the
    inputs of products in the form "prompt".
    """

    def __init__(
        self,
        data: Path,
        precision: Form,
        *,
        threads: int,
        shared: Mapping[str, onnx.TensorProto] | None = None,
        peaks: Peaks | None = None,
    ) -> None:
        self._data, self.precision, self._threads, self._peaks = data, precision, threads, peaks or {}
        self._shared, self._has_constants = shared or {}, False
        self._stream = data.open("wb")
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def __enter__(self) -> GraphWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def tensor(self, name: str, values: npt.NDArray[Any], onnx_type: int | None = None) -> str:
        """Adds an initializer and returns its name; `onnx_type` is for types that numpy lacks (bfloat16, as uint16)."""
        if name in self._shared:
            self.initializers.append(self._shared[name])
            return name
        values = np.ascontiguousarray(values)
        proto = TensorProto(name=name, data_type=onnx_type or _TYPES[values.dtype], dims=values.shape)
        if values.nbytes <= _INLINE_BYTES:
            proto.raw_data = values.tobytes()
        else:
            self._stream.write(b"\0" * (-self._stream.tell() % _ALIGNMENT))
            self._stream.flush()
            offset = self._stream.tell()
            values.tofile(self._stream)
            proto.data_location = TensorProto.EXTERNAL
            for key, value in (("location", self._data.name), ("offset", offset), ("length", values.nbytes)):
                proto.external_data.add(key=key, value=str(value))
        self.initializers.append(proto)
        return name

    def node(self, kind: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: Any) -> str:
        """Adds a node and gives the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        domain = _CONTRIB if kind in _CONTRIB_KINDS else ""
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attributes))
        return names[0]

    def linear(self, name: str, source: str, weights: Floats, bias: Floats | None, *, finer: bool = False) -> str:
        """`source` [.., K] times `weights` [N, K] transposed, plus `bias` [N], at this writer's precision.

        `finer` weights are int8 if the others are int4.
        """
        if self.precision == "prompt":
            return self._eight_bits(name, source, weights, bias)
        columns = weights.shape[1]
        precision: Form = "int8" if finer and self.precision == "int4" else self.precision
        if precision == "fp32":
            factors = [source, self.tensor(f"{name}.weight", weights.T)]
            if bias is None:
                return self.node("MatMul", factors, name)
            product = self.node("MatMul", factors, f"{name}.product")
            return self.node("Add", [product, self.tensor(f"{name}.bias", bias)], name)
        bits: Literal[4, 8] = 4 if precision == "int4" else 8
        blocks = quantise(weights, bits, block=BLOCK[precision], threads=self._threads)
        return self._product(name, source, blocks, columns, BLOCK[precision], bias)

    def stored_linear(self, name: str, source: str, stored: Sequence[Stored], bias: Floats | None) -> str:
        """As `linear`, for matrices one below the other that the checkpoint stores in 4 bits: their steps stay as they are.

        What a block's weights have in common is multiplied by the sum of the block's inputs.
        """
        matrix = Stored(*(np.concatenate([getattr(one, part) for one in stored]) for part in ("steps", "scale", "low")))
        columns, centre = matrix.steps.shape[1], matrix.centre
        if not centre.any():
            return self._product(name, source, matrix.blocks, columns, STORED_BLOCK, bias)
        product = self._product(f"{name}.steps", source, matrix.blocks, columns, STORED_BLOCK, bias)
        shape = self.tensor(f"{name}.shape", np.array([0, 0, -1, STORED_BLOCK], np.int64))
        split = self.node("Reshape", [source, shape], f"{name}.split")
        axis = self.tensor(f"{name}.axis", np.array([-1], np.int64))
        sums = self.node("ReduceSum", [split, axis], f"{name}.sums", keepdims=0)
        block = BLOCK["int8"]
        blocks = quantise(centre, 8, block=block, threads=self._threads)
        added = self._product(f"{name}.centre", sums, blocks, centre.shape[1], block, None)
        return self.node("Add", [product, added], name)

    def _product(self, name: str, source: str, blocks: Blocks, columns: int, block: int, bias: Floats | None) -> str:
        inputs = [source, self.tensor(f"{name}.weight", blocks.values), self.tensor(f"{name}.scale", blocks.scales)]
        if bias is not None:
            inputs += ["", "", self.tensor(f"{name}.bias", bias)]
        return self.node(
            "MatMulNBits",
            inputs,
            name,
            K=columns,
            N=len(blocks.values),
            bits=blocks.bits,
            block_size=block,
            accuracy_level=_ACCURACY_LEVEL,
        )

    def _eight_bits(self, name: str, source: str, weights: Floats, bias: Floats | None) -> str:
        """The product of int8 with int8, which the kernel rounds its input to with a single scale.

        A matrix with many more inputs than outputs is split along its inputs, and each part rounded with scales of its own.
        """
        if source in self._peaks:
            smooth = factors(self._peaks[source], weights)
            weights = weights * smooth
            source = self.node("Div", [source, self.tensor(f"{name}.smooth", smooth)], f"{name}.smoothed")
        rows, columns = weights.shape
        matrices = np.array_split(weights, max(1, min(_PARTS, round(columns / rows))), axis=1)
        parts = [source]
        if len(matrices) > 1:
            sizes = self.tensor(f"{name}.sizes", np.array([matrix.shape[1] for matrix in matrices], np.int64))
            parts = [f"{name}.part.{place}" for place in range(len(matrices))]
            self.node("Split", [source, sizes], parts, axis=-1)
        total = ""
        for place, (part, matrix) in enumerate(zip(parts, matrices, strict=True)):
            product = self._eight_bits_by_row(f"{name}.{place}", part, matrix)
            total = self.node("Add", [total, product], f"{name}.{place}.sum") if total else product
        if bias is None:
            return self.node("Identity", [total], name)
        return self.node("Add", [total, self.tensor(f"{name}.bias", bias)], name)

    def _eight_bits_by_row(self, name: str, source: str, weights: Floats) -> str:
        """So that a row of small values keeps its digits next to one of large values, each row is divided by its largest
        value before the product, and multiplied by it after.
        """
        values, scales = quantise_columns(weights)
        rows, largest = self._rows_of_one_size(source)
        inputs = [rows, self.tensor(f"{name}.weight", values), self.tensor(f"{name}.scale", scales)]
        inputs.append(self.tensor(f"{name}.zero", np.zeros(len(scales), np.int8)))
        product = self.node("DynamicQuantizeMatMul", inputs, f"{name}.even")
        return self.node("Mul", [product, largest], f"{name}.product")

    def _rows_of_one_size(self, source: str) -> tuple[str, str]:
        """Names of `source` with each row divided by its largest absolute value, and of these values."""
        if not self._has_constants:
            self._has_constants = True
            self.tensor("rows.axis", np.array([-1], np.int64))
            self.tensor("rows.least", np.array(_LEAST, np.float32))
        size = self.node("Abs", [source], f"{source}.size")
        largest = self.node("ReduceMax", [size, "rows.axis"], f"{source}.most", keepdims=1)
        largest = self.node("Max", [largest, "rows.least"], f"{source}.largest")
        return self.node("Div", [source, largest], f"{source}.rows"), largest

    def lookup(self, name: str, ids: str, table: Floats, *, kept_as: str) -> str:
        """Rows of `table` [V, D] as float32, kept as the checkpoint keeps them (dtype as safetensors name it): exactly.

        A float32 table is kept as float16 if the weights are quantised, which is far coarser.
        """
        if kept_as == "BF16":
            stored = self.tensor(name, (table.view(np.uint32) >> 16).astype(np.uint16), TensorProto.BFLOAT16)
        elif kept_as == "F16" or self.precision != "fp32":
            stored = self.tensor(name, table.astype(np.float16))
        else:
            return self.node("Gather", [self.tensor(name, table), ids], f"{name}.rows")
        rows = self.node("Gather", [stored, ids], f"{name}.rows")
        return self.node("Cast", [rows], f"{name}.float", to=TensorProto.FLOAT)

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """The model of all that was added, without names or dates of what made it."""
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
