"""Small checkpoints of the three reference encoders' kinds: built, compared with open_clip, verified and served."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from mirage_atlas.demo.reader import DATA
from mirage_core.errors import MirageError
from mirage_core.vectors import vector_from_proto
from mirage_inference.bundles import EncoderManifest, load_encoder
from mirage_inference.encoder.model import EncoderModel, load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines.base import EngineOptions
from mirage_models.encoder import task as task_module
from mirage_models.encoder.checkpoint import load_checkpoint
from mirage_models.encoder.inputs import original_tokenizer
from mirage_models.encoder.original import Original
from mirage_models.encoder.random_checkpoint import write_random_checkpoint
from mirage_models.paths import mini_clip_bundle
from mirage_models.presets import load_presets
from mirage_models.registry import verify
from mirage_models.tasks import UNSHOWN, BuildError, ParityError
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc

BuildEncoder = Callable[..., EncoderManifest]

REFERENCES = ("medicat-roco", "biomedclip", "openai-vit-b-32")
QUICK = {"text_recipes": ["dynamic"], "image_recipes": ["static"]}
SERVICE = "mirage.encoder.v1.EncoderService"
DEADLINE_S = 60
TEXTS = [
    "flair",
    "Axial T1-weighted MRI, 3.5 mm sections (b=1000); it's the patient's LEFT frontal lobe.",
    "a sagittal section through the corpus callosum with a lesion",
    "sch\u00c3\u00b6n na\u00efve &amp;amp; &lt;b&gt; \ufb01 “quoted”\t日本語 \U0001f9e0",
    "a [SEP] b [PAD] [MASK] <end_of_text> c",
    "word " * 400,
]


@dataclass(frozen=True)
class Reference:
    """One reference encoder in small: its checkpoint, its bundle, and the model as open_clip runs it."""

    name: str
    checkpoint: Path
    bundle: Path
    original: Original


@pytest.fixture(scope="module", params=REFERENCES)
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, build_encoder: BuildEncoder
) -> Reference:
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint = write_random_checkpoint(request.param, folder / "checkpoint", size="small", seed=3)
    build_encoder(checkpoint, folder / "out" / "bundle", variants=("fp32", "int8"), options=QUICK)
    return Reference(request.param, checkpoint, folder / "out" / "bundle", Original(load_checkpoint(checkpoint)))


@pytest.fixture(scope="module")
def model(reference: Reference) -> Iterator[EncoderModel]:
    loaded = load_model(reference.bundle, variant="fp32", engine="onnxruntime", options=EngineOptions(threads=2))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that is built in the least time."""
    return write_random_checkpoint("openai-vit-b-32", tmp_path_factory.mktemp("small"), size="small", seed=5)


