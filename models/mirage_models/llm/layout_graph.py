"""Llama, Qwen 2.5, Qwen 3 or Gemma 3 to an ONNX decoder, with the inputs and outputs of `graph.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mirage_models.llm.graph import open_writer, write_model

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from mirage_models.llm.layout import LayoutConfig
    from mirage_models.llm.smoothing import Peaks
    from mirage_models.llm.tensors import Checkpoint
    from mirage_models.llm.weights import Form, GraphWriter

    Floats = npt.NDArray[np.float32]

EMBEDDING, LAST_NORM, OUTPUT = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


class _Builder:
    """One decoder at one precision."""

    def __init__(self, tensors: Checkpoint, config: LayoutConfig, writer: GraphWriter) -> None:
        self.tensors, self.config, self.writer = tensors, config, writer
        self.rotations = {}
        for local in sorted(set(config.local)):
            rotation = config.local_rotation if local else config.rotation
            cosines, sines = rotation.tables(config.context, config.head)
            kind = "local" if local else "global"
            self.rotations[local] = [
                writer.tensor(f"{kind}.cosines", cosines),
                writer.tensor(f"{kind}.sines", sines),
            ]
        self.each_head = writer.tensor("each.head", np.array([0, 0, -1, config.head], np.int64))
        self.all_heads = writer.tensor("all.heads", np.array([0, 0, -1], np.int64))

    def norm(self, name: str, source: str, place: str, size: int | None = None) -> str:
        """Root mean square norm over the last axis."""
        scale = self.tensors.read(f"{name}.weight", size or self.config.hidden) + np.float32(self.config.norm_offset)
        inputs = [source, self.writer.tensor(f"{place}.scale", scale.astype(np.float32))]
        return self.writer.node("SimplifiedLayerNormalization", inputs, place, axis=-1, epsilon=self.config.epsilon)

    def linear(self, place: str, source: str, rows: dict[str, int], columns: int, *, biased: bool = False) -> str:
        """The product with matrices that read the same input, one below the other."""
        names = {f"{name}.weight": count for name, count in rows.items()}
        bias = [self.tensors.read(f"{name}.bias", count) for name, count in rows.items()] if biased else []
        added = np.concatenate(bias) if bias else None
        finer = any(self.tensors.finer(name) for name in names)
        if self.writer.precision == "int4" and not finer:
            stored = [self.tensors.stored(name, count, columns) for name, count in names.items()]
            if all(one is not None for one in stored):
                return self.writer.stored_linear(place, source, [one for one in stored if one is not None], added)
        weights = np.concatenate([self.tensors.read(name, count, columns) for name, count in names.items()])
        return self.writer.linear(place, source, weights, added, finer=finer)

    def attention(self, number: int, name: str, normed: str) -> str:
        """Causal attention over the cache; in the last layer of a graph that reads prompts, not what comes of it."""
        config, writer = self.config, self.writer
        queries, keys = config.heads * config.head, config.key_heads * config.head
        rows = {f"{name}.q_proj": queries, f"{name}.k_proj": keys, f"{name}.v_proj": keys}
        packed = self.linear(f"packed.{number}", normed, rows, config.hidden, biased=config.attention_bias)
        inputs = [packed, "", ""]
        if config.head_norm:
            sizes = writer.tensor(f"sizes.{number}", np.array([queries, keys, keys], np.int64))
            inputs = [f"{part}.{number}" for part in ("queries", "keys", "values")]
            writer.node("Split", [packed, sizes], inputs, axis=-1)
            for place, part in enumerate(("q", "k")):
                heads = writer.node("Reshape", [inputs[place], self.each_head], f"{inputs[place]}.heads")
                heads = self.norm(f"{name}.{part}_norm", heads, f"{inputs[place]}.norm", config.head)
                inputs[place] = writer.node("Reshape", [heads, self.all_heads], f"{inputs[place]}.normed")
        local = config.local[number]
        attended = writer.node(
            "GroupQueryAttention",
            [*inputs, f"key.{number}", f"value.{number}", "seqlens_k", "total", *self.rotations[local]],
            [f"attention.{number}", f"present.key.{number}", f"present.value.{number}"],
            num_heads=config.heads,
            kv_num_heads=config.key_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=config.scale,
            local_window_size=config.window if local else -1,
        )
        if writer.precision == "prompt" and number == config.layers - 1:
            return attended
        return self.linear(f"attended.{number}", attended, {f"{name}.o_proj": config.hidden}, queries)

    def perceptron(self, number: int, name: str, normed: str) -> str:
        """The gated perceptron."""
        config, writer = self.config, self.writer
        wide = config.intermediate
        rows = {f"{name}.gate_proj": wide, f"{name}.up_proj": wide}
        both = self.linear(f"wide.{number}", normed, rows, config.hidden)
        gate, up = f"gate.{number}", f"up.{number}"
        writer.node("Split", [both], [gate, up], axis=-1, num_outputs=2)
        if config.gate == "silu":
            bent = writer.node("QuickGelu", [gate], f"bent.{number}", alpha=1.0)
        else:
            bent = writer.node("Gelu", [gate], f"bent.{number}", approximate="tanh")
        gated = writer.node("Mul", [bent, up], f"gated.{number}")
        return self.linear(f"fallen.{number}", gated, {f"{name}.down_proj": config.hidden}, wide)

    def layer(self, number: int, state: str) -> str:
        """One layer; returns the new state."""
        config, writer, name = self.config, self.writer, f"model.layers.{number}"
        before = "pre_feedforward_layernorm" if config.norm_after else "post_attention_layernorm"
        normed = self.norm(f"{name}.input_layernorm", state, f"norm.{number}")
        added = self.attention(number, f"{name}.self_attn", normed)
        if writer.precision == "prompt" and number == config.layers - 1:
            return added
        if config.norm_after:
            added = self.norm(f"{name}.post_attention_layernorm", added, f"norm.attended.{number}")
        state = writer.node("Add", [state, added], f"middle.{number}")
        normed = self.norm(f"{name}.{before}", state, f"norm.middle.{number}")
        added = self.perceptron(number, f"{name}.mlp", normed)
        if config.norm_after:
            added = self.norm(f"{name}.post_feedforward_layernorm", added, f"norm.fallen.{number}")
        return writer.node("Add", [state, added], f"state.{number}")

    def decoder(self) -> None:
        """All of it, from ids to logits; or to the cache alone, if it is to read prompts."""
        config, writer = self.config, self.writer
        table = self.tensors.read(EMBEDDING, config.vocabulary, config.hidden)
        state = writer.lookup("embedding", "input_ids", table, kept_as=self.tensors.entry(EMBEDDING).dtype)
        del table
        if config.embedding_scale != 1:
            factor = writer.tensor("embedding.scale", np.array(config.embedding_scale, np.float32))
            state = writer.node("Mul", [state, factor], "scaled")
        for number in range(config.layers):
            state = self.layer(number, state)
        if writer.precision == "prompt":
            return
        chosen = writer.node("Gather", [state, "rows"], "chosen", axis=1)
        normed = self.norm(LAST_NORM.removesuffix(".weight"), chosen, "norm.last")
        output = EMBEDDING if config.tied else OUTPUT
        self.linear("logits", normed, {output.removesuffix(".weight"): config.vocabulary}, config.hidden)


def write_layout_decoder(
    tensors: Checkpoint, config: LayoutConfig, path: Path, form: Form, *, peaks: Peaks | None = None, threads: int = 2
) -> tuple[Path, Path]:
    """Writes the decoder to `path` (.onnx) and its weights to a second file (.data). See `graph.write_decoder`."""
    with open_writer(path, form, peaks, threads=threads) as writer:
        _Builder(tensors, config, writer).decoder()
    write_model(
        writer, path, layers=config.layers, heads=config.key_heads, head_size=config.head, vocabulary=config.vocabulary
    )
    return path, path.with_suffix(".data")
