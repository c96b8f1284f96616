import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import describe_file
from mirage_inference.encoder.model import EncoderModel, load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines.base import EngineOptions


def test_texts_become_unit_vectors_of_the_dimension(model: EncoderModel) -> None:
    rows = model.embed_texts([model.tokenizer.tokenize("axial T1")])
    assert rows.shape == (1, model.manifest.dimension)
    assert np.linalg.norm(rows[0]) == pytest.approx(1, abs=1e-6)


def test_images_become_unit_vectors_of_the_dimension(model: EncoderModel) -> None:
    pixels = preprocess(Image.new("RGB", (200, 100), (90, 90, 90)), model.manifest.image)
    rows = model.embed_pixels([pixels, pixels])
    assert rows.shape == (2, model.manifest.dimension)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_texts_of_another_meaning_get_other_vectors(model: EncoderModel) -> None:
    first, second = (model.embed_texts([model.tokenizer.tokenize(text)])[0] for text in ("axial T1", "sagittal FLAIR"))
    assert float(first @ second) < 0.95


def test_a_variant_that_is_not_there_is_refused(bundle: Path) -> None:
    with pytest.raises(MirageError) as error:
        load_model(bundle, variant="fp64", options=EngineOptions(threads=1))
    assert error.value.code is Code.BUNDLE_INVALID


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MirageError) as error:
        load_model(tmp_path, options=EngineOptions(threads=1))
    assert error.value.code is Code.BUNDLE_MISSING


@pytest.mark.parametrize("name", ["text.int8.onnx", "image.int8.onnx", "tokenizer.json", "reference.npz"])
def test_a_bundle_with_a_changed_file_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    changed = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    content = bytearray((changed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (changed / name).write_bytes(content)
    with pytest.raises(MirageError) as error:
        load_model(changed, options=EngineOptions(threads=1))
    assert error.value.metadata == {"reason": f"{name} is not the file that the manifest describes"}


def test_a_tower_that_reads_a_file_which_no_manifest_lists_is_refused(bundle: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    before = describe_file(changed, "text.int8.onnx").sha256
    # Protobuf joins what comes twice: a graph (7) with one more initializer (5) whose location (13) is a file.
    entry = b"\x6a\x16\x0a\x08location\x12\x0aextra.data"
    tensor = b"\x2a" + bytes([len(entry)]) + entry
    with (changed / "text.int8.onnx").open("ab") as stream:
        stream.write(b"\x3a" + bytes([len(tensor)]) + tensor)
    (changed / "extra.data").write_bytes(b"weights of somebody else")
    after = describe_file(changed, "text.int8.onnx")
    path = changed / "manifest.json"
    content = json.loads(path.read_text())
    content["files"] = [each if each["path"] != after.path else after.model_dump() for each in content["files"]]
    path.write_text(json.dumps(content))
    with pytest.raises(MirageError) as error:
        load_model(changed, options=EngineOptions(threads=1))
    assert after.sha256 != before
    assert "text.int8.onnx reads the file 'extra.data'" in error.value.metadata["reason"]


def test_the_mini_bundles_fingerprint_is_the_one_that_collections_hold(model: EncoderModel) -> None:
    # A collection refuses queries of another one: what a manifest gains later must not change it.
    assert model.manifest.fingerprint == "61dd48cef5473a7a3c001b0da90f56bb5edd639e3a21dee497c826d3fc13c47d"
