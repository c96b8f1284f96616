import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import MANIFEST_FILE, EncoderManifest
from mirage_models.encoder.references import References, load_references, save_references
from mirage_models.paths import mini_clip_bundle
from mirage_models.registry import list_bundles, show, verify


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the mini CLIP's bundle, to be spoilt."""
    return Path(shutil.copytree(mini_clip_bundle(), tmp_path / "models" / "mini-clip"))


def test_the_mini_bundle_passes_its_own_references() -> None:
    report = verify(mini_clip_bundle(), engine="onnxruntime")
    assert report.passed
    assert {(check.variant, check.what) for check in report.checks} == {
        ("int8", "text: least cosine"),
        ("int8", "image: least cosine"),
    }
    assert all(check.measured > 0.99 and check.items > 0 for check in report.checks)


def test_the_mini_bundle_is_small_and_reached_its_bars() -> None:
    manifest = show(mini_clip_bundle())
    assert isinstance(manifest, EncoderManifest)
    assert sum(file.size for file in manifest.files) <= 20 * 2**20
    overlap = manifest.variants["int8"].overlap_at_10
    assert overlap is not None
    assert overlap >= 0.9


def test_vectors_of_another_model_do_not_pass(bundle: Path) -> None:
    references = load_references(bundle / "reference.npz")
    turned = References(
        references.texts, references.images, references.text_vectors[::-1], references.image_vectors[::-1]
    )
    save_references(bundle / "reference.npz", turned)
    seal_again(bundle)
    report = verify(bundle, engine="onnxruntime")
    assert not report.passed


def seal_again(bundle: Path) -> None:
    from mirage_inference.bundles import describe_file

    content = json.loads((bundle / MANIFEST_FILE).read_text())
    content["files"] = [describe_file(bundle, file["path"]).model_dump() for file in content["files"]]
    (bundle / MANIFEST_FILE).write_text(json.dumps(content))


def test_a_spoilt_file_is_refused(bundle: Path) -> None:
    (bundle / "text.int8.onnx").write_bytes(b"spoilt")
    with pytest.raises(MirageError) as error:
        verify(bundle)
    assert error.value.code is Code.BUNDLE_INVALID


def test_bundles_are_listed_with_those_that_cannot_be_used(bundle: Path) -> None:
    broken = bundle.parent / "broken"
    broken.mkdir()
    (broken / MANIFEST_FILE).write_text("{}")
    (bundle.parent / "no bundle").mkdir()
    listed = {entry.directory.name: entry for entry in list_bundles(bundle.parent)}
    assert set(listed) == {"broken", "mini-clip"}
    assert listed["broken"].manifest is None
    assert "schema version" in listed["broken"].problem
    assert listed["mini-clip"].manifest is not None


def test_an_empty_folder_lists_nothing(tmp_path: Path) -> None:
    assert list_bundles(tmp_path) == []
    assert list_bundles(tmp_path / "absent") == []


def test_references_survive_being_written_and_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    references = References(
        texts=("axial", "naïve “T2”"),
        images=(random.integers(0, 256, (7, 5, 3), dtype=np.uint8),),
        text_vectors=random.standard_normal((2, 8)).astype(np.float32),
        image_vectors=random.standard_normal((1, 8)).astype(np.float32),
    )
    save_references(tmp_path / "a.npz", references)
    save_references(tmp_path / "b.npz", references)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = load_references(tmp_path / "a.npz")
    assert found.texts == references.texts
    assert np.array_equal(found.images[0], references.images[0])
    assert np.array_equal(found.text_vectors, references.text_vectors)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_a_reference_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "reference.npz").write_bytes(content)
    with pytest.raises(MirageError) as error:
        load_references(tmp_path / "reference.npz")
    assert error.value.code is Code.BUNDLE_INVALID
