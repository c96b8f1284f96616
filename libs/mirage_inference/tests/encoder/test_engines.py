"""The contract of an engine, for every engine that is installed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import EncoderManifest, load_encoder
from mirage_inference.encoder.model import EncoderModel, select_engine
from mirage_inference.engines import EngineChoice, EngineKind, make_engine
from mirage_inference.engines.base import Engine, EngineOptions, Session

KINDS: list[EngineKind] = ["onnxruntime", "openvino"]


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine(request.param, EngineOptions(threads=1))


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> EncoderManifest:
    return load_encoder(bundle)


@pytest.fixture(scope="module")
def text(engine: Engine, bundle: Path, manifest: EncoderManifest) -> Iterator[Session]:
    path = bundle / manifest.variants[manifest.default_variant].files["text"]
    session = engine.load(path, inputs=("tokens",), output="unit_vector")
    yield session
    session.close()


@pytest.fixture(scope="module")
def image(engine: Engine, bundle: Path, manifest: EncoderManifest) -> Iterator[Session]:
    path = bundle / manifest.variants[manifest.default_variant].files["image"]
    session = engine.load(path, inputs=("pixels",), output="unit_vector")
    yield session
    session.close()


@pytest.fixture(scope="module")
def sentence(model: EncoderModel) -> np.ndarray:
    """Tokens as a user's: on random ones the towers are less sure of themselves."""
    return np.array([model.tokenizer.tokenize("axial T1 at the level of the thalami").ids])


def tokens(length: int, *, seed: int = 0) -> np.ndarray:
    middle = np.random.default_rng(seed).integers(300, 10_000, length - 2)
    return np.array([[2, *middle, 3]], dtype=np.int64)


def pixels(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, size, size), dtype=np.float32)


def test_it_says_what_it_is(engine: Engine) -> None:
    name, version = engine.description.split()
    assert name in KINDS
    assert version[0].isdigit()


@pytest.mark.parametrize("length", [3, 9, 77])
def test_texts_of_any_length_give_unit_vectors(text: Session, manifest: EncoderManifest, length: int) -> None:
    rows = text.run({"tokens": tokens(length)})
    assert rows.shape == (1, manifest.dimension)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("count", [1, 3])
def test_images_in_any_number_give_unit_vectors(image: Session, manifest: EncoderManifest, count: int) -> None:
    rows = image.run({"pixels": pixels(count, manifest.image.size)})
    assert rows.shape == (count, manifest.dimension)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)


def test_the_same_input_gives_the_same_vector(text: Session) -> None:
    assert np.array_equal(text.run({"tokens": tokens(9)}), text.run({"tokens": tokens(9)}))


def test_what_stands_behind_the_end_token_hardly_matters(text: Session, sentence: np.ndarray) -> None:
    alone = text.run({"tokens": sentence})[0]
    padded = text.run({"tokens": np.pad(sentence, ((0, 0), (0, 20)))})[0]
    assert float(alone @ padded) > 0.995


def test_several_threads_may_use_a_session(text: Session) -> None:
    expected = [text.run({"tokens": tokens(9, seed=seed)}) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda seed: text.run({"tokens": tokens(9, seed=seed)}), list(range(8)) * 4))
    assert all(np.array_equal(row, expected[index % 8]) for index, row in enumerate(rows))


def test_a_wrong_shape_is_a_coded_error_and_the_next_input_works(image: Session, manifest: EncoderManifest) -> None:
    with pytest.raises(MirageError) as error:
        image.run({"pixels": pixels(1, manifest.image.size // 2)})
    assert error.value.code is Code.MODEL_FAILED
    assert image.run({"pixels": pixels(1, manifest.image.size)}).shape == (1, manifest.dimension)


def test_a_file_that_is_no_model_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(MirageError) as error:
        engine.load(path, inputs=("tokens",), output="unit_vector")
    assert error.value.code is Code.BUNDLE_INVALID


def test_a_model_with_other_names_is_refused(engine: Engine, bundle: Path, manifest: EncoderManifest) -> None:
    path = bundle / manifest.variants[manifest.default_variant].files["text"]
    with pytest.raises(MirageError) as error:
        engine.load(path, inputs=("words",), output="unit_vector")
    assert error.value.code is Code.BUNDLE_INVALID


def test_a_closed_session_says_so(engine: Engine, bundle: Path, manifest: EncoderManifest) -> None:
    path = bundle / manifest.variants[manifest.default_variant].files["text"]
    session = engine.load(path, inputs=("tokens",), output="unit_vector")
    session.close()
    with pytest.raises(MirageError) as error:
        session.run({"tokens": tokens(9)})
    assert error.value.code is Code.MODEL_NOT_READY


def test_engines_agree(bundle: Path, manifest: EncoderManifest, sentence: np.ndarray) -> None:
    path = bundle / manifest.variants[manifest.default_variant].files["text"]
    rows = []
    for kind in KINDS:
        session = make_engine(kind, EngineOptions(threads=1)).load(path, inputs=("tokens",), output="unit_vector")
        rows.append(session.run({"tokens": sentence})[0])
        session.close()
    assert all(float(rows[0] @ row) > 0.999 for row in rows)


@pytest.mark.parametrize(
    ("choice", "size", "mixes_batch", "expected"),
    [
        ("auto", 1000, False, "onnxruntime"),
        ("auto", 200 * 2**20, False, "openvino"),
        ("auto", 200 * 2**20, True, "onnxruntime"),
        ("openvino", 1000, True, "openvino"),
        ("onnxruntime", 200 * 2**20, False, "onnxruntime"),
    ],
)
def test_each_tower_gets_the_engine_that_suits_it(
    tmp_path: Path, choice: EngineChoice, size: int, mixes_batch: bool, expected: EngineKind
) -> None:
    path = tmp_path / "tower.onnx"
    with path.open("wb") as file:
        file.truncate(size)  # a hole: takes no space
    assert select_engine(choice, path, mixes_batch=mixes_batch) == expected
