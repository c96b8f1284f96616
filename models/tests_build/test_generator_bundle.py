"""From a Stable Diffusion folder to a bundle, and what is refused on the way."""

import json
import shutil
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import CLIPTokenizer

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import DiffusionSchedule, GeneratorManifest, load_generator, verify_files
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import GeneratorModel, load_model
from mirage_inference.generator.noise import GivenNoise
from mirage_inference.generator.pipeline import ImageRequest, StepDone, default_request, make_image, preview
from mirage_models.generator.checkpoint import read_checkpoint
from mirage_models.generator.compare import compare
from mirage_models.generator.network_file import data_path, read_network
from mirage_models.generator.original import Original
from mirage_models.generator.quantise import RECIPES, SpanRecorder, layers, quantise
from mirage_models.generator.references import load_references
from mirage_models.generator.schedules import lcm_schedule
from mirage_models.generator.similarity import cosine, ssim
from mirage_models.generator.task import GeneratorTask
from mirage_models.generator.verify import verify_generator
from mirage_models.tasks import (
    UNSHOWN,
    BuildError,
    BuildRequest,
    ParityError,
    UnknownArchitectureError,
)
from mirage_models.workspace import open_workspace

# diffusers 0.39 calls numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPTS = ("Axial T1 of the brain", "", "a chest x-ray, frontal view", "ﬁbrosis &amp; <|endoftext|> Übung " * 20)


def request_for(source: Path, **changes: Any) -> BuildRequest:
    options = {"parity_prompts": 1, "calibration_prompts": 2, "steps": 3, "side": 64, **changes.pop("options", {})}
    request = BuildRequest(source, "small", "random weights", "Apache-2.0", options=options)
    return replace(request, **changes)


def build(request: BuildRequest, out: Path) -> GeneratorManifest:
    """As the command does, and without a connection to anywhere: neither a hub nor any telemetry."""

    def refuse(*_: object) -> None:
        raise AssertionError("a build of a local folder must not reach out")

    with (
        pytest.MonkeyPatch.context() as patch,
        open_workspace(out, identity={"test": str(request.source)}) as workspace,
    ):
        patch.setattr(socket.socket, "connect", refuse)
        manifest = GeneratorTask().build(request, workspace)
        workspace.seal(manifest, out, replace=False)
    return manifest


