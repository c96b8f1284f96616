"""A real llama.cpp server in this process, on tiny models with random weights that are made here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import xllamacpp

from tests.support.waiting import until_async

WIDTH, HEADS, LAYERS, HIDDEN, CONTEXT = 32, 2, 2, 64, 2048
CHAT = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}{% endfor %}<s>assistant:"
SIDE, PATCH = 128, 8
LONG_CONTEXT = 32_768
GEMMA_CONTROL = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "<start_of_turn>model\n"
)  # fmt: skip


def write_tiny_llama(path: Path) -> None:
    """Writes a GGUF of a Llama with random weights, whose tokens are bytes."""
    random = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT)

    add = _tensors(writer, random)
    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    add("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        for name, shape in (("gate", (HIDDEN, WIDTH)), ("up", (HIDDEN, WIDTH)), ("down", (WIDTH, HIDDEN))):
            add(f"blk.{layer}.ffn_{name}.weight", *shape)
        add(f"blk.{layer}.attn_norm.weight", WIDTH)
        add(f"blk.{layer}.ffn_norm.weight", WIDTH)
    _finish(writer)


def write_tiny_gemma3(path: Path, lines: Sequence[str]) -> None:
    """Writes a GGUF of a Gemma 3 (MedGemma's layout) with random weights, which writes these lines in an order of its own.

    Each line is a token; those of the bytes, which prompts are made of, and those of control have too little weight to be
    written. So it never ends.
    """
    random = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(LONG_CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(1024)
    writer.add_rope_freq_base(1e6)
    never = len(GEMMA_CONTROL) + 256
    tokens = [*GEMMA_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [line.replace(" ", "\N{LOWER ONE EIGHTH BLOCK}") for line in lines]
    kinds = [gguf.TokenType.CONTROL] * len(GEMMA_CONTROL) + [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([*kinds, *[gguf.TokenType.NORMAL] * len(lines)])
    for name, add_id in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id)):
        add_id(GEMMA_CONTROL.index(f"<{name}>"))
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(GEMMA_CHAT)

    add = _tensors(writer, random)
    embedding = random.normal(0, 0.1, (len(tokens), WIDTH))
    embedding[:never] *= 0.1
    writer.add_tensor("token_embd.weight", embedding.astype(np.float32))
    add("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        for name, shape in (("gate", (HIDDEN, WIDTH)), ("up", (HIDDEN, WIDTH)), ("down", (WIDTH, HIDDEN))):
            add(f"blk.{layer}.ffn_{name}.weight", *shape)
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            add(f"blk.{layer}.{name}.weight", WIDTH)
        for name in ("attn_q_norm", "attn_k_norm"):
            # Sharp enough for single tokens to matter, also those of the image.
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.full(WIDTH // HEADS, 3, np.float32))
    _finish(writer)


def write_tiny_gemma3_vision(path: Path) -> None:
    """Writes the GGUF of the image tower and the projection (mmproj) of a tiny Gemma 3, with random weights."""
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("gemma3")
    writer.add_vision_image_size(SIDE)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_embedding_length(WIDTH)
    writer.add_vision_feed_forward_length(HIDDEN)
    writer.add_vision_projection_dim(WIDTH)
    writer.add_vision_block_count(LAYERS)
    writer.add_vision_head_count(HEADS)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(True)

    add = _tensors(writer, random)
    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.patch_embd.bias", WIDTH)
    add("v.position_embd.weight", (SIDE // PATCH) ** 2, WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add(f"v.blk.{layer}.{name}.weight", WIDTH, WIDTH)
            add(f"v.blk.{layer}.{name}.bias", WIDTH)
        for name, shape in (("ffn_up", (HIDDEN, WIDTH)), ("ffn_down", (WIDTH, HIDDEN))):
            add(f"v.blk.{layer}.{name}.weight", *shape)
            add(f"v.blk.{layer}.{name}.bias", shape[0])
        for name in ("ln1", "ln2"):
            add(f"v.blk.{layer}.{name}.weight", WIDTH)
            add(f"v.blk.{layer}.{name}.bias", WIDTH)
    add("v.post_ln.weight", WIDTH)
    add("v.post_ln.bias", WIDTH)
    add("mm.input_projection.weight", WIDTH, WIDTH)
    add("mm.soft_emb_norm.weight", WIDTH)
    _finish(writer)


def _tensors(writer: gguf.GGUFWriter, random: np.random.Generator) -> Callable[..., None]:
    """Adds random matrices; vectors are ones, and biases zeros."""

    def add(name: str, *shape: int) -> None:
        values = random.normal(0, 0.4, shape) if len(shape) > 1 else np.full(shape, float(not name.endswith("bias")))
        writer.add_tensor(name, values.astype(np.float32))

    return add


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def llama_server(path: Path, vision: Path | None = None, context: int = CONTEXT) -> Iterator[str]:
    """Serves a GGUF, with the GGUF of its image tower if it has one; yields the address up to /v1."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    if vision:
        params.mmproj.path = str(vision)
        params.mmproj_use_gpu = False
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = context, 1, 0, False
    params.cpuparams.n_threads = 1
    params.hostnames, params.port, params.ui = ["127.0.0.1"], 0, False
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server


async def is_writing(url: str) -> bool:
    """True while the server's only slot is at work."""
    return bool((await _slot(url))["is_processing"])


async def tokens_when_idle(url: str) -> int:
    """Waits until the only slot is idle; returns the tokens of its last request, those of the prompt included."""

    async def idle() -> Mapping[str, Any] | None:
        slot = await _slot(url)
        return None if slot["is_processing"] else slot

    return int((await until_async(idle))["n_prompt_tokens"])


async def _slot(url: str) -> Mapping[str, Any]:
    async with httpx.AsyncClient() as client:
        (slot,) = (await client.get(f"{url.removesuffix('/v1')}/slots")).json()
    return dict(slot)
