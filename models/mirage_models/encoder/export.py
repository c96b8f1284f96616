"""PyTorch towers to ONNX files with a dynamic batch and, for texts, a dynamic length."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

import onnx
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


OPSET = 23
EXAMPLE_BATCH = 2
EXAMPLE_LENGTH = 9


@contextlib.contextmanager
def _exportable() -> Iterator[None]:
    # ONNX lacks an operator for the fused inference path of MultiheadAttention.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def export_text_tower(tower: torch.nn.Module, *, context_length: int) -> onnx.ModelProto:
    """ONNX of a text tower: `tokens` int64[batch, length] -> `unit_vector` float32[batch, D]."""
    example = torch.randint(1, 100, (EXAMPLE_BATCH, EXAMPLE_LENGTH), dtype=torch.int64)
    shapes = {"tokens": {0: torch.export.Dim("batch", max=4096), 1: torch.export.Dim("length", max=context_length)}}
    return _export(tower, example, "tokens", shapes)


def export_image_tower(tower: torch.nn.Module, *, image_size: int) -> onnx.ModelProto:
    """ONNX of an image tower: `pixels` float32[batch, 3, S, S] -> `unit_vector` float32[batch, D]."""
    example = torch.zeros(EXAMPLE_BATCH, 3, image_size, image_size)
    return _export(tower, example, "pixels", {"pixels": {0: torch.export.Dim("batch", max=4096)}})


def _export(tower: torch.nn.Module, example: torch.Tensor, name: str, shapes: Mapping[str, object]) -> onnx.ModelProto:
    with _exportable():
        program = torch.onnx.export(
            tower,
            (example,),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[name],
            output_names=["unit_vector"],
            opset_version=OPSET,
            verbose=False,
            optimize=True,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    model = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    # Names, stack traces and versions of the exporter: they change from one machine to the next, and the
    # fingerprint must not.
    model.producer_name = model.producer_version = model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name = "tower"
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]