def picture(seed: int = 0, size: tuple[int, int] = (133, 377)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_the_bundle_is_whole_and_passes_its_references(reference: Reference) -> None:
    manifest = load_encoder(reference.bundle)
    there = {path.name for path in reference.bundle.iterdir()}
    assert there == {file.path for file in manifest.files} | {"manifest.json"}
    report = verify(reference.bundle, engine="onnxruntime")
    assert report.passed
    assert len(report.checks) == 4
    assert [path.name for path in reference.bundle.parent.iterdir()] == ["bundle"]


def test_openvino_passes_the_references_too(reference: Reference) -> None:
    assert verify(reference.bundle, engine="openvino").passed


def test_float32_reaches_its_bar_and_int8_says_on_what_it_was_measured(reference: Reference) -> None:
    manifest = load_encoder(reference.bundle)
    assert all(parity.cosine_min >= 0.9999 for parity in manifest.variants["fp32"].parity.values())
    assert manifest.remarks == (UNSHOWN,)
    assert manifest.parity_missed == ()


def test_tokens_are_those_of_open_clip(reference: Reference, model: EncoderModel) -> None:
    theirs = original_tokenizer(load_checkpoint(reference.checkpoint))
    context, pad = model.manifest.text.context_length, model.manifest.text.pad_id
    for text in TEXTS:
        ids = model.tokenizer.tokenize(text).ids
        assert [*ids, *[pad] * (context - len(ids))] == theirs([text])[0].tolist(), text


def test_a_text_of_nothing_is_refused(model: EncoderModel) -> None:
    with pytest.raises(MirageError):
        model.tokenizer.tokenize(" \n ")


def test_a_short_text_run_alone_is_exact(reference: Reference, model: EncoderModel) -> None:
    for text, expected in zip(TEXTS, reference.original.encode_texts(TEXTS), strict=True):
        assert np.allclose(model.embed_texts([model.tokenizer.tokenize(text)])[0], expected, atol=1e-5)


def test_a_batch_of_mixed_lengths_is_exact(reference: Reference, model: EncoderModel) -> None:
    rows = model.embed_texts([model.tokenizer.tokenize(text) for text in TEXTS])
    assert np.allclose(rows, reference.original.encode_texts(TEXTS), atol=1e-5)


def test_texts_get_vectors_of_their_own(reference: Reference) -> None:
    # Else the comparisons above would say nothing.
    rows = reference.original.encode_texts(TEXTS[:3])
    assert (rows @ rows.T)[np.triu_indices(3, 1)].max() < 0.999


def test_images_of_odd_sizes_are_exact(reference: Reference, model: EncoderModel) -> None:
    images = [picture(), picture(1, (640, 97))]
    rows = model.embed_pixels([preprocess(image, model.manifest.image) for image in images])
    assert np.allclose(rows, reference.original.encode_images(images), atol=1e-5)


def test_engines_agree_on_int8(reference: Reference) -> None:
    # OpenVINO and ONNX Runtime give other numbers for a convolution with a zero point, so there must be none.
    options = EngineOptions(threads=2, reduced_precision=False)
    pixels = [preprocess(picture(seed), load_encoder(reference.bundle).image) for seed in range(3)]
    rows = []
    for engine in ("onnxruntime", "openvino"):
        loaded = load_model(reference.bundle, variant="int8", engine=engine, options=options)
        rows.append(loaded.embed_pixels(pixels))
        loaded.close()
    assert (rows[0] * rows[1]).sum(axis=1).min() > 0.999


def test_nothing_of_the_exporter_is_left_in_the_files(reference: Reference) -> None:
    for path in reference.bundle.glob("*.onnx"):
        proto = onnx.load(path)
        assert not proto.graph.value_info  # stale shapes make quantising and other engines stumble
        assert not proto.producer_version
        assert b"site-packages" not in path.read_bytes()


@contextmanager
def served(bundle: Path, **settings: str) -> Iterator[grpc.Channel]:
    """The encoder service in a process of its own, once health says SERVING."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {"BUNDLE": str(bundle), "PORT": str(port), "ENGINE": "onnxruntime", **settings}
    environment = {"PATH": os.environ["PATH"]} | {f"MIRAGE_ENCODER_{name}": value for name, value in variables.items()}
    process = subprocess.Popen([sys.executable, "-m", "mirage_encoder"], env=environment, stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            for reply in watch(request, timeout=DEADLINE_S, wait_for_ready=True):
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            yield channel
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_the_service_answers_with_the_vectors_of_open_clip(reference: Reference) -> None:
    image = picture()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with served(reference.bundle, VARIANT="fp32") as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        texts = stub.EncodeText(encoder_pb2.EncodeTextRequest(texts=TEXTS), timeout=DEADLINE_S)
        pixels = stub.EncodeImage(encoder_pb2.EncodeImageRequest(image=buffer.getvalue()), timeout=DEADLINE_S)
    rows = np.array([vector_from_proto(each.vector) for each in texts.embeddings])
    assert np.allclose(rows, reference.original.encode_texts(TEXTS), atol=1e-5)
    assert np.allclose(vector_from_proto(pixels.vector), reference.original.encode_images([image])[0], atol=1e-5)
    assert texts.embeddings[-1].truncated
    assert not texts.embeddings[0].truncated
    assert texts.fingerprint == load_encoder(reference.bundle).fingerprint


def test_a_build_that_was_stopped_goes_on_and_gives_the_same_files(
    reference: Reference, build_encoder: BuildEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    fields = {"variants": ("fp32", "int8"), "options": QUICK}
    with monkeypatch.context() as patch:
        patch.setattr(task_module, "quantise", stopped)
        with pytest.raises(KeyboardInterrupt):
            build_encoder(reference.checkpoint, tmp_path / "out", **fields)
    assert not (tmp_path / "out").exists()
    # What ran before does not run again.
    monkeypatch.setattr(task_module, "load_checkpoint", stopped)
    monkeypatch.setattr(task_module, "Original", stopped)
    again = build_encoder(reference.checkpoint, tmp_path / "out", **fields)
    first = load_encoder(reference.bundle)
    assert again.files == first.files
    assert again.fingerprint == first.fingerprint


def test_below_the_bar_nothing_is_written_until_the_operator_lets_it_pass(
    small: Path, build_encoder: BuildEncoder, tmp_path: Path
) -> None:
    options = {**QUICK, "int8_cosine": 0.9999999}
    with pytest.raises(ParityError, match="cosine"):
        build_encoder(small, tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
    manifest = build_encoder(small, tmp_path / "out", options=options, allow_parity_miss=True)
    assert [line.split(":")[0] for line in manifest.parity_missed] == ["text tower in int8", "image tower in int8"]
    assert load_encoder(tmp_path / "out").parity_missed == manifest.parity_missed


def test_with_the_operators_images_the_overlap_is_measured(
    small: Path, build_encoder: BuildEncoder, tmp_path: Path
) -> None:
    atlas = tmp_path / "atlas"
    atlas.mkdir()
    rows = []
    for number in range(24):
        picture(number, (64, 64)).save(atlas / f"{number}.png")
        rows.append(
            {"id": str(number), "file": f"{number}.png", "caption": f"image number {number}", "licence": "CC0-1.0"}
        )
    (atlas / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest = build_encoder(
        small,
        tmp_path / "out",
        options={**QUICK, "int8_overlap": 0.0},
        calibration=atlas,
        calibration_items=16,
    )
    variant = manifest.variants["int8"]
    assert variant.overlap_at_10 is not None
    assert variant.parity["text"].items == 16
    assert manifest.remarks == ()


def test_the_mini_clips_checkpoint_still_gives_the_bundle_that_comes_along(
    build_encoder: BuildEncoder, tmp_path: Path
) -> None:
    mini = mini_clip_bundle()
    options = dict(load_presets()["mini-clip"].options)
    manifest = build_encoder(
        mini.parent / "checkpoint", tmp_path / "out", options=options, calibration=DATA, calibration_items=256
    )
    there = load_encoder(mini)
    assert (manifest.text, manifest.image, manifest.dimension) == (there.text, there.image, there.dimension)
    digests = [{file.path: file.sha256 for file in each.files} for each in (manifest, there)]
    assert all(digests[0][name] == digests[1][name] for name in ("text.int8.onnx", "tokenizer.json"))
    # Ranges come from inferences, whose last bits are the processor's.
    made, held = (onnx.load(folder / "image.int8.onnx").graph for folder in (tmp_path / "out", mini))
    assert list(made.node) == list(held.node)
    for first, second in zip(made.initializer, held.initializer, strict=True):
        ours, theirs = onnx.numpy_helper.to_array(first), onnx.numpy_helper.to_array(second)
        assert first.name == second.name
        whole = ours.dtype in (np.int8, np.uint8)
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=1e-3, atol=1 if whole else 1e-6)


def test_a_calibration_folder_without_captions_is_refused(
    small: Path, build_encoder: BuildEncoder, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="calibration"):
        build_encoder(small, tmp_path / "out", options=QUICK, calibration=tmp_path / "empty")


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"colour": "red"}},
        {"options": {"text_recipes": ["int3"]}},
        {"variants": ("int4",)},
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    small: Path, build_encoder: BuildEncoder, tmp_path: Path, fields: dict[str, object]
) -> None:
    with pytest.raises(BuildError):
        build_encoder(small, tmp_path / "out", **fields)


def test_weights_without_a_configuration_are_built_as_the_architecture_that_a_preset_names(
    build_encoder: BuildEncoder, tmp_path: Path
) -> None:
    checkpoint = write_random_checkpoint("mini-clip", tmp_path / "checkpoint", seed=4)
    whole = build_encoder(checkpoint, tmp_path / "whole", variants=("fp32",))
    (checkpoint / "open_clip_config.json").unlink()
    with pytest.raises(BuildError, match="no architecture"):
        build_encoder(checkpoint, tmp_path / "out", variants=("fp32",), options={"architecture": "../secret"})
    found = build_encoder(checkpoint, tmp_path / "out", variants=("fp32",), options={"architecture": "mini-clip"})
    assert found.fingerprint == whole.fingerprint
