"""A GPT-NeoX checkpoint to an ONNX decoder, written operator by operator and layer by layer.

Made for decoding one token at a time on a CPU:

- Keys and values live in buffers as long as the context, which the kernel (GroupQueryAttention) extends in place. - In
the parallel form (Pythia, Dolly) attention and perceptron read the same normalised state. The scale and shift of their
layer norms are multiplied into the matrices that follow, so that one norm serves both and the four matrices of a layer
are two: [queries, keys, values, first of the perceptron] and [attention's output | second of the perceptron]. - Logits
are computed for the positions asked for alone: the last one, usually.

Inputs: `input_ids` int64 [1, S]; `rows` int64 [R], which of the S positions to give logits for; `seqlens_k` int32 [1],
the tokens in the cache after this run less one; `total` int32 [], the same without the less one; `key.I` and `value.I`
float32 [1, H, C, D] for each layer. Outputs: `logits` float32 [1, R, V], `present.key.I`, `present.value.I`, to be
bound to the inputs' own buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from mirage_inference.bundles.llm import DECODER, PROMPT
from mirage_models.llm.heads import arrange, head_layout, plain_places, rotation
from mirage_models.llm.weights import Form, GraphWriter

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from mirage_models.llm.architecture import NeoxConfig
    from mirage_models.llm.smoothing import Peaks
    from mirage_models.llm.tensors import Tensors

    Floats = npt.NDArray[np.float32]

EMBEDDING = "gpt_neox.embed_in.weight"
OUTPUT = "embed_out.weight"
_TABLES = ("embedding", "cosines", "sines", "global.", "local.")


@dataclass(frozen=True)
class _Linear:
    """A matrix [N, K] and its bias [N]."""

    weight: Floats
    bias: Floats

    def after_norm(self, norm: _Linear) -> _Linear:
        """The same, with a layer norm's scale (`weight` [K]) and shift (`bias` [K]) before it multiplied in."""
        shift = np.einsum("nk,k->n", self.weight, norm.bias, dtype=np.float64)
        return _Linear(self.weight * norm.weight, (self.bias + shift).astype(np.float32))


