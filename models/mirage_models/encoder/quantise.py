"""ONNX towers to int8: several recipes, of which the builder keeps the one closest to the original."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    Batches = Iterable[npt.NDArray[Any]]


@dataclass(frozen=True)
class Recipe:
    """A way to quantise. `mixes_batch` as in the manifest's Variant; `apply(source, target, input name, batches)`."""

    name: str
    description: str
    mixes_batch: bool
    apply: Callable[[Path, Path, str, Batches], None]


class _Batches(CalibrationDataReader):
    def __init__(self, name: str, batches: Batches) -> None:
        self._items: Iterator[dict[str, npt.NDArray[np.generic]]] = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        return next(self._items, None)


def _dynamic(source: Path, target: Path, _input: str, _batches: Batches) -> None:
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"],
        extra_options={"MatMulConstBOnly": True},
    )


def _static(source: Path, target: Path, input_name: str, batches: Batches) -> None:
    # Symmetric activations: a zero point costs OpenVINO a tenth of a ViT's time, and with one in the first convolution it
    # gives other numbers than ONNX Runtime (seen: cosine 0.92 for a ViT-B/16 of timm, 0.999 without). That convolution is
    # under a hundredth of the arithmetic, and stays as it is.
    with _prepared(source) as prepared:
        quantize_static(
            prepared,
            target,
            _Batches(input_name, batches),
            op_types_to_quantize=["MatMul", "Gemm"],
            activation_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "ActivationSymmetric": True, "WeightSymmetric": True},
            **_FIXED_RANGES,
        )


def _convolutions(source: Path, target: Path, input_name: str, batches: Batches) -> None:
    # The first fifth of the convolutions and the last one stay in float32: most of the error comes from them (seen for
    # EfficientNet-Lite0: mean cosine 0.990 with all in int8, 0.9995 so), and they are few of the weights.
    with _prepared(source) as prepared:
        nodes = [node for node in onnx.load(prepared).graph.node if node.op_type in _AROUND]
        places = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
        first, last = places[len(places) // 5], places[-1]
        quantize_static(
            prepared,
            target,
            _Batches(input_name, batches),
            op_types_to_quantize=_AROUND,
            nodes_to_exclude=[node.name for node in nodes[:first] + nodes[last:]],
            activation_type=QuantType.QUInt8,
            extra_options={"WeightSymmetric": True},
            **_FIXED_RANGES,
        )


_AROUND = ["Conv", "Clip", "Add"]
_FIXED_RANGES: dict[str, Any] = {
    "quant_format": QuantFormat.QDQ,
    "per_channel": True,
    "weight_type": QuantType.QInt8,
    "calibrate_method": CalibrationMethod.MinMax,
}


@contextlib.contextmanager
def _prepared(source: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Folds constants and infers shapes; without the optimiser, whose fusions other engines do not know.
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        yield prepared


DYNAMIC = Recipe(
    "dynamic",
    "int8 weights per channel, uint8 activations with the range of each inference",
    mixes_batch=True,
    apply=_dynamic,
)
STATIC = Recipe(
    "static",
    "int8 weights per channel, int8 activations with symmetric ranges from calibration (QDQ)",
    mixes_batch=False,
    apply=_static,
)
CONVOLUTIONS = Recipe(
    "convolutions",
    "int8 weights per channel and uint8 activations with ranges from calibration in most convolutions (QDQ), the rest in "
    "float32",
    mixes_batch=False,
    apply=_convolutions,
)
RECIPES = {recipe.name: recipe for recipe in (DYNAMIC, STATIC, CONVOLUTIONS)}


def quantise(source: Path, target: Path, recipe: Recipe, *, input_name: str, batches: Batches) -> None:
    """Write the tower in `source` as int8 to `target`; the same bytes for the same input."""
    logging.getLogger().setLevel(logging.ERROR)  # the library warns through the root logger about its own defaults
    recipe.apply(source, target, input_name, batches)
    model = onnx.load(target)
    model.producer_name = model.producer_version = ""
    for node in model.graph.node:
        node.doc_string = ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    target.write_bytes(model.SerializeToString(deterministic=True))
