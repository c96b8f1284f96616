"""Decoders written operator by operator give what transformers' GPT-NeoX gives, in every form of the architecture."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from mirage_inference.llm.decode import Continuation, PrefixCache, generate
from mirage_inference.llm.decoder import CancelledError, ContextFullError, DecoderShape
from mirage_inference.llm.onnxruntime_decoder import OnnxRuntimeDecoder, OnnxRuntimeEngine
from mirage_models.llm.architecture import read_config
from mirage_models.llm.blocks import quantise
from mirage_models.llm.graph import write_decoder
from mirage_models.llm.heads import head_layout
from mirage_models.llm.original import run_original
from mirage_models.llm.parity import predictions
from mirage_models.llm.smoothing import measure_peaks
from mirage_models.llm.tensors import Tensors
from mirage_models.llm.texts import ParityText
from models.tests_build.llm_bundles import save_random_model

IDS = np.random.default_rng(0).integers(0, 300, 40).tolist()


def decoder_of(folder: Path, precision: Any = "fp32") -> OnnxRuntimeDecoder:
    config = read_config(folder)
    path, _ = write_decoder(Tensors(folder), config, folder / f"decoder.{precision}.onnx", precision)
    size = head_layout(config).size
    shape = DecoderShape(config.vocabulary, config.layers, config.heads, size, config.context)
    return OnnxRuntimeEngine().load_file(path, shape, threads=1)


def logits_of(model: Any, ids: list[int]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits: npt.NDArray[np.float32] = model(torch.tensor([ids])).logits[0].numpy()
    return logits


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"use_parallel_residual": False},
        {"hidden_act": "gelu_new"},
        {"hidden_act": "gelu_fast", "use_parallel_residual": False},
        {"tie_word_embeddings": True},
        {"attention_bias": False},
        {"rotary_pct": 1.0},
        {"rotary_pct": 0.0},
        {"rotary_emb_base": 500},
        {"hidden_size": 320},  # heads of 80 with 20 that turn, as Dolly's
        {"hidden_size": 96},  # heads of 24: no multiple of 16
        {"hidden_size": 36, "num_attention_heads": 3, "rotary_pct": 0.5, "intermediate_size": 50},
    ],
    ids=str,
)
def test_every_form_gives_the_originals_logits(tmp_path: Path, form: dict[str, Any]) -> None:
    wanted = logits_of(save_random_model(tmp_path, **form), IDS)
    session = decoder_of(tmp_path).open()
    found = [session.prefill(IDS[:10])[None], session.score(IDS[10:25])]
    found += [session.step(token)[None].copy() for token in IDS[25:]]
    assert np.abs(np.concatenate(found) - wanted[9:]).max() < 1e-4


@pytest.mark.parametrize(
    "form",
    [{}, {"use_parallel_residual": False}, {"attention_bias": False}, {"hidden_size": 320}, {"hidden_size": 96}],
    ids=str,
)
def test_a_text_goes_on_after_a_prompt_as_after_the_decoders_own(tmp_path: Path, form: dict[str, Any]) -> None:
    save_random_model(tmp_path, **form)
    alone = decoder_of(tmp_path)
    config, path = read_config(tmp_path), tmp_path / "decoder.fp32.onnx"
    peaks = measure_peaks(path, alone.shape, [IDS], threads=1)
    prompt, _ = write_decoder(Tensors(tmp_path), config, tmp_path / "prompt.fp32.onnx", "prompt", peaks=peaks)
    both = OnnxRuntimeEngine().load_file(path, alone.shape, threads=1, prompt=prompt)
    found, wanted = both.open(), alone.open()
    pairs = [(found.prefill(IDS[:30]), wanted.prefill(IDS[:30])), (found.score(IDS[30:]), wanted.score(IDS[30:]))]
    pairs += list(zip(found.keep().cache, wanted.keep().cache, strict=True))
    assert all(np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99 for one, other in pairs)
    assert (pairs[0][0] != pairs[0][1]).any()


def test_the_original_run_layer_by_layer_is_the_original(tmp_path: Path) -> None:
    model = save_random_model(tmp_path, hidden_size=320)
    text = ParityText(tuple(IDS), 3)
    wanted = predictions(text, [logits_of(model, IDS)])
    found = run_original(tmp_path, Tensors(tmp_path), read_config(tmp_path), [text], threads=1)[0]
    assert (found.likeliest == wanted.likeliest).all()
    assert np.abs(found.surprise - wanted.surprise).max() < 1e-4


@pytest.mark.parametrize(("precision", "correlation"), [("int8", 0.999), ("int4", 0.97)])
def test_quantised_decoders_stay_close(tmp_path: Path, precision: str, correlation: float) -> None:
    wanted = logits_of(save_random_model(tmp_path), IDS)
    found = decoder_of(tmp_path, precision).open().score(IDS)
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > correlation


@pytest.mark.parametrize(("bits", "error"), [(8, 0.006), (4, 0.1)])
@pytest.mark.parametrize("columns", [64, 40])
def test_blocks_come_back_close_and_the_same_for_any_number_of_threads(bits: Any, error: float, columns: int) -> None:
    weights = np.random.default_rng(1).standard_normal((50, columns)).astype(np.float32)
    weights[3, :32] = 0
    blocks = quantise(weights, bits, block=32, threads=1)
    again = quantise(weights, bits, block=32, threads=3)
    assert (blocks.values == again.values).all()
    assert (blocks.scales == again.scales).all()
    back = blocks.dequantised(columns)
    assert (back[3, :32] == 0).all()
    assert np.linalg.norm(back - weights) / np.linalg.norm(weights) < error


def test_a_session_can_go_back_and_begin_with_a_kept_prefix(tmp_path: Path) -> None:
    save_random_model(tmp_path)
    decoder = decoder_of(tmp_path)
    session = decoder.open()
    wanted = session.score(IDS[:20])
    session.rewind(8)
    assert session.length == 8
    assert np.abs(session.score(IDS[8:20]) - wanted[8:]).max() < 1e-4
    session.rewind(8)
    prefix = session.keep()
    session.prefill(IDS[30:40])  # what one text goes on with does not reach the prefix that was kept
    again = decoder.open(prefix=prefix, capacity=20)
    assert np.abs(again.score(IDS[8:20]) - wanted[8:]).max() < 1e-4
    with pytest.raises(ValueError, match="8 tokens"):
        decoder.open(prefix=prefix).rewind(9)


def test_texts_that_begin_alike_reuse_what_they_share(tmp_path: Path) -> None:
    save_random_model(tmp_path)
    decoder = decoder_of(tmp_path)
    cache = PrefixCache(decoder, IDS[:12])
    wanted = decoder.open().prefill(IDS[:20])
    for text, reused in ((IDS[:20], 12), ([*IDS[:5], 7, 8], 5), (IDS[:12], 11), ([9, 9], 0)):
        session, rest = cache.begin(text)
        assert session.length == reused
        assert session.length + len(rest) == len(text)
        if text == IDS[:20]:
            assert np.abs(session.prefill(rest) - wanted).max() < 1e-4
    session, rest = cache.begin(IDS[:4], capacity=6)
    assert (session.length, rest) == (0, IDS[:4])


def test_a_full_context_is_an_error_for_a_prompt_and_the_end_for_a_response(tmp_path: Path) -> None:
    save_random_model(tmp_path)
    decoder = decoder_of(tmp_path)
    session = decoder.open(capacity=10)
    with pytest.raises(ContextFullError) as caught:
        session.prefill(IDS[:11])
    assert (caught.value.asked, caught.value.capacity) == (11, 10)
    assert session.length == 0
    written = list(generate(session, IDS[:7], Continuation(50, end_ids=())))
    assert len(written) == 4  # three that fit, and the one that follows them
    with pytest.raises(ValueError, match="65 tokens"):
        decoder.open(capacity=65)


def test_greedy_tokens_are_the_originals_and_end_at_an_end_token(tmp_path: Path) -> None:
    model = save_random_model(tmp_path)
    wanted = model.generate(
        torch.tensor([IDS[:10]]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None
    )
    wanted_ids = wanted[0, 10:].tolist()
    decoder = decoder_of(tmp_path)
    assert list(generate(decoder.open(), IDS[:10], Continuation(12, end_ids=()))) == wanted_ids
    end = wanted_ids[5]
    ended = list(generate(decoder.open(), IDS[:10], Continuation(12, end_ids=(end,))))
    assert ended == wanted_ids[: wanted_ids.index(end)]


def test_a_response_can_be_cancelled_between_tokens(tmp_path: Path) -> None:
    save_random_model(tmp_path)
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    written: list[int] = []
    tokens = generate(decoder_of(tmp_path).open(), IDS[:10], Continuation(50, ()), cancelled=cancelled)
    with pytest.raises(CancelledError):
        written.extend(tokens)
    assert len(written) == 2  # asked once before the prompt, then before each token


def test_two_sessions_do_not_disturb_each_other(tmp_path: Path) -> None:
    save_random_model(tmp_path)
    decoder = decoder_of(tmp_path)
    first, second = decoder.open(), decoder.open()
    first.prefill(IDS[:9])
    second.prefill(IDS[20:30])
    alone = decoder.open().score(IDS[:10])[-1]
    assert np.abs(first.step(IDS[9]) - alone).max() < 1e-4


@pytest.mark.parametrize("ids", [[], [300], [-1]])
def test_tokens_that_are_not_of_the_vocabulary_are_refused(tmp_path: Path, ids: list[int]) -> None:
    save_random_model(tmp_path)
    with pytest.raises(ValueError, match="tokens"):
        decoder_of(tmp_path).open().prefill(ids)