class _Builder:
    """One decoder at one precision."""

    def __init__(self, tensors: Tensors, config: NeoxConfig, writer: GraphWriter) -> None:
        self.tensors, self.config, self.writer = tensors, config, writer
        self.layout = head_layout(config)
        cosines, sines = rotation(config, self.layout)
        self.cosines, self.sines = writer.tensor("cosines", cosines), writer.tensor("sines", sines)
        self.one = writer.tensor("norm.one", np.ones(config.hidden, np.float32))
        self.zero = writer.tensor("norm.zero", np.zeros(config.hidden, np.float32))

    def norm(self, name: str) -> _Linear:
        """A layer norm's scale and shift."""
        hidden = self.config.hidden
        return _Linear(self.tensors.read(f"{name}.weight", hidden), self.tensors.read(f"{name}.bias", hidden))

    def linear(self, name: str, rows: int, columns: int, *, biased: bool = True) -> _Linear:
        """Returns a matrix and its bias, or zeros if it lacks one."""
        weight = self.tensors.read(f"{name}.weight", rows, columns)
        return _Linear(weight, self.tensors.read(f"{name}.bias", rows) if biased else np.zeros(rows, np.float32))

    def queries_keys_values(self, name: str) -> _Linear:
        """The fused projection: in the checkpoint each head has its queries, keys and values.

        Here all queries come first.
        """
        config, layout = self.config, self.layout
        fused = self.linear(name, 3 * config.hidden, config.hidden, biased=config.attention_bias)
        places = (layout.places, layout.places, plain_places(config.head, layout.size))

        def rearranged(values: Floats) -> Floats:
            heads = values.reshape(config.heads, 3, config.head, *values.shape[1:])
            return np.concatenate([arrange(heads[:, part], places[part]) for part in range(3)])

        return _Linear(rearranged(fused.weight), rearranged(fused.bias))

    def attention_output(self, name: str) -> _Linear:
        """Returns the matrix after attention, filled with zeros if the kernel's heads are longer than the model's."""
        config, layout = self.config, self.layout
        dense = self.linear(name, config.hidden, config.hidden, biased=config.attention_bias)
        heads = np.ascontiguousarray(dense.weight.T).reshape(config.heads, config.head, config.hidden)
        return _Linear(np.ascontiguousarray(arrange(heads, plain_places(config.head, layout.size)).T), dense.bias)

    def normalised(self, name: str, source: str, scale: str, shift: str) -> str:
        """Layer norm."""
        return self.writer.node(
            "LayerNormalization", [source, scale, shift], name, axis=-1, epsilon=self.config.epsilon
        )

    def attention(self, layer: int, packed: str) -> str:
        """Causal attention of packed queries, keys and values over the cache."""
        return self.writer.node(
            "GroupQueryAttention",
            [
                packed,
                "",
                "",
                f"key.{layer}",
                f"value.{layer}",
                "seqlens_k",
                "total",
                self.cosines,
                self.sines,
            ],
            [f"attention.{layer}", f"present.key.{layer}", f"present.value.{layer}"],
            num_heads=self.config.heads,
            kv_num_heads=self.config.heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=self.config.head**-0.5,
        )

    def fills_cache_with(self, number: int) -> bool:
        """True for the last layer of a graph that reads prompts, which is there for its keys and values alone."""
        return self.writer.precision == "prompt" and number == self.config.layers - 1

    def layer(self, number: int, state: str) -> str:
        """One layer."""
        return self.parallel(number, state) if self.config.parallel else self.sequential(number, state)

    def parallel(self, number: int, state: str) -> str:
        """state + attention(norm(state)) + perceptron(norm'(state))."""
        config, writer, name = self.config, self.writer, f"gpt_neox.layers.{number}"
        first = self.queries_keys_values(f"{name}.attention.query_key_value").after_norm(
            self.norm(f"{name}.input_layernorm")
        )
        normed = self.normalised(f"norm.{number}", state, self.one, self.zero)
        if self.fills_cache_with(number):
            return self.attention(number, writer.linear(f"packed.{number}", normed, first.weight, first.bias))
        rise = self.linear(f"{name}.mlp.dense_h_to_4h", config.intermediate, config.hidden).after_norm(
            self.norm(f"{name}.post_attention_layernorm")
        )
        wide = writer.linear(
            f"wide.{number}",
            normed,
            np.concatenate([first.weight, rise.weight]),
            np.concatenate([first.bias, rise.bias]),
        )
        sizes = writer.tensor(f"sizes.{number}", np.array([len(first.bias), len(rise.bias)], np.int64))
        packed, risen = f"packed.{number}", f"risen.{number}"
        writer.node("Split", [wide, sizes], [packed, risen], axis=-1)
        del first, rise
        bent = writer.node("Gelu", [risen], f"bent.{number}", approximate=config.gelu)
        both = writer.node("Concat", [self.attention(number, packed), bent], f"both.{number}", axis=-1)
        dense = self.attention_output(f"{name}.attention.dense")
        fall = self.linear(f"{name}.mlp.dense_4h_to_h", config.hidden, config.intermediate)
        narrow = writer.linear(
            f"narrow.{number}", both, np.concatenate([dense.weight, fall.weight], axis=1), dense.bias + fall.bias
        )
        return writer.node("Add", [state, narrow], f"state.{number}")

    def sequential(self, number: int, state: str) -> str:
        """One after the other, as in GPT-2: each with its own norm of what came before it."""
        config, writer, name = self.config, self.writer, f"gpt_neox.layers.{number}"
        first = self.queries_keys_values(f"{name}.attention.query_key_value").after_norm(
            self.norm(f"{name}.input_layernorm")
        )
        normed = self.normalised(f"norm.{number}", state, self.one, self.zero)
        packed = writer.linear(f"packed.{number}", normed, first.weight, first.bias)
        if self.fills_cache_with(number):
            return self.attention(number, packed)
        dense = self.attention_output(f"{name}.attention.dense")
        attended = writer.linear(f"dense.{number}", self.attention(number, packed), dense.weight, dense.bias)
        middle = writer.node("Add", [state, attended], f"middle.{number}")
        rise = self.linear(f"{name}.mlp.dense_h_to_4h", config.intermediate, config.hidden).after_norm(
            self.norm(f"{name}.post_attention_layernorm")
        )
        normed = self.normalised(f"norm.middle.{number}", middle, self.one, self.zero)
        risen = writer.linear(f"risen.{number}", normed, rise.weight, rise.bias)
        bent = writer.node("Gelu", [risen], f"bent.{number}", approximate=config.gelu)
        fall = self.linear(f"{name}.mlp.dense_4h_to_h", config.hidden, config.intermediate)
        fallen = writer.linear(f"fallen.{number}", bent, fall.weight, fall.bias)
        return writer.node("Add", [middle, fallen], f"state.{number}")

    def decoder(self) -> None:
        """All of it, from ids to logits; or to the cache alone, if it is to read prompts."""
        config, writer = self.config, self.writer
        table = self.tensors.read(EMBEDDING, config.vocabulary, config.hidden)
        state = writer.lookup("embedding", "input_ids", table, kept_as=self.tensors.entry(EMBEDDING).dtype)
        del table
        for number in range(config.layers):
            state = self.layer(number, state)
        if writer.precision == "prompt":
            return
        chosen = writer.node("Gather", [state, "rows"], "chosen", axis=1)
        norm = self.norm("gpt_neox.final_layer_norm")
        scale, shift = writer.tensor("norm.last.scale", norm.weight), writer.tensor("norm.last.shift", norm.bias)
        normed = self.normalised("norm.last", chosen, scale, shift)
        output = self.tensors.read(EMBEDDING if config.tied else OUTPUT, config.vocabulary, config.hidden)
        writer.linear("logits", normed, output, None)