@pytest.fixture(scope="module")
def distilled(generator_folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion with an LCM-LoRA fused and a tiny decoder, at both precisions."""
    out = tmp_path_factory.mktemp("distilled") / "bundle"
    extras = {"lora": generator_folders["lora"], "tiny_decoder": generator_folders["tiny"]}
    build(
        request_for(generator_folders["plain"], extras=extras, variants=("int8", "fp32"), options={"guidance": 1.5}),
        out,
    )
    return out


@pytest.fixture(scope="module")
def native(generator_folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native latent consistency model in float32."""
    out = tmp_path_factory.mktemp("native") / "bundle"
    build(request_for(generator_folders["native"], variants=("fp32",)), out)
    return out


@pytest.fixture(scope="module", params=["dpm-solver++", "ddim"])
def plain(
    request: pytest.FixtureRequest, generator_folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A plain Stable Diffusion, and a bundle of it in float32 with each sampler; DDIM's predicts v."""
    root = tmp_path_factory.mktemp("plain")
    source = shutil.copytree(generator_folders["plain"], root / "checkpoint")
    names = {"dpm-solver++": ("PNDMScheduler", "epsilon"), "ddim": ("DDIMScheduler", "v_prediction")}
    kind, prediction = names[request.param]
    path = source / "scheduler" / "scheduler_config.json"
    config = {**json.loads(path.read_text()), "_class_name": kind, "prediction_type": prediction}
    path.write_text(json.dumps(config))
    options = {"steps": 12, **({"sampler": request.param} if kind == "PNDMScheduler" else {})}
    build(request_for(source, variants=("fp32",), options=options), root / "bundle")
    return source, root / "bundle"


def loaded(bundle: Path, engine: Any, variant: str = "fp32", *, reduced: bool = False) -> GeneratorModel:
    return load_model(
        bundle, variant=variant, engine=engine, options=EngineOptions(threads=2, reduced_precision=reduced)
    )


def test_the_bundle_is_whole_and_passes_its_references(distilled: Path) -> None:
    manifest = load_generator(distilled)
    verify_files(distilled, manifest)
    assert {path.name for path in distilled.iterdir()} == {file.path for file in manifest.files} | {"manifest.json"}
    assert [path.name for path in distilled.parent.iterdir()] == ["bundle"]
    for engine in ("auto", "onnxruntime"):
        _, checks = verify_generator(distilled, manifest, engine=engine)
        assert len(checks) == 4
        assert all(check.passed for check in checks), (engine, checks)


def test_the_manifest_tells_what_was_and_was_not_shown(distilled: Path, native: Path) -> None:
    manifest = load_generator(distilled)
    assert UNSHOWN in manifest.remarks
    assert manifest.guidance_input == "unconditional"
    assert "not built in" in manifest.safety_checker
    assert not manifest.parity_missed
    assert load_generator(native).remarks == ()
    assert load_generator(native).guidance_dimension == 256


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["distilled", "native"])
def test_float32_gives_the_latents_of_diffusers_after_each_step(
    name: str, engine: str, request: pytest.FixtureRequest
) -> None:
    bundle: Path = request.getfixturevalue(name)
    model = loaded(bundle, engine)
    parity = compare(model, load_references(bundle / "reference.npz"))
    model.close()
    assert len(parity.latents) == 3
    assert min(parity.latents) >= 0.9999
    assert parity.ssim >= 0.99


@pytest.mark.parametrize("name", ["distilled", "native"])
def test_other_prompts_noise_and_sides_agree_with_diffusers_too(
    name: str, generator_folders: Mapping[str, Path], request: pytest.FixtureRequest
) -> None:
    bundle: Path = request.getfixturevalue(name)
    folders = generator_folders
    source, lora = (folders["plain"], folders["lora"]) if name == "distilled" else (folders["native"], None)
    original = Original(read_checkpoint(source, lora=lora)).make(PROMPTS[::3], steps=2, guidance=1.3, side=128)
    model = loaded(bundle, "onnxruntime")
    parity = compare(model, original)
    model.close()
    assert min(parity.latents) >= 0.9999
    assert parity.ssim >= 0.99


def original_of(source: Path, manifest: GeneratorManifest) -> Original:
    assert isinstance(manifest.schedule, DiffusionSchedule)
    return Original(read_checkpoint(source, sampler=manifest.schedule.sampler))


def test_a_plain_bundle_says_its_sampler_and_its_ranges_and_verifies(plain: tuple[Path, Path]) -> None:
    manifest = load_generator(plain[1])
    verify_files(plain[1], manifest)
    assert isinstance(manifest.schedule, DiffusionSchedule)
    assert manifest.schedule.prediction == (
        "epsilon" if manifest.schedule.sampler == "dpm-solver++" else "v_prediction"
    )
    assert (manifest.steps.least, manifest.steps.most, manifest.steps.default) == (10, 50, 12)
    assert (manifest.guidance.least, manifest.guidance.most, manifest.guidance.default) == (1, 15, 7.5)
    assert manifest.guidance_input == "unconditional"
    assert len(manifest.variants["fp32"].parity.latents) == 12
    assert not manifest.distilled
    for engine in ("auto", "onnxruntime"):
        _, checks = verify_generator(plain[1], manifest, engine=engine)
        assert len(checks) == 2
        assert all(check.passed for check in checks), (engine, checks)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_plain_bundle_gives_the_latents_of_diffusers_after_each_step(plain: tuple[Path, Path], engine: str) -> None:
    source, bundle = plain
    model = loaded(bundle, engine)
    found = [compare(model, load_references(bundle / "reference.npz"))]
    # Other prompts, noise and sides, without guidance and with more of it.
    original = original_of(source, model.manifest)
    found += [compare(model, original.make(PROMPTS[::3], steps=10, guidance=each, side=128)) for each in (1.0, 9.0)]
    model.close()
    assert [len(each.latents) for each in found] == [12, 10, 10]
    assert all(min(each.latents) >= 0.9999 and each.ssim >= 0.99 for each in found)


def test_a_negative_prompt_works_as_in_diffusers(plain: tuple[Path, Path]) -> None:
    source, bundle = plain
    model = loaded(bundle, "onnxruntime")
    made = original_of(source, model.manifest).make(
        PROMPTS[:1], steps=10, guidance=7.5, side=64, negative_prompt="a chest x-ray"
    )
    request = ImageRequest(PROMPTS[0], 10, 7.5, 0, 64, 64, negative_prompt="a chest x-ray")
    done: list[StepDone] = []
    image = make_image(model, request, noise=GivenNoise(made.noise[0][:, None]), on_step=done.append)
    other = make_image(model, replace(request, negative_prompt=""), noise=GivenNoise(made.noise[0][:, None]))
    model.close()
    assert min(cosine(each.latents[0], one) for each, one in zip(done, made.latents[0], strict=True)) >= 0.9999
    assert ssim(image.pixels, made.images[0]) >= 0.99
    assert not np.array_equal(image.pixels, other.pixels)
    shown = preview(done[-1].denoised, model.manifest)
    assert shown is not None
    assert shown.shape == (8, 8, 3)


def test_int8_is_smaller_and_reaches_its_bar(distilled: Path) -> None:
    manifest = load_generator(distilled)
    sizes = {file.path: file.size for file in manifest.files}
    small, full = ({**manifest.variants[name].files} for name in ("int8", "fp32"))
    assert sizes[small["unet"] + ".data"] < 0.6 * sizes[full["unet"] + ".data"]
    assert "int8" in manifest.variants["int8"].quantisation["unet"]
    assert min(manifest.variants["int8"].parity.latents) >= 0.95
    assert manifest.variants["int8"].parity.ssim >= 0.80


def test_a_made_image_is_the_same_twice_and_has_previews(distilled: Path) -> None:
    model = loaded(distilled, "openvino", "int8", reduced=True)
    request = default_request(model.manifest, "axial brain", seed=3)
    previews: list[Any] = []

    def look(done: StepDone) -> None:
        previews.append(preview(done.denoised, model.manifest))

    first, again = make_image(model, request, on_step=look), make_image(model, request)
    tiny = make_image(model, replace(request, tiny_decoder=True))
    model.close()
    assert np.array_equal(first.pixels, again.pixels)
    assert tiny.pixels.shape == first.pixels.shape == (64, 64, 3)
    assert previews[-1].shape == (8, 8, 3)
    squares = first.pixels.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    assert np.abs(previews[-1] - squares).mean() < 24


def test_a_bundle_in_float32_alone_has_previews_too(native: Path) -> None:
    manifest = load_generator(native)
    assert set(manifest.variants) == {"fp32"}
    references = load_references(native / "reference.npz")
    for latents, image in zip(references.latents[:, -1:], references.images, strict=True):
        shown = preview(latents, manifest)
        assert shown is not None
        squares = image.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
        assert np.abs(shown - squares).mean() < 24


def test_prompts_become_the_tokens_that_transformers_makes(
    distilled: Path, generator_folders: Mapping[str, Path]
) -> None:
    model = loaded(distilled, "onnxruntime")
    slow = CLIPTokenizer.from_pretrained(generator_folders["plain"] / "tokenizer")
    for prompt in (*PROMPTS, "naïve  caﬀé\tT2-weighted 3.5cm it's", "日本語 X光", "it’s “quoted”"):
        expected = slow(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        assert model.tokenizer.tokenize(prompt).ids[0].tolist() == expected, prompt
    assert model.tokenizer.tokenize(PROMPTS[-1]).truncated
    model.close()


def test_a_damaged_network_is_refused(native: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(native, copy)
    weights = copy / "unet.fp32.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(MirageError) as refusal:
        load_model(copy, options=EngineOptions(threads=1))
    assert refusal.value.code is Code.BUNDLE_INVALID
    assert refusal.value.metadata["reason"] == "unet.fp32.onnx.data is not the file that the manifest describes"


def test_an_array_of_another_shape_is_a_failure_in_both_engines(native: Path) -> None:
    for engine in ("onnxruntime", "openvino"):
        model = loaded(native, engine)
        with pytest.raises(MirageError) as failed:
            model.sessions["decoder"].run({"latents": np.zeros((1, 3, 8, 8), np.float32)})
        assert failed.value.code is Code.MODEL_FAILED
        model.close()
        with pytest.raises(MirageError) as closed:
            model.decode(np.zeros((1, 4, 8, 8), np.float32))
        assert closed.value.code is Code.MODEL_NOT_READY


def test_a_missed_bar_is_an_error_and_what_was_done_is_not_done_again(
    native: Path, generator_folders: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bar in ("FP32_SSIM", "INT8_LATENTS", "INT8_DECODER_SSIM"):
        monkeypatch.setattr(f"mirage_models.generator.task.{bar}", 1.1)
    request = request_for(generator_folders["native"], variants=("fp32", "int8"))
    with pytest.raises(ParityError, match=r"fp32: SSIM of the image 1\.0 < 1\.1"):
        build(request, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this was exported before")

    monkeypatch.setattr("mirage_models.generator.task.export_unet", never)
    manifest = build(replace(request, allow_parity_miss=True), tmp_path / "bundle")
    assert [miss.split(" 0")[0].split(" 1")[0] for miss in manifest.parity_missed] == [
        "fp32: SSIM of the image",
        "int8: cosine of the latents",
    ]
    # All recipes were tried: the decoder ends in float32, the UNet with the closest, which leaves linear layers alone.
    assert manifest.variants["int8"].quantisation["decoder"] == "float32"
    assert "linear" not in manifest.variants["int8"].quantisation["unet"]
    # And the same checkpoint gave the same files as before.
    again = {file.path: file for file in manifest.files}
    assert all(again[file.path] == file for file in load_generator(native).files)


def test_quantising_twice_gives_the_same_bytes(native: Path, tmp_path: Path) -> None:
    source = native / "decoder.fp32.onnx"
    chosen = layers(read_network(source), RECIPES["full"])
    written = []
    for number in range(2):
        copy = tmp_path / str(number)
        shutil.copytree(native, copy)
        recorder = SpanRecorder(copy / source.name, {layer.activation for layer in chosen}, output="image", threads=2)
        recorder.run({"latents": np.random.default_rng(0).standard_normal((1, 4, 8, 8), dtype=np.float32)})
        recorder.close()
        target = copy / "decoder.int8.onnx"
        quantise(copy / source.name, target, chosen, recorder.spans, name="decoder")
        written.append((target.read_bytes(), data_path(target).read_bytes()))
        assert not list(copy.glob("*.spans.onnx"))
    assert written[0] == written[1]


def test_unknown_schedulers_options_and_variants_are_refused(
    generator_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    for config in ({"rescale_betas_zero_snr": True}, {"beta_schedule": "squaredcos_cap_v2"}, {"thresholding": True}):
        with pytest.raises(UnknownArchitectureError):
            lcm_schedule(config)
    for number, changes in enumerate(
        (
            {"variants": ("int4",)},
            {"options": {"colour": 1}},
            {"extras": {"safety": tmp_path}},
            {"options": {"steps": 99}},
            {"options": {"sampler": "euler"}},
            {"options": {"sampler": "ddim"}},
        )
    ):
        with pytest.raises(BuildError):
            build(request_for(generator_folders["native"], **changes), tmp_path / str(number))


@pytest.mark.parametrize("options", [{"steps": 9}, {"steps": 51}, {"guidance": 16.0}])
def test_defaults_that_a_plain_bundle_does_not_allow_are_refused(
    options: dict[str, Any], generator_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    request = request_for(generator_folders["plain"], options={"steps": 10, "sampler": "ddim", **options})
    with pytest.raises(BuildError, match="outside of what this model can"):
        build(request, tmp_path / "bundle")


def test_a_request_for_given_noise_needs_as_much_as_there_are_steps(native: Path) -> None:
    model = loaded(native, "onnxruntime")
    request = ImageRequest("brain", 2, 8.0, 0, 64, 64)
    with pytest.raises(ValueError, match="no noise"):
        make_image(model, request, noise=GivenNoise([np.zeros((1, 4, 8, 8), np.float32)]))
    model.close()
