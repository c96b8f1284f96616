"""From a checkpoint to a bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mirage_core.bundles import load_encoder, verify_files
from mirage_encoder.engines.base import EngineOptions
from mirage_encoder.model import EncoderModel, load_model
from mirage_encoder.preprocessing import preprocess
from mirage_models.encoders.builder import BuildOptions, ParityError, build
from mirage_models.encoders.checkpoint import load_checkpoint
from mirage_models.encoders.original import Original
from mirage_models.registry import verify

OPTIONS = BuildOptions(name="tiny", source="random weights", licence="Apache-2.0", variants=("fp32", "int8"))
TEXTS = ["flair", "axial T1", "a sagittal section through the corpus callosum with a lesion", "word " * 100]


@pytest.fixture(scope="module")
def bundle(checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "bundle"
    build(checkpoint_folder, out, OPTIONS)
    return out


@pytest.fixture(scope="module")
def model(bundle: Path) -> EncoderModel:
    return load_model(bundle, variant="fp32", engine="onnxruntime", options=EngineOptions(threads=2))


@pytest.fixture(scope="module")
def original(checkpoint_folder: Path) -> Original:
    return Original(load_checkpoint(checkpoint_folder))


def test_the_bundle_is_whole_and_passes_its_references(bundle: Path) -> None:
    manifest = load_encoder(bundle)
    verify_files(bundle, manifest)
    assert {path.name for path in bundle.iterdir()} == {file.path for file in manifest.files} | {"manifest.json"}
    assert verify(bundle, engine="onnxruntime").passed


def test_nothing_else_is_left_behind(bundle: Path) -> None:
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_float32_reaches_the_bar(bundle: Path) -> None:
    parity = load_encoder(bundle).variants["fp32"].parity
    assert all(each.cosine_min >= 0.9999 for each in parity.values())


def test_a_batch_of_mixed_lengths_is_exact(model: EncoderModel, original: Original) -> None:
    rows = model.embed_texts([model.tokenizer.tokenize(text) for text in TEXTS])
    assert np.allclose(rows, original.encode_texts(TEXTS), atol=1e-5)


def test_a_short_text_run_alone_is_exact(model: EncoderModel, original: Original) -> None:
    for text, expected in zip(TEXTS, original.encode_texts(TEXTS), strict=True):
        assert np.allclose(model.embed_texts([model.tokenizer.tokenize(text)])[0], expected, atol=1e-5)


def test_an_image_of_odd_size_is_exact(model: EncoderModel, original: Original) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (133, 377, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    row = model.embed_pixels([preprocess(image, model.manifest.image)])[0]
    assert np.allclose(row, original.encode_images([image])[0], atol=1e-5)


def test_the_same_checkpoint_gives_the_same_files(bundle: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    again = build(checkpoint_folder, tmp_path / "again", OPTIONS)
    first = load_encoder(bundle)
    assert again.fingerprint == first.fingerprint
    assert again.files == first.files


def test_other_weights_give_another_fingerprint(bundle: Path, checkpoint_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in checkpoint_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "open_clip_model.safetensors")
    weights["text_projection"] = weights["text_projection"] + 0.01 * torch.eye(*weights["text_projection"].shape)
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    other = build(tmp_path, tmp_path / "out", replace(OPTIONS, variants=("fp32",)))
    assert (
        other.fingerprint
        != build(checkpoint_folder, tmp_path / "same", replace(OPTIONS, variants=("fp32",))).fingerprint
    )


def test_below_the_bar_nothing_is_written(checkpoint_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError):
        build(checkpoint_folder, tmp_path / "out", replace(OPTIONS, variants=("int8",), int8_cosine=0.9999999))
    assert list(tmp_path.iterdir()) == []


def test_an_old_bundle_is_replaced_only_when_asked(checkpoint_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    options = replace(OPTIONS, variants=("fp32",))
    with pytest.raises(FileExistsError):
        build(checkpoint_folder, out, options)
    build(checkpoint_folder, out, replace(options, replace=True))
    assert not (out / "old").exists()
    assert load_encoder(out).name == "tiny"


def test_thresholds_reach_the_manifest(checkpoint_folder: Path, tmp_path: Path) -> None:
    match = tmp_path / "match.json"
    match.write_text(json.dumps({"text": {"good": 0.5, "weak": 0.25}, "measured": {"auroc": 0.9}}))
    manifest = build(checkpoint_folder, tmp_path / "out", replace(OPTIONS, variants=("fp32",), match=match))
    assert manifest.match is not None
    assert manifest.match.text is not None
    assert manifest.match.text.weak == 0.25