def write_decoder(
    tensors: Tensors, config: NeoxConfig, path: Path, form: Form, *, peaks: Peaks | None = None, threads: int = 2
) -> tuple[Path, Path]:
    """Writes the decoder to `path` (.onnx) and its weights to a second file (.data).

    The same bytes for the same checkpoint. In the form "prompt", it is the graph that reads prompts for the decoder that
    is already there in the same folder, smoothed by `peaks` of its inputs; see `open_writer`.

    Holds one matrix of a layer at a time. Raises CheckpointError if a tensor is missing or is not what it should be.
    """
    with open_writer(path, form, peaks, threads=threads) as writer:
        builder = _Builder(tensors, config, writer)
        builder.decoder()
        size = builder.layout.size
    write_model(writer, path, layers=config.layers, heads=config.heads, head_size=size, vocabulary=config.vocabulary)
    return path, path.with_suffix(".data")


def open_writer(path: Path, form: Form, peaks: Peaks | None, *, threads: int) -> GraphWriter:
    """A writer of the graph at `path`. One that reads prompts, `prompt.NAME.onnx`, shares the tables of
    `decoder.NAME.onnx`: the embeddings, cosines and sines.
    """
    shared = {}
    if form == "prompt":
        decoder = path.with_name(f"{DECODER}{path.name.removeprefix(PROMPT)}")
        tables = onnx.load(decoder, load_external_data=False).graph.initializer
        shared = {one.name: one for one in tables if one.external_data and one.name.startswith(_TABLES)}
    return GraphWriter(path.with_suffix(".data"), form, threads=threads, shared=shared, peaks=peaks)


def write_model(writer: GraphWriter, path: Path, *, layers: int, heads: int, head_size: int, vocabulary: int) -> None:
    """Writes the graph of a decoder with these sizes of its cache, and the inputs and outputs that all decoders have.

    A graph that reads prompts has neither `rows` nor `logits`.
    """
    cache = [1, heads, "capacity", head_size]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "length"]),
        helper.make_tensor_value_info("rows", TensorProto.INT64, ["rows"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [1]),
        helper.make_tensor_value_info("total", TensorProto.INT32, []),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "rows", vocabulary])]
    if writer.precision == "prompt":
        del inputs[1], outputs[0]
    for name in (f"{kind}.{number}" for number in range(layers) for kind in ("key", "value")):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, cache))
        outputs.append(helper.make_tensor_value_info(f"present.{name}", TensorProto.FLOAT, cache))
    path.write_bytes(writer.model(inputs, outputs).SerializeToString(deterministic=True))
