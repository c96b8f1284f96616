"""A GPT-NeoX checkpoint as a GGUF file, for llama.cpp: keys and layout as its converter (convert_hf_to_gguf.py) writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from mirage_models.llm.architecture import read_config
from mirage_models.llm.tensors import Tensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


def write_gguf(source: Path, path: Path) -> Path:
    """Write every matrix as Q4_0 (blocks of 32, one float16 scale) and the vectors as float32."""
    config, tensors = read_config(source), Tensors(source)
    writer = gguf.GGUFWriter(path, "gptneox", use_temp_file=False)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate)
    writer.add_rope_dimension_count(config.rotary)
    writer.add_head_count(config.heads)
    writer.add_parallel_residual(config.parallel)
    writer.add_layer_norm_eps(config.epsilon)
    writer.add_vocab_size(config.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    _tokenizer(writer, source, config.vocabulary)
    hidden, wide = config.hidden, config.intermediate

    def fused(name: str, *shape: int) -> Floats:
        heads = tensors.read(name, *shape).reshape(config.heads, 3, config.head, *shape[1:])
        return np.ascontiguousarray(heads.swapaxes(0, 1)).reshape(shape)

    def all_tensors() -> Iterator[tuple[str, Floats]]:
        yield "token_embd.weight", tensors.read("gpt_neox.embed_in.weight", config.vocabulary, hidden)
        yield "output.weight", tensors.read("embed_out.weight", config.vocabulary, hidden)
        for kind in ("weight", "bias"):
            yield f"output_norm.{kind}", tensors.read(f"gpt_neox.final_layer_norm.{kind}", hidden)
        for number in range(config.layers):
            theirs, ours = f"blk.{number}", f"gpt_neox.layers.{number}"
            yield f"{theirs}.attn_qkv.weight", fused(f"{ours}.attention.query_key_value.weight", 3 * hidden, hidden)
            yield f"{theirs}.attn_qkv.bias", fused(f"{ours}.attention.query_key_value.bias", 3 * hidden)
            for mine, name, rows, columns in (
                ("attn_output", "attention.dense", hidden, hidden),
                ("ffn_up", "mlp.dense_h_to_4h", wide, hidden),
                ("ffn_down", "mlp.dense_4h_to_h", hidden, wide),
            ):
                yield f"{theirs}.{mine}.weight", tensors.read(f"{ours}.{name}.weight", rows, columns)
                yield f"{theirs}.{mine}.bias", tensors.read(f"{ours}.{name}.bias", rows)
            for mine, name in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")):
                for kind in ("weight", "bias"):
                    yield f"{theirs}.{mine}.{kind}", tensors.read(f"{ours}.{name}.{kind}", hidden)

    kind = gguf.GGMLQuantizationType.Q4_0
    for name, values in all_tensors():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    partial = path.with_suffix(".partial")
    writer.write_header_to_file(partial)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)
    return path


def _tokenizer(writer: Any, source: Path, vocabulary: int) -> None:
    content = json.loads((source / "tokenizer.json").read_text("utf-8"))
    added = {entry["id"]: entry for entry in content["added_tokens"]}
    tokens = {number: token for token, number in content["model"]["vocab"].items()}
    tokens |= {number: entry["content"] for number, entry in added.items()}
    normal, control, unused = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.UNUSED
    types = []
    for number in range(vocabulary):
        special = added.get(number, {}).get("special", False)
        types.append(control if special else normal if number in tokens else unused)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in content["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens.get(number, f"[PAD{number}]") for number in range(vocabulary)])
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
