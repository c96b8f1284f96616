"""Decoders of Llama, Qwen and Gemma give what the plain formulas give, from safetensors and from GGUF, in each precision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from gguf import GGMLQuantizationType, dequantize

from mirage_inference.llm.decoder import Decoder, DecoderShape
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeEngine
from mirage_models.llm.gguf_file import GgufFile, unpack
from mirage_models.llm.layout import Layout, LayoutConfig, config_from_gguf, config_from_json
from mirage_models.llm.layout_graph import write_layout_decoder
from mirage_models.llm.layout_original import layout_logits
from mirage_models.llm.random_layout import config_like, random_tensors, write_random_gguf, write_random_layout
from mirage_models.llm.tensors import Checkpoint, Tensors
from mirage_models.llm.weights import Precision
from mirage_models.tasks import CheckpointError, UnknownArchitectureError

LAYOUTS: tuple[Layout, ...] = ("llama", "qwen2", "qwen3", "gemma3")
IDS = np.random.default_rng(0).integers(3, 300, 40).tolist()


def opened(folder: Path, layout: Layout) -> tuple[Checkpoint, LayoutConfig]:
    return Tensors(folder), config_from_json(json.loads((folder / "config.json").read_text("utf-8")), layout)


def opened_gguf(path: Path) -> tuple[GgufFile, LayoutConfig]:
    file = GgufFile(path)
    return file, config_from_gguf(file.fields, tied=file.tied, factors=file.rotary_factors, name=path.name)


def logits_of(tensors: Checkpoint, config: LayoutConfig, ids: list[int] = IDS) -> npt.NDArray[np.float32]:
    [pieces] = [np.concatenate(list(pieces)) for pieces in layout_logits(tensors, config, [ids])]
    return pieces


def decoder_of(tensors: Checkpoint, config: LayoutConfig, folder: Path, precision: Precision = "fp32") -> Decoder:
    path, _ = write_layout_decoder(tensors, config, folder / f"decoder.{precision}.onnx", precision)
    shape = DecoderShape(config.vocabulary, config.layers, config.key_heads, config.head, config.context)
    return OnnxRuntimeEngine().load_file(path, shape, threads=1)


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        ("llama", {}),
        ("llama", {"rope_scaling": None, "num_key_value_heads": 4}),
        ("llama", {"tie_word_embeddings": True, "num_attention_heads": 6, "head_dim": 16}),
        ("qwen2", {}),
        ("qwen2", {"num_key_value_heads": 1}),
        ("qwen3", {}),
        ("qwen3", {"tie_word_embeddings": True, "hidden_size": 48}),
        ("gemma3", {}),
        ("gemma3", {"sliding_window": 5, "query_pre_attn_scalar": 50, "num_key_value_heads": 1}),
        ("gemma3", {"layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2}),
        ("gemma3", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ],
    ids=str,
)
def test_every_layout_gives_the_plain_formulas_logits(tmp_path: Path, layout: Layout, changes: dict[str, Any]) -> None:
    tensors, config = opened(write_random_layout(layout, tmp_path, **changes), layout)
    wanted = logits_of(tensors, config)
    session = decoder_of(tensors, config, tmp_path).open()
    found = [session.prefill(IDS[:10])[None], session.score(IDS[10:25])]
    found += [session.step(token)[None].copy() for token in IDS[25:]]
    assert np.abs(np.concatenate(found) - wanted[9:]).max() < 2e-4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_run_together_do_not_see_each_other(tmp_path: Path, layout: Layout) -> None:
    tensors, config = opened(write_random_layout(layout, tmp_path), layout)
    texts = [IDS[:7], IDS[5:30]]
    together = [np.concatenate(list(pieces)) for pieces in layout_logits(tensors, config, texts)]
    for text, found in zip(texts, together, strict=True):
        assert np.abs(found - logits_of(tensors, config, text)).max() < 1e-5


@pytest.mark.parametrize(("precision", "correlation"), [("int8", 0.99), ("int4", 0.85)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_quantised_decoders_stay_close(
    tmp_path: Path, layout: Layout, precision: Precision, correlation: float
) -> None:
    tensors, config = opened(write_random_layout(layout, tmp_path), layout)
    found = decoder_of(tensors, config, tmp_path, precision).open().score(IDS)
    assert np.corrcoef(found.ravel(), logits_of(tensors, config).ravel())[0, 1] > correlation


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gguf_file_is_the_same_model_as_the_folder(tmp_path: Path, layout: Layout) -> None:
    wanted = logits_of(*opened(write_random_layout(layout, tmp_path / "folder"), layout))
    found = logits_of(*opened_gguf(write_random_gguf(layout, tmp_path / "model.gguf")))
    assert np.abs(found - wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "error"), [("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 0.01), ("Q4_0", 0.15), ("Q4_1", 0.12)]
)
def test_quantised_weights_of_a_gguf_file_are_read(tmp_path: Path, kind: str, error: float) -> None:
    changes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96}
    original = random_tensors(config_like("qwen3", **changes), "qwen3", 0)
    file, _ = opened_gguf(write_random_gguf("qwen3", tmp_path / "model.gguf", kind=kind, **changes))
    name = "model.layers.1.mlp.down_proj.weight"
    found = file.read(name, 64, 96)
    assert file.entry(name).dtype == kind
    assert 0 < np.abs(found - original[name]).mean() < error * np.abs(original[name]).mean()


@pytest.mark.parametrize(("kind", "size"), [("Q4_0", 18), ("Q4_1", 20), ("Q4_K", 144)])
def test_steps_and_scales_of_4_bits_are_the_librarys_weights(kind: str, size: int) -> None:
    random = np.random.default_rng(1)
    rows = random.integers(0, 256, (6, 4 * size), np.uint8)
    scales = rows.reshape(-1, size)[:, :4].view(np.float16)
    scales[:] = random.uniform(-1, 1, scales.shape)
    if kind == "Q4_0":  # two bytes of scale alone
        rows.reshape(-1, size)[:, 2:4] = random.integers(0, 256, (24, 2), np.uint8)
    parts = unpack(rows, GGMLQuantizationType[kind])
    found = np.repeat(parts.scale, 32, axis=1) * parts.steps + np.repeat(parts.low, 32, axis=1)
    assert np.abs(found - dequantize(rows, GGMLQuantizationType[kind])).max() < 1e-5
    centred = parts.blocks.dequantised(found.shape[1]) + np.repeat(parts.centre, 32, axis=1)
    assert np.abs(centred - found).max() < 1e-4


@pytest.mark.parametrize(
    ("layout", "kind"), [("llama", "Q4_0"), ("llama", "Q4_1"), ("qwen2", "Q4_1"), ("gemma3", "Q4_0")]
)
def test_weights_of_4_bits_stay_what_the_file_stores(tmp_path: Path, layout: Layout, kind: str) -> None:
    file, config = opened_gguf(write_random_gguf(layout, tmp_path / "model.gguf", kind=kind, output="Q8_0"))
    found = decoder_of(file, config, tmp_path, "int4").open().score(IDS)
    assert np.corrcoef(found.ravel(), logits_of(file, config).ravel())[0, 1] > 0.99


def test_matrices_that_the_file_stores_finer_stay_finer(tmp_path: Path) -> None:
    tensors, config = opened_gguf(write_random_gguf("llama", tmp_path / "a.gguf", kind="Q4_0", output="Q8_0"))
    assert tensors.finer("lm_head.weight")
    assert not tensors.finer("model.layers.0.mlp.up_proj.weight")
    path, _ = write_layout_decoder(tensors, config, tmp_path / "decoder.int4.onnx", "int4")
    bits = {
        node.name: attribute.i
        for node in onnx.load(path, load_external_data=False).graph.node
        for attribute in node.attribute
        if attribute.name == "bits"
    }
    assert bits.pop("logits") == 8
    assert set(bits.values()) == {4}


@pytest.mark.parametrize(
    ("layout", "changes", "problem"),
    [
        ("llama", {"attention_bias": True}, UnknownArchitectureError),
        ("llama", {"hidden_act": "relu"}, UnknownArchitectureError),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, UnknownArchitectureError),
        ("llama", {"head_dim": 20}, UnknownArchitectureError),
        ("qwen2", {"use_sliding_window": True}, UnknownArchitectureError),
        ("gemma3", {"final_logit_softcapping": 30.0}, UnknownArchitectureError),
        ("gemma3", {"layer_types": ["full_attention"]}, CheckpointError),
        ("llama", {"num_key_value_heads": 3}, CheckpointError),
        ("llama", {"num_key_value_heads": -2}, CheckpointError),
        ("llama", {"hidden_size": "wide"}, CheckpointError),
        ("llama", {"hidden_size": None}, CheckpointError),
        ("llama", {"rms_norm_eps": float("nan")}, CheckpointError),
        ("llama", {"rope_theta": float("inf")}, CheckpointError),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0}}, CheckpointError),
        ("llama", {"rope_scaling": "llama3"}, CheckpointError),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, CheckpointError),
        ("llama", {"eos_token_id": 5000}, CheckpointError),
        ("llama", {"eos_token_id": None}, CheckpointError),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_built_is_refused(
    layout: Layout, changes: dict[str, Any], problem: type[Exception]
) -> None:
    with pytest.raises(problem):
        config_from_json(config_like(layout, **changes), layout)


@pytest.mark.parametrize("length", [0, 3, 24, 900, 20_000])
def test_a_gguf_file_that_is_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    whole = write_random_gguf("llama", tmp_path / "whole.gguf").read_bytes()
    assert length < len(whole)
    (tmp_path / "cut.gguf").write_bytes(whole[:length])
    with pytest.raises(CheckpointError, match=r"cut\.gguf"):
        GgufFile(tmp_path / "cut.gguf")


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04" + bytes(4000))
    with pytest.raises(CheckpointError, match=r"model\.gguf"):
        GgufFile(tmp_path / "model.gguf")


def test_weights_of_another_kind_and_another_architecture_are_named(tmp_path: Path) -> None:
    path = write_random_gguf("llama", tmp_path / "model.gguf", kind="Q5_0")
    with pytest.raises(CheckpointError, match="Q5_0"):
        GgufFile(path)
    whole = write_random_gguf("qwen2", tmp_path / "other.gguf").read_bytes()
    (tmp_path / "other.gguf").write_bytes(whole.replace(b"qwen2", b"phi03"))
    with pytest.raises(UnknownArchitectureError, match="phi03"):
        opened_gguf(tmp_path / "other.gguf")


def test_a_tensor_that_is_missing_or_has_another_shape_is_named(tmp_path: Path) -> None:
    file, config = opened_gguf(write_random_gguf("llama", tmp_path / "model.gguf"))
    with pytest.raises(CheckpointError, match=r"blk\.9\.attn_q"):
        file.read("model.layers.9.self_attn.q_proj.weight", 1, 1)
    with pytest.raises(CheckpointError, match="shape"):
        file.read("model.norm.weight", config.hidden + 1)
