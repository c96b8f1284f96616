"""The contract of an engine, for every engine that is installed, on real ONNX files."""

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.engines import EngineChoice, EngineKind, make_engine
from mirage_inference.engines.base import Engine, EngineOptions, FloatArray, Session
from mirage_inference.generator.model import GeneratorModel, load_model, network_names, select_engine
from mirage_inference.generator.pipeline import ImageRequest, StepDone, make_image
from tests.support.paths import TINY_GENERATOR

BUNDLE = TINY_GENERATOR
KINDS: list[EngineKind] = ["onnxruntime", "openvino"]
OPTIONS = EngineOptions(threads=1, reduced_precision=False)
REQUEST = ImageRequest("axial t2 of the brain", steps=4, guidance=1.5, seed=7, width=64, height=128)


def load(engine: Engine, role: str) -> Session:
    inputs, output = network_names(role, guided=False)
    return engine.load(BUNDLE / f"{role}.onnx", inputs=inputs, output=output)


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine(request.param, OPTIONS)


@pytest.fixture(scope="module")
def decoder(engine: Engine) -> Iterator[Session]:
    session = load(engine, "decoder")
    yield session
    session.close()


@pytest.fixture(scope="module")
def unet(engine: Engine) -> Iterator[Session]:
    session = load(engine, "unet")
    yield session
    session.close()


def latents(seed: int = 0, *, height: int = 8, width: int = 8, channels: int = 4) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((1, channels, height, width), dtype=np.float32)


def unet_inputs(seed: int = 0) -> Mapping[str, np.ndarray]:
    prompt = np.random.default_rng(seed).standard_normal((1, 16, 16), dtype=np.float32)
    return {"sample": latents(seed), "timestep": np.array([999], dtype=np.int64), "prompt": prompt}


def code_of(session: Session, inputs: Mapping[str, np.ndarray]) -> Code:
    with pytest.raises(MirageError) as failed:
        session.run(inputs)
    return failed.value.code


def test_it_says_what_it_is(engine: Engine) -> None:
    name, version = engine.description.split()
    assert name in KINDS
    assert version[0].isdigit()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8), (8, 40)])
def test_images_of_any_sides_come_out_in_float32(decoder: Session, height: int, width: int) -> None:
    image = decoder.run({"latents": latents(height=height, width=width)})
    assert image.shape == (1, 3, 8 * height, 8 * width)
    assert image.dtype == np.float32


def test_a_result_is_the_callers_own(decoder: Session) -> None:
    first = decoder.run({"latents": latents(1)})
    kept = first.copy()
    decoder.run({"latents": latents(2)})
    assert np.array_equal(first, kept)


def test_the_same_input_gives_the_same_bits(unet: Session) -> None:
    assert np.array_equal(unet.run(unet_inputs()), unet.run(unet_inputs()))


def test_several_threads_may_use_a_session(unet: Session) -> None:
    expected = [unet.run(unet_inputs(seed)) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: unet.run(unet_inputs(seed)), list(range(4)) * 4))
    assert all(np.array_equal(each, expected[number % 4]) for number, each in enumerate(found))


def test_wrong_inputs_are_a_coded_error_and_the_next_ones_work(unet: Session) -> None:
    good = dict(unet_inputs())
    expected = unet.run(good)
    assert code_of(unet, {**good, "sample": latents(channels=3)}) is Code.MODEL_FAILED
    assert code_of(unet, {**good, "prompt": np.zeros((1, 16, 15), np.float32)}) is Code.MODEL_FAILED
    assert code_of(unet, {**good, "colour": latents()}) is Code.MODEL_FAILED
    assert np.array_equal(unet.run(good), expected)


def test_an_input_that_is_not_given_is_an_error_and_not_the_one_before(unet: Session) -> None:
    good = dict(unet_inputs())
    unet.run(good)
    assert code_of(unet, {name: good[name] for name in ("sample", "timestep")}) is Code.MODEL_FAILED


def test_a_file_that_is_no_network_is_refused(engine: Engine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes((BUNDLE / "unet.onnx").read_bytes()[:1000])
    for path in (broken, cut, tmp_path / "absent.onnx"):
        with pytest.raises(MirageError) as refused:
            engine.load(path, inputs=("latents",), output="image")
        assert refused.value.code is Code.BUNDLE_INVALID
        assert str(tmp_path) not in refused.value.message


def test_a_network_with_other_inputs_or_outputs_is_refused(engine: Engine) -> None:
    for inputs, output in ((("latents", "guidance"), "image"), (("latents",), "picture"), ((), "image")):
        with pytest.raises(MirageError) as refused:
            engine.load(BUNDLE / "decoder.onnx", inputs=inputs, output=output)
        assert refused.value.code is Code.BUNDLE_INVALID


def test_a_closed_session_says_so(engine: Engine) -> None:
    session = load(engine, "decoder")
    session.close()
    session.close()
    assert code_of(session, {"latents": latents()}) is Code.MODEL_NOT_READY


def made(choice: EngineChoice, *, threads: int = 1) -> tuple[GeneratorModel, list[FloatArray], np.ndarray]:
    options = EngineOptions(threads=threads, reduced_precision=False)
    model = load_model(BUNDLE, engine=choice, options=options)
    steps: list[StepDone] = []
    image = make_image(model, REQUEST, on_step=steps.append)
    model.close()
    return model, [step.latents for step in steps], image.pixels


@pytest.mark.parametrize("kind", KINDS)
def test_each_engine_alone_makes_images_the_same_each_time(kind: EngineKind) -> None:
    model, _, pixels = made(kind)
    assert kind in model.description
    assert ";" not in model.description
    assert pixels.shape == (128, 64, 3)
    assert np.array_equal(made(kind)[2], pixels)


def test_the_engines_agree_step_by_step() -> None:
    _, first, pixels = made("onnxruntime")
    _, second, others = made("openvino")
    assert all(np.allclose(one, other, atol=1e-3) for one, other in zip(first, second, strict=True))
    assert np.abs(pixels.astype(int) - others.astype(int)).max() <= 1


def test_large_networks_run_where_they_are_fastest_and_the_small_one_is_spared_the_memory() -> None:
    assert {select_engine("auto", role) for role in ("unet", "decoder", "tiny_decoder")} == {"openvino"}
    assert select_engine("auto", "text") == "onnxruntime"
    for role in ("text", "unet"):
        assert select_engine("onnxruntime", role) == "onnxruntime"
        assert select_engine("openvino", role) == "openvino"


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mirage_inference.engines.openvino", None)
    with pytest.raises(MirageError, match="the engine openvino is not installed"):
        make_engine("openvino", OPTIONS)
