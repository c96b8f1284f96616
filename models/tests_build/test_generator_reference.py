"""The reference engine: the same pipeline on diffusers' own modules, beside diffusers' pipeline and beside the other engines."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import GeneratorManifest
from mirage_inference.engines import EngineKind
from mirage_inference.engines.base import EngineOptions, FloatArray, Session
from mirage_inference.generator.model import GeneratorModel, load_model, network_names
from mirage_inference.generator.pipeline import StepDone, default_request, make_image
from mirage_models.generator.checkpoint import Checkpoint, read_checkpoint
from mirage_models.generator.compare import compare
from mirage_models.generator.original import Original
from mirage_models.generator.reference_engine import ReferenceEngine, load_reference_model
from mirage_models.generator.similarity import cosine, ssim
from mirage_models.generator.task import GeneratorTask
from mirage_models.tasks import BuildRequest, CheckpointError
from mirage_models.workspace import open_workspace

OPTIONS = EngineOptions(threads=2, reduced_precision=False)
PROMPT = "Axial T1 of the brain"
KINDS: tuple[EngineKind, ...] = ("onnxruntime", "openvino")


@pytest.fixture(scope="module", params=["lcm-lora", "native"])
def built(
    request: pytest.FixtureRequest, generator_folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, Path, GeneratorManifest]:
    """A checkpoint, and a bundle in float32 of it."""
    folders = generator_folders
    extras = {"lora": folders["lora"], "tiny_decoder": folders["tiny"]} if request.param == "lcm-lora" else {}
    source = folders["plain"] if extras else folders["native"]
    options = {"parity_prompts": 1, "calibration_prompts": 1, "steps": 4, "side": 64}
    build = BuildRequest(source, "small", "random", "Apache-2.0", variants=("fp32",), extras=extras, options=options)
    out = tmp_path_factory.mktemp("reference") / "bundle"
    with open_workspace(out, identity={"test": request.param}) as workspace:
        manifest = GeneratorTask().build(build, workspace)
        workspace.seal(manifest, out, replace=False)
    checkpoint = read_checkpoint(source, lora=extras.get("lora"), tiny=extras.get("tiny_decoder"))
    return checkpoint, out, manifest


@pytest.fixture(scope="module")
def reference(built: tuple[Checkpoint, Path, GeneratorManifest]) -> Iterator[GeneratorModel]:
    checkpoint, bundle, manifest = built
    model = load_reference_model(checkpoint, manifest, bundle / manifest.prompt.tokenizer, options=OPTIONS)
    yield model
    model.close()


def latents_of(model: GeneratorModel, *, seed: int, guidance: float) -> tuple[list[FloatArray], np.ndarray]:
    steps: list[StepDone] = []
    request = replace(default_request(model.manifest, PROMPT, seed=seed), guidance=guidance)
    made = make_image(model, request, on_step=steps.append)
    return [done.latents for done in steps], made.pixels


def test_the_reference_gives_the_latents_of_diffusers_pipeline_step_by_step(
    built: tuple[Checkpoint, Path, GeneratorManifest], reference: GeneratorModel
) -> None:
    for guidance in (1.0, 1.7):
        original = Original(built[0]).make((PROMPT, "kidney"), steps=4, guidance=guidance, side=64)
        parity = compare(reference, original)
        assert len(parity.latents) == 4
        assert min(parity.latents) >= 0.99999
        assert parity.ssim >= 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_latents_step_by_step_on_each_engine(
    built: tuple[Checkpoint, Path, GeneratorManifest], reference: GeneratorModel, kind: EngineKind
) -> None:
    model = load_model(built[1], engine=kind, options=OPTIONS)
    for guidance in (1.0, 1.7):
        expected, original = latents_of(reference, seed=11, guidance=guidance)
        found, pixels = latents_of(model, seed=11, guidance=guidance)
        assert len(expected) == len(found) == 4
        assert all(cosine(one, other) >= 0.9999 for one, other in zip(expected, found, strict=True))
        assert ssim(pixels, original) >= 0.99
        other, _ = latents_of(model, seed=12, guidance=guidance)
        assert cosine(other[0], expected[0]) < 0.9
    model.close()


@pytest.fixture
def engine(built: tuple[Checkpoint, Path, GeneratorManifest]) -> ReferenceEngine:
    return ReferenceEngine(built[0], OPTIONS)


def loaded(engine: ReferenceEngine, role: str, *, guided: bool) -> Session:
    inputs, output = network_names(role, guided=guided)
    return engine.load(engine.files()[role], inputs=inputs, output=output)


def test_it_keeps_the_contract_of_an_engine(
    built: tuple[Checkpoint, Path, GeneratorManifest], engine: ReferenceEngine, tmp_path: Path
) -> None:
    assert engine.description.startswith("diffusers ")
    assert "cpu float32" in engine.description
    session = loaded(engine, "decoder", guided=built[0].native)
    latents = np.random.default_rng(0).standard_normal((1, 4, 8, 8), dtype=np.float32)
    first = session.run({"latents": latents})
    kept = first.copy()
    assert (first.shape, first.dtype) == ((1, 3, 64, 64), np.float32)
    session.run({"latents": -latents})
    assert np.array_equal(first, kept)
    for wrong in ({"latents": np.zeros((1, 3, 8, 8), np.float32)}, {"sample": latents}, {}):
        with pytest.raises(MirageError) as failed:
            session.run(wrong)
        assert failed.value.code is Code.MODEL_FAILED
    assert np.array_equal(session.run({"latents": latents}), kept)
    session.close()
    with pytest.raises(MirageError) as closed:
        session.run({"latents": latents})
    assert closed.value.code is Code.MODEL_NOT_READY
    for path, output in ((tmp_path, "image"), (engine.files()["decoder"], "picture")):
        with pytest.raises(MirageError) as refused:
            engine.load(path, inputs=("latents",), output=output)
        assert refused.value.code is Code.BUNDLE_INVALID


def test_what_does_not_belong_together_is_refused(built: tuple[Checkpoint, Path, GeneratorManifest]) -> None:
    checkpoint, bundle, manifest = built
    with pytest.raises(CheckpointError, match="no device"):
        ReferenceEngine(checkpoint, OPTIONS, device="cuda:99")
    with pytest.raises(CheckpointError, match="no device"):
        ReferenceEngine(checkpoint, OPTIONS, device="toaster")
    other = replace(checkpoint, unet={**checkpoint.unet, "time_cond_proj_dim": None if checkpoint.native else 256})
    with pytest.raises(CheckpointError, match="takes guidance otherwise"):
        load_reference_model(other, manifest, bundle / manifest.prompt.tokenizer, options=OPTIONS)
