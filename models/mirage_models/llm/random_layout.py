"""Small checkpoints of today's decoders with random weights: a folder as transformers writes it, or a GGUF file.

For tests, without torch. GGUF files have the names and the order of the dimensions that llama.cpp's converter
(convert_hf_to_gguf.py) gives them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mirage_models.llm.gguf_file import gguf_name
from mirage_models.llm.layout import LAYOUTS, Layout, config_from_json
from mirage_models.llm.texts import SENTENCES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

WORDS = 400
CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_COMMON: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
_LIKE: dict[Layout, dict[str, Any]] = {
    "llama": {
        "model_type": "llama",
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True, "head_dim": 16},
    "qwen3": {"model_type": "qwen3", "rope_theta": 1e6},
    "gemma3": {
        "model_type": "gemma3_text",
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 32,
        "sliding_window": 12,
        "sliding_window_pattern": 6,
        "num_hidden_layers": 7,
        "tie_word_embeddings": True,
    },
}


def config_like(layout: Layout, **changes: Any) -> dict[str, Any]:
    """A small config.json of a layout."""
    architecture = next(name for name, known in LAYOUTS.items() if known == layout)
    return {**_COMMON, "architectures": [architecture], **_LIKE[layout], **changes}


def random_tensors(raw: Mapping[str, Any], layout: Layout, seed: int) -> dict[str, Floats]:
    """Random weights under transformers' names, large enough for every part to matter."""
    config, random = config_from_json(raw, layout), np.random.default_rng(seed)
    tensors: dict[str, Floats] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = (random.standard_normal((rows, columns)) * columns**-0.5).astype(np.float32)

    def vector(name: str, size: int, mean: float) -> None:
        tensors[name] = (mean + 0.2 * random.standard_normal(size)).astype(np.float32)

    matrix("model.embed_tokens", config.vocabulary, config.hidden)
    queries, keys = config.heads * config.head, config.key_heads * config.head
    for number in range(config.layers):
        name = f"model.layers.{number}"
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            matrix(f"{name}.self_attn.{part}_proj", rows, config.hidden)
            if config.attention_bias:
                vector(f"{name}.self_attn.{part}_proj.bias", rows, 0)
            if config.head_norm and part != "v":
                vector(f"{name}.self_attn.{part}_norm.weight", config.head, 1 - config.norm_offset)
        matrix(f"{name}.self_attn.o_proj", config.hidden, queries)
        matrix(f"{name}.mlp.gate_proj", config.intermediate, config.hidden)
        matrix(f"{name}.mlp.up_proj", config.intermediate, config.hidden)
        matrix(f"{name}.mlp.down_proj", config.hidden, config.intermediate)
        norms = ["input", "post_attention"] + ["pre_feedforward", "post_feedforward"] * config.norm_after
        for norm in norms:
            vector(f"{name}.{norm}_layernorm.weight", config.hidden, 1 - config.norm_offset)
    vector("model.norm.weight", config.hidden, 1 - config.norm_offset)
    if not config.tied:
        matrix("lm_head", config.vocabulary, config.hidden)
    return tensors


def write_safetensors(tensors: Mapping[str, Floats], path: Path) -> None:
    """Writes float32 tensors (format: huggingface/safetensors, README)."""
    header: dict[str, Any] = {}
    place = 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [place, place + values.nbytes],
        }
        place += values.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(one.tobytes() for one in tensors.values()))


def byte_tokenizer() -> Tokenizer:
    """A byte-level BPE with the special tokens of ChatML."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=list(CHAT_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def write_random_layout(layout: Layout, out: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Writes a checkpoint folder; the same files for the same seed."""
    raw = config_like(layout, **changes)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(raw, indent=2) + "\n", "utf-8")
    write_safetensors(random_tensors(raw, layout, seed), out / "model.safetensors")
    byte_tokenizer().save(str(out / "tokenizer.json"))
    return out


def write_random_gguf(
    layout: Layout, path: Path, *, kind: str = "F32", output: str | None = None, seed: int = 0, **changes: Any
) -> Path:
    """Writes a GGUF file with its matrices in `kind` (such as Q4_0), and the embedding and the output in `output`."""
    raw = config_like(layout, **changes)
    config = config_from_json(raw, layout)
    writer = gguf.GGUFWriter(path, layout, use_temp_file=False)
    writer.add_context_length(raw["max_position_embeddings"])
    writer.add_embedding_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.key_heads)
    writer.add_key_length(config.head)
    writer.add_value_length(config.head)
    writer.add_rope_dimension_count(config.head)
    writer.add_rope_freq_base(config.rotation.base)
    writer.add_layer_norm_rms_eps(config.epsilon)
    if config.window:
        writer.add_sliding_window(config.window)
    _tokenizer(writer)
    if config.rotation.factors:
        writer.add_tensor("rope_freqs.weight", np.array(config.rotation.factors, np.float32))
    for name, values in random_tensors(raw, layout, seed).items():
        if values.ndim == 1:
            shift = config.norm_offset if "norm" in name else 0
            writer.add_tensor(gguf_name(name, layout), (values + np.float32(shift)).astype(np.float32))
            continue
        if layout == "llama" and any(f"self_attn.{part}_proj" in name for part in "qk"):
            halves = values.reshape(-1, 2, config.head // 2, values.shape[1])
            values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
        outer = output is not None and ("embed" in name or "lm_head" in name)
        kept = gguf.GGMLQuantizationType[output if outer and output else kind]
        writer.add_tensor(gguf_name(name, layout), gguf.quantize(values, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tokenizer(writer: Any) -> None:
    content = json.loads(byte_tokenizer().to_str())
    vocabulary = sorted(content["model"]["vocab"].items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary] + [f"<unused{number}>" for number in range(len(vocabulary), WORDS)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in CHAT_TOKENS else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_eos_token_id(2)
