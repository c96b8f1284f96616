"""The graph that reads prompts fills the decoder's cache as the decoder would, in every layout and in every use."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import load_llm
from mirage_inference.bundles.llm import DECODER, PROMPT
from mirage_inference.llm.decode import Continuation, PrefixCache, generate
from mirage_inference.llm.decoder import CancelledError, ContextFullError, DecoderShape
from mirage_inference.llm.model import Begun, Wrote, load_model
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeDecoder, OnnxRuntimeEngine
from mirage_inference.llm.request import Caption, Question
from mirage_models.build import main as build_main
from mirage_models.builder import BuildSpec, _options, build
from mirage_models.cli import command
from mirage_models.llm.blocks import quantise_columns
from mirage_models.llm.layout import Layout, config_from_json
from mirage_models.llm.layout_graph import write_layout_decoder
from mirage_models.llm.random_layout import write_random_gguf, write_random_layout
from mirage_models.llm.smoothing import factors, measure_peaks
from mirage_models.llm.tensors import Tensors
from mirage_models.registry import verify
from mirage_models.tasks import BuildError, ParityError, Task

IDS = np.random.default_rng(0).integers(3, 300, 120).tolist()
CAPTIONS = (Caption("a", "Axial T1-weighted image of the brain."), Caption("b", "A cyst of 3.5 cm in the left kidney."))


def decoders(folder: Path, layout: Layout) -> tuple[OnnxRuntimeDecoder, OnnxRuntimeDecoder]:
    """The decoder in float32 alone, and with the graph that reads prompts."""
    config = config_from_json(json.loads((folder / "config.json").read_text("utf-8")), layout)
    tensors = Tensors(folder)
    path, _ = write_layout_decoder(tensors, config, folder / f"{DECODER}.fp32.onnx", "fp32")
    shape = DecoderShape(config.vocabulary, config.layers, config.key_heads, config.head, config.context)
    peaks = measure_peaks(path, shape, [IDS[:50]], threads=1)
    prompt, _ = write_layout_decoder(tensors, config, folder / f"{PROMPT}.fp32.onnx", PROMPT, peaks=peaks)
    engine = OnnxRuntimeEngine()
    return engine.load_file(path, shape, threads=1), engine.load_file(path, shape, threads=1, prompt=prompt)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxRuntimeDecoder, OnnxRuntimeDecoder]:
    return decoders(write_random_layout("qwen2", tmp_path_factory.mktemp("qwen2")), "qwen2")


def likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1])


@pytest.mark.parametrize("layout", ["llama", "qwen2", "qwen3", "gemma3"])
def test_a_text_goes_on_after_a_prompt_as_after_the_decoders_own(tmp_path: Path, layout: Layout) -> None:
    alone, both = decoders(write_random_layout(layout, tmp_path), layout)
    wanted, found = alone.open(), both.open()
    assert likeness(found.prefill(IDS[:60]), wanted.prefill(IDS[:60])) > 0.99
    assert found.length == wanted.length == 60
    assert likeness(found.score(IDS[60:]), wanted.score(IDS[60:])) > 0.99
    cache = zip(found.keep().cache, wanted.keep().cache, strict=True)
    assert all(likeness(one, other) > 0.99 for one, other in cache)


def test_the_numbers_come_from_the_graph_that_reads_prompts(
    pair: tuple[OnnxRuntimeDecoder, OnnxRuntimeDecoder],
) -> None:
    alone, both = pair
    assert (both.open().prefill(IDS) != alone.open().prefill(IDS)).any()
    # A few tokens are run by the decoder.
    assert (both.open().prefill(IDS[:5]) == alone.open().prefill(IDS[:5])).all()


def test_parts_prefixes_and_later_turns_give_the_same_text(pair: tuple[OnnxRuntimeDecoder, OnnxRuntimeDecoder]) -> None:
    _, both = pair
    wanted = both.open().prefill(IDS)
    session = both.open()
    for first, last in ((0, 40), (40, 43), (43, 120)):
        logits = session.prefill(IDS[first:last])
    assert likeness(logits, wanted) > 0.99
    cached, rest = PrefixCache(both, IDS[:50]).begin(IDS)
    assert (cached.length, len(rest)) == (50, 70)
    assert likeness(cached.prefill(rest), wanted) > 0.99
    # A second turn: the text so far, an answer, and another long prompt.
    session = both.open()
    answer = list(generate(session, IDS[:60], Continuation(4, ())))
    session.rewind(60)
    logits = session.prefill(answer + IDS[60:])
    assert likeness(logits, both.open().prefill(IDS[:60] + answer + IDS[60:])) > 0.99


def test_a_row_of_small_values_next_to_one_of_large_values_keeps_its_digits(tmp_path: Path) -> None:
    # Without a scale for each row, the first token's size decides about the digits of all others.
    folder = write_random_layout("llama", tmp_path)
    alone, both = decoders(folder, "llama")
    one = [both.open().prefill([first, *IDS[:50]]) for first in range(3, 9)]
    other = [alone.open().prefill([first, *IDS[:50]]) for first in range(3, 9)]
    assert all(likeness(a, b) > 0.99 for a, b in zip(one, other, strict=True))


def test_bad_prompts_are_refused_and_a_cancelled_one_keeps_its_pieces(
    pair: tuple[OnnxRuntimeDecoder, OnnxRuntimeDecoder],
) -> None:
    _, both = pair
    session = both.open(capacity=100)
    with pytest.raises(ContextFullError):
        session.prefill(IDS)
    with pytest.raises(ValueError, match="of this vocabulary"):
        session.read([3, 10_000])
    assert session.length == 0
    answers = iter([False, True])
    session = both.open(capacity=600)
    with pytest.raises(CancelledError):
        session.prefill(IDS * 5, cancelled=lambda: next(answers))
    assert 0 < session.length < 600


def test_a_closed_decoder_reads_nothing(tmp_path: Path) -> None:
    _, both = decoders(write_random_layout("llama", tmp_path), "llama")
    session = both.open()
    both.close()
    with pytest.raises(MirageError) as error:
        session.read(IDS)
    assert error.value.code is Code.MODEL_NOT_READY


def test_columns_keep_their_own_scale() -> None:
    weights = np.array([[1, -0.5, 0.25], [0, 0, 0], [100, 50, -100]], np.float32)
    values, scales = quantise_columns(weights)
    assert values.shape == (3, 3)
    assert np.abs(values.T * scales[:, None] - weights).max(1).tolist() == pytest.approx([0, 0, 0], abs=0.5)
    assert np.abs(values).max(0).tolist() == [127, 0, 127]


def test_smoothing_changes_no_product_and_evens_out_the_channels() -> None:
    random = np.random.default_rng(1)
    inputs = random.standard_normal((50, 8)).astype(np.float32) * np.array([1, 1, 1, 100, 1, 1, 0, 1], np.float32)
    weights = random.standard_normal((5, 8)).astype(np.float32)
    weights[:, 5] = 0
    peaks = np.abs(inputs).max(0) / np.abs(inputs).max()
    smooth = factors(peaks, weights)
    assert np.isfinite(smooth).all()
    assert np.abs((inputs / smooth) @ (weights * smooth).T - inputs @ weights.T).max() < 1e-3
    even = np.abs(inputs / smooth).max(0)[[0, 1, 2, 3, 4, 7]]
    assert even.max() / even.min() < 0.2 * peaks.max() / peaks[peaks > 0].min()


def test_peaks_are_those_of_the_inputs_of_all_products(tmp_path: Path) -> None:
    write_random_layout("llama", tmp_path)
    config = config_from_json(json.loads((tmp_path / "config.json").read_text("utf-8")), "llama")
    path, _ = write_layout_decoder(Tensors(tmp_path), config, tmp_path / "decoder.int4.onnx", "int4")
    shape = DecoderShape(config.vocabulary, config.layers, config.key_heads, config.head, config.context)
    peaks = measure_peaks(path, shape, [IDS, IDS[3:7]], threads=1)
    for layer in range(config.layers):
        assert {f"{kind}.{layer}" for kind in ("norm", "attention", "norm.middle", "gated")} <= set(peaks)
    assert all(0 < values.max() <= 1.0001 and values.min() >= 0 for values in peaks.values())
    assert peaks["gated.0"].shape == (config.intermediate,)
    assert sorted(one.name for one in tmp_path.glob("peaks.*")) == []
    (tmp_path / "decoder.int4.data").unlink()
    with pytest.raises(MirageError, match="cannot be loaded"):
        measure_peaks(path, shape, [IDS], threads=1)
    assert sorted(one.name for one in tmp_path.glob("peaks.*")) == []


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    source = write_random_gguf("qwen3", folder / "Tiny-Q8_0.gguf", kind="Q8_0", num_hidden_layers=2)
    return build(spec_of(source, folder / "bundle", prompt_graph=True)).directory


def spec_of(source: Path, out: Path, *, prompt_graph: bool | None) -> BuildSpec:
    # With random weights all next tokens are about as likely, so quantisation changes their order.
    return BuildSpec(
        target=str(source),
        out=out,
        licence="Apache-2.0",
        variants=("int4",),
        allow_parity_miss=True,
        threads=1,
        prompt_graph=prompt_graph,
    )


def texts_of(model_folder: Path, *, prompt_graph: bool) -> list[str]:
    model = load_model(model_folder, threads=1, prompt_graph=prompt_graph)
    events = list(model.write(Question("brain", CAPTIONS), seed=0, cancelled=lambda: False, max_tokens=5))
    model.close()
    assert any(isinstance(event, Begun) for event in events)
    return [event.text for event in events if isinstance(event, Wrote)]


def test_a_bundle_states_its_graph_and_passes_verification(bundle: Path) -> None:
    variant = load_llm(bundle).variants["int4"]
    assert set(variant.files) == {DECODER, PROMPT}
    assert variant.prompt is not None
    assert variant.prompt.memory_bytes == (bundle / "prompt.int4.data").stat().st_size
    assert variant.prompt.parity.perplexity_ratio == pytest.approx(1, abs=0.1)
    checked = verify(bundle)
    assert checked.passed
    assert {check.variant for check in checked.checks} == {"int4", "int4, prompts"}


def test_the_tables_of_the_decoder_are_not_stored_twice(bundle: Path) -> None:
    embeddings = 400 * 64 * 2
    weights = (bundle / "prompt.int4.data").stat().st_size
    graph = (bundle / "prompt.int4.onnx").read_bytes()
    assert b"decoder.int4.data" in graph
    assert weights > 0
    assert embeddings <= (bundle / "decoder.int4.data").stat().st_size


@pytest.mark.parametrize("prompt_graph", [True, False])
def test_a_bundle_writes_with_its_graph_and_without(bundle: Path, prompt_graph: bool) -> None:
    assert texts_of(bundle, prompt_graph=prompt_graph)


def test_a_bundle_without_the_graph_states_nothing_of_it(bundle: Path) -> None:
    source = bundle.parent / "Tiny-Q8_0.gguf"
    plain = build(spec_of(source, bundle.parent / "plain", prompt_graph=None)).directory
    assert "prompt" not in json.loads((plain / "manifest.json").read_text("utf-8"))["variants"]["int4"]
    assert not (plain / "prompt.int4.onnx").exists()
    assert texts_of(plain, prompt_graph=True)
    assert load_llm(plain).fingerprint != load_llm(bundle).fingerprint


@pytest.mark.parametrize("damage", ["missing", "cut short", "other weights", "another graph"])
def test_a_damaged_graph_is_refused_by_name(bundle: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    graph, data = copy / "prompt.int4.onnx", copy / "prompt.int4.data"
    if damage == "missing":
        graph.unlink()
    elif damage == "cut short":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "other weights":
        data.write_bytes(data.read_bytes()[:-1] + b"\x55")
    else:
        shutil.copy(copy / "decoder.int4.onnx", graph)
    with pytest.raises(MirageError, match=r"prompt\.int4\.(onnx|data)") as error:
        load_model(copy, threads=1)
    assert error.value.code is Code.BUNDLE_INVALID


def test_a_graph_of_another_decoder_is_refused(bundle: Path, tmp_path: Path) -> None:
    shape = DecoderShape.of(load_llm(bundle))
    with pytest.raises(MirageError, match="other inputs"):
        OnnxRuntimeEngine().load_file(
            bundle / "decoder.int4.onnx", shape, threads=1, prompt=bundle / "decoder.int4.onnx"
        )
    (tmp_path / "prompt.int4.onnx").write_bytes(b"no graph")
    with pytest.raises(MirageError, match="cannot be loaded"):
        OnnxRuntimeEngine().load_file(
            bundle / "decoder.int4.onnx", shape, threads=1, prompt=tmp_path / "prompt.int4.onnx"
        )


def test_a_graph_that_got_bad_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, scales = quantise_columns(weights)
        return np.roll(values, 1, axis=0), scales

    monkeypatch.setattr("mirage_models.llm.weights.quantise_columns", damaged)
    monkeypatch.setattr("mirage_models.llm.task.BARS", {"int4": (0.0, 100.0)})
    spec = spec_of(bundle.parent / "Tiny-Q8_0.gguf", bundle.parent / "bad", prompt_graph=True)
    with pytest.raises(ParityError, match="prompts of int4"):
        build(BuildSpec(**{**vars(spec), "allow_parity_miss": False}))
    assert not (bundle.parent / "bad").exists()


def test_only_a_language_model_has_such_a_graph(bundle: Path, tmp_path: Path) -> None:
    spec = spec_of(bundle, tmp_path / "out", prompt_graph=True)
    assert _options(spec, None, cast("Task", SimpleNamespace(name="describe"))) == {"prompt_graph": True}
    with pytest.raises(BuildError, match="belongs to a language model"):
        _options(spec, None, cast("Task", SimpleNamespace(name="encode")))


def test_the_commands_ask_for_the_graph(bundle: Path, tmp_path: Path) -> None:
    source = str(bundle.parent / "Tiny-Q8_0.gguf")
    options = ["--variants", "int4", "--allow-parity-miss", "--licence", "Apache-2.0", "--threads", "1"]
    assert build_main([source, "--out", str(tmp_path / "with"), *options, "--prompt-graph"]) == 0
    assert load_llm(tmp_path / "with").variants["int4"].prompt is not None
    answer = CliRunner().invoke(command, ["fetch", "--prompt-graph=maybe"])
    assert answer.exit_code == 2
