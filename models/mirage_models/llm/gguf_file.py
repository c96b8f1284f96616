"""A GGUF file (llama.cpp's format) read by the `gguf` library: metadata, and tensors under the names of transformers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, dequantize

from mirage_models.llm.blocks import Stored
from mirage_models.llm.tensors import Entry, finite
from mirage_models.tasks import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from gguf import ReaderTensor

    Floats = npt.NDArray[np.float32]
    Bytes = npt.NDArray[np.uint8]

Array = TypeVar("Array", bound="npt.NDArray[Any]")
SUFFIX = ".gguf"
ROTARY_FACTORS = "rope_freqs.weight"
# The kinds that are tested, with the bits of a weight including its share of the scales.
_BITS = {"F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.5625, "Q4_1": 5.0, "Q4_K": 4.5, "Q4_0": 4.5}
_BLOCK = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_NAMES = {
    **_NAMES,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


class GgufFile:
    """One GGUF file. See `tensors.Checkpoint`. Raises CheckpointError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            reader = GGUFReader(path)
            self.fields: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
            self._tensors: dict[str, ReaderTensor] = {tensor.name: tensor for tensor in reader.tensors}
        except Exception as error:  # the library raises whatever a damaged file leads to
            raise CheckpointError(f"{path.name} is cut short or is not a GGUF file") from error
        if unknown := {tensor.tensor_type.name for tensor in reader.tensors} - _BITS.keys():
            known = ", ".join(_BITS)
            raise CheckpointError(f"{path.name} has weights in {min(unknown)}; {known} are known")
        self._architecture = self.fields.get("general.architecture")
        self._coarse = min((_bits(one) for one in reader.tensors if len(one.shape) > 1), default=0.0)

    @property
    def tied(self) -> bool:
        """True if the output matrix is the embedding."""
        return "output.weight" not in self._tensors

    @property
    def rotary_factors(self) -> tuple[float, ...]:
        """The factors that slow down rotary positions (Llama 3), or none."""
        found = self._tensors.get(ROTARY_FACTORS)
        return () if found is None else tuple(self._values(found).reshape(-1).tolist())

    def __contains__(self, name: str) -> bool:
        return self._name(name) in self._tensors

    def entry(self, name: str) -> Entry:
        """See Checkpoint.entry."""
        tensor = self._tensor(name)
        return Entry(tensor.tensor_type.name, tuple(int(side) for side in reversed(tensor.shape)))

    def read(self, name: str, *shape: int) -> Floats:
        """See Checkpoint.read."""
        found = self.entry(name).shape
        if found != shape:
            raise CheckpointError(f"{name} has shape {list(found)}; the metadata asks for {list(shape)}")
        values = finite(name, self._values(self._tensor(name)).reshape(shape))
        return self._in_halves(name, values) if self._architecture == "llama" else values

    def stored(self, name: str, *shape: int) -> Stored | None:
        """See Checkpoint.stored."""
        tensor = self._tensor(name)
        if not tensor.tensor_type.name.startswith("Q4"):
            return None
        found = self.entry(name).shape
        if found != shape:
            raise CheckpointError(f"{name} has shape {list(found)}; the metadata asks for {list(shape)}")
        parts = unpack(tensor.data, tensor.tensor_type)
        parts = replace(parts, scale=finite(name, parts.scale), low=finite(name, parts.low))
        if self._architecture != "llama":
            return parts
        return Stored(
            self._in_halves(name, parts.steps),
            self._in_halves(name, parts.scale),
            self._in_halves(name, parts.low),
        )

    def finer(self, name: str) -> bool:
        """See Checkpoint.finer."""
        bits = _bits(self._tensor(name))
        return self._coarse < bits < _BITS["F16"]

    def _in_halves(self, name: str, values: Array) -> Array:
        """Queries and keys of a Llama in transformers' order: llama.cpp's converter puts the pairs that turn side by side."""
        part = next((part for part in ("q", "k") if f"self_attn.{part}_proj." in name), None)
        if part is None:
            return values
        heads = int(self.fields["llama.attention.head_count"])
        if part == "k":
            heads = int(self.fields.get("llama.attention.head_count_kv", heads))
        pairs = values.reshape(heads, -1, 2, *values.shape[1:])
        return cast("Array", np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape))

    def _values(self, tensor: ReaderTensor) -> Floats:
        if tensor.tensor_type == GGMLQuantizationType.BF16:
            return (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        # A copy: a tensor in float32 is a read-only view of the file.
        return np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)

    def _tensor(self, name: str) -> ReaderTensor:
        found = self._tensors.get(self._name(name))
        if found is None:
            raise CheckpointError(f"{self.path.name} lacks the tensor {self._name(name)}")
        return found

    def _name(self, name: str) -> str:
        return gguf_name(name, self._architecture)


def gguf_name(name: str, architecture: object) -> str:
    """llama.cpp's name of a tensor with this name in transformers."""
    names = _GEMMA_NAMES if architecture == "gemma3" else _NAMES
    if match := _BLOCK.fullmatch(name):
        return f"blk.{match[1]}.{names.get(match[2], match[2])}.{match[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{names.get(stem, stem)}.{kind}"


def unpack(data: Bytes, kind: GGMLQuantizationType) -> Stored:
    """Steps, scales and lowest values of rows in Q4_0, Q4_1 or Q4_K (ggml-quants.c)."""
    rows = len(data)

    def floats(part: Bytes) -> Floats:
        return np.ascontiguousarray(part).view(np.float16).astype(np.float32)

    if kind == GGMLQuantizationType.Q4_K:
        blocks = data.reshape(-1, 144)
        packed = blocks[:, 4:16]
        # Eight scales and eight minima of 6 bits: the last four of each have their upper two bits in the bytes of the first.
        first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
        scales = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=1)
        minima = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=1)
        scale, low = floats(blocks[:, :2]) * scales, -floats(blocks[:, 2:4]) * minima
        # 32 bytes hold the low nibbles of one block of 32 and the high nibbles of the next.
        halves = blocks[:, 16:].reshape(-1, 4, 1, 32)
        steps = np.concatenate([halves & 15, halves >> 4], axis=2)
    else:
        blocks = data.reshape(-1, 18 if kind == GGMLQuantizationType.Q4_0 else 20)
        scale = floats(blocks[:, :2])
        low = np.float32(-8) * scale if kind == GGMLQuantizationType.Q4_0 else floats(blocks[:, 2:4])
        steps = np.concatenate([blocks[:, -16:] & 15, blocks[:, -16:] >> 4], axis=1)
    return Stored(steps.reshape(rows, -1), scale.reshape(rows, -1), low.reshape(rows, -1))


def _bits(tensor: ReaderTensor) -> float:
    return _BITS[tensor.tensor_type.name]


def find_gguf(source: Path) -> Path | None:
    """The GGUF file at `source`: itself, or the only one in the folder."""
    if source.is_file():
        return source if source.suffix == SUFFIX else None
    found = sorted(source.glob(f"*{SUFFIX}"))
    return found[0] if len(found) == 1 else None
