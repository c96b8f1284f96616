"""Checkpoints of image generators beside diffusers: sampler, guidance, LoRA; and what cannot be built."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from safetensors.torch import load_file, save_file
from skimage.metrics import structural_similarity

from mirage_inference.bundles import SamplerName
from mirage_inference.generator.pipeline import guidance_embedding
from mirage_inference.generator.samplers import make_sampler
from mirage_inference.generator.scheduler import LcmScheduler, signal_of
from mirage_models.generator.checkpoint import load_unet, read_checkpoint
from mirage_models.generator.lora import fuse_lora
from mirage_models.generator.original import make_pipeline
from mirage_models.generator.schedules import diffusion_schedule, lcm_schedule
from mirage_models.generator.similarity import ssim
from mirage_models.tasks import BuildError, CheckpointError, UnknownArchitectureError

# diffusers 0.39 calls numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_sampler_steps_as_that_of_diffusers() -> None:
    random = np.random.default_rng(0)
    for changes in ({}, {"prediction_type": "v_prediction"}, {"clip_sample": True}, {"beta_schedule": "linear"}):
        theirs = LCMScheduler(**changes)
        ours = LcmScheduler(lcm_schedule(dict(theirs.config)))
        assert np.allclose(ours.signal, theirs.alphas_cumprod.numpy(), rtol=1e-5)
        for steps in (1, 4, 7, 10, 50):
            theirs.set_timesteps(steps)
            timesteps = ours.timesteps(steps)
            assert timesteps.tolist() == theirs.timesteps.tolist()
            if steps > 10:
                continue
            here = there = random.standard_normal((1, 4, 8, 8), dtype=np.float32)
            for number, timestep in enumerate(timesteps):
                prediction = random.standard_normal(here.shape, dtype=np.float32)
                generator = torch.Generator().manual_seed(number)
                noise = torch.randn(here.shape, generator=torch.Generator().manual_seed(number)).numpy()
                stepped = theirs.step(
                    torch.from_numpy(prediction), theirs.timesteps[number], torch.from_numpy(there), generator=generator
                )
                there = stepped.prev_sample.numpy()
                following = int(timesteps[number + 1]) if number + 1 < steps else None
                result = ours.step(
                    prediction,
                    here,
                    timestep=int(timestep),
                    following=following,
                    noise=noise if following is not None else None,
                )
                here = result.latents
                assert np.allclose(here, there, atol=2e-4)
                assert np.allclose(result.denoised, stepped.denoised.numpy(), atol=2e-4)


NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize(
    ("sampler", "changes"),
    [
        ("dpm-solver++", {}),
        ("dpm-solver++", {"solver_type": "heun", "steps_offset": 1, "beta_schedule": "linear"}),
        ("dpm-solver++", {"final_sigmas_type": "sigma_min"}),
        ("dpm-solver++", {"final_sigmas_type": "sigma_min", "lower_order_final": False}),
        ("ddim", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
        ("ddim", {"clip_sample_range": 1.5, "beta_schedule": "linear"}),
    ],
)
def test_samplers_of_many_steps_step_as_those_of_diffusers(
    sampler: SamplerName, changes: Mapping[str, Any], spacing: str, prediction: str
) -> None:
    kind = DDIMScheduler if sampler == "ddim" else DPMSolverMultistepScheduler
    theirs = kind(**{**NOISE, **changes}, timestep_spacing=spacing, prediction_type=prediction)
    schedule = diffusion_schedule(dict(theirs.config), sampler)
    assert np.allclose(signal_of(schedule), theirs.alphas_cumprod.numpy(), rtol=1e-5)
    random = np.random.default_rng(0)
    noise, picture = random.standard_normal((2, 1, 4, 8, 8), dtype=np.float32)

    def predict(latents: Any) -> Any:
        # As bounded as a network's predictions, and different in each step.
        return np.asarray(np.tanh(latents) + 0.3 * picture, dtype=np.float32)

    for steps in (1, 2, 10, 14, 15, 25, 50):
        theirs.set_timesteps(steps)
        ours = make_sampler(schedule, steps)
        assert list(ours.timesteps) == theirs.timesteps.tolist()
        here, there = noise, torch.from_numpy(noise)
        for timestep in theirs.timesteps:
            here = ours.step(predict(here), here, draw=lambda: noise).latents
            there = theirs.step(torch.from_numpy(predict(there.numpy())), timestep, there).prev_sample
            size = max(1.0, float(there.abs().max()))
            assert np.abs(here - there.numpy()).max() <= 1e-5 * size, (steps, int(timestep))


def test_the_configuration_of_another_scheduler_gives_what_diffusers_takes_from_it(
    generator_folders: Mapping[str, Path],
) -> None:
    config = read_checkpoint(generator_folders["plain"], sampler="ddim").scheduler
    assert config["_class_name"] == "PNDMScheduler"
    ddim, solver = diffusion_schedule(config, "ddim"), diffusion_schedule(config, "dpm-solver++")
    assert (ddim.spacing, ddim.steps_offset, ddim.ends_clean, ddim.clip_range) == ("leading", 1, False, None)
    assert (solver.spacing, solver.steps_offset, solver.ends_clean) == ("linspace", 1, True)
    assert {ddim.prediction, solver.prediction} == {"epsilon"}
    assert {(each.beta_start, each.beta_end, each.beta_schedule) for each in (ddim, solver)} == {tuple(NOISE.values())}


@pytest.mark.parametrize(
    ("sampler", "change", "expected"),
    [
        ("ddim", {"thresholding": True}, "thresholding True"),
        ("ddim", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr True"),
        ("ddim", {"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule 'squaredcos_cap_v2'"),
        ("ddim", {"timestep_spacing": "random"}, "spacing 'random'"),
        ("ddim", {"beta_schedule": "cubic"}, "not one of a DDIMScheduler"),
        ("dpm-solver++", {"algorithm_type": "sde-dpmsolver++"}, "algorithm_type 'sde-dpmsolver[+]{2}'"),
        ("dpm-solver++", {"solver_order": 3}, "solver_order 3"),
        ("dpm-solver++", {"use_karras_sigmas": True}, "use_karras_sigmas True"),
        ("dpm-solver++", {"prediction_type": "flow_prediction"}, "prediction 'flow_prediction'"),
        ("dpm-solver++", {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, "euler_at_final True"),
    ],
)
def test_schedules_that_the_samplers_do_not_know_are_refused_by_name(
    sampler: SamplerName, change: Mapping[str, Any], expected: str
) -> None:
    with pytest.raises(UnknownArchitectureError, match=expected):
        diffusion_schedule({**NOISE, **change}, sampler)


def test_guidance_embeds_as_in_diffusers(generator_folders: Mapping[str, Path]) -> None:
    checkpoint = read_checkpoint(generator_folders["native"])
    pipeline = make_pipeline(checkpoint, load_unet(checkpoint))
    for scale in (1.0, 7.5, 8.0, 14.0):
        expected = pipeline.get_guidance_scale_embedding(torch.tensor([scale - 1]), embedding_dim=256).numpy()
        assert np.allclose(guidance_embedding(scale, 256), expected, atol=2e-3)


def test_the_lora_is_fused_as_diffusers_does(generator_folders: Mapping[str, Path]) -> None:
    checkpoint = read_checkpoint(generator_folders["plain"], lora=generator_folders["lora"])
    fused = load_unet(checkpoint).state_dict()
    plain = load_unet(replace(checkpoint, lora=None))
    pipeline = make_pipeline(checkpoint, plain)
    pipeline.load_lora_weights(generator_folders["lora"], weight_name="pytorch_lora_weights.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    theirs = pipeline.unet.state_dict()
    assert fused.keys() == theirs.keys()
    assert all(torch.allclose(fused[name], theirs[name], atol=1e-5) for name in fused)
    unchanged = load_unet(replace(checkpoint, lora=None)).state_dict()
    assert any(not torch.allclose(fused[name], unchanged[name], atol=1e-5) for name in fused)


def test_structural_similarity_is_that_of_scikit_image() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    second = np.clip(first + random.normal(0, 30, first.shape), 0, 255).astype(np.uint8)
    assert ssim(first, second) == pytest.approx(structural_similarity(first, second, channel_axis=2), abs=1e-9)
    assert ssim(first, first) == pytest.approx(1.0)


def changed(source: Path, target: Path) -> Path:
    shutil.copytree(source, target, symlinks=False)
    return target


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal_of(source: Path, **extras: Path) -> str:
    with pytest.raises(BuildError) as refusal:
        load_unet(read_checkpoint(source, lora=extras.get("lora")))
    return str(refusal.value)


def test_what_cannot_be_built_is_refused_by_name(generator_folders: Mapping[str, Path], tmp_path: Path) -> None:
    plain, native, lora = generator_folders["plain"], generator_folders["native"], generator_folders["lora"]
    assert "a PNDMScheduler is not known" in refusal_of(plain)
    assert "give an LCM-LoRA" in refusal_of(plain)
    assert "already" in refusal_of(native, lora=lora)
    for name, path, change, expected in (
        ("xl", "model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "StableDiffusionXLPipeline"),
        ("tower", "model_index.json", {"text_encoder": ["transformers", "T5EncoderModel"]}, "T5EncoderModel"),
        ("inpainting", "unet/config.json", {"in_channels": 9}, "edit images"),
        ("narrow", "unet/config.json", {"block_out_channels": [16, 64]}, "cannot be loaded"),
        ("second", "text_encoder/config.json", {"hidden_size": 1024}, "this is Stable Diffusion 2"),
        ("linear", "unet/config.json", {"use_linear_projection": True}, "this is Stable Diffusion 2"),
        ("wide", "text_encoder/config.json", {"hidden_size": 48}, "gives texts 48 wide, the unet takes 32"),
    ):
        folder = changed(native, tmp_path / name)
        edit(folder / path, **change)
        assert expected in refusal_of(folder)
    folder = changed(native, tmp_path / "draws")
    (folder / "draws.json").write_text('{"about": "brains", "words": ["two words"]}')
    assert "draws.json does not say what the model draws" in refusal_of(folder)
    for name, path, expected in (
        ("no tokenizer", "tokenizer/merges.txt", "tokenizer/merges.txt is missing"),
        ("no weights", "vae/diffusion_pytorch_model.safetensors", "vae has no weights"),
        ("no config", "unet/config.json", "unet/config.json is missing"),
    ):
        folder = changed(native, tmp_path / name)
        (folder / path).unlink()
        assert expected in refusal_of(folder)


def test_a_sampler_is_that_of_the_checkpoint_or_the_one_asked_for(
    generator_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    plain, native, lora = (generator_folders[name] for name in ("plain", "native", "lora"))
    for number, (name, expected) in enumerate(
        (("DPMSolverMultistepScheduler", "dpm-solver++"), ("DDIMScheduler", "ddim"), ("LCMScheduler", None))
    ):
        folder = changed(plain, tmp_path / str(number))
        edit(folder / "scheduler" / "scheduler_config.json", _class_name=name)
        assert read_checkpoint(folder).sampler == expected
        assert read_checkpoint(folder, lora=lora).sampler is None
    assert read_checkpoint(tmp_path / "0", sampler="ddim").sampler == "ddim"
    for folder, extras in ((plain, {"lora": lora}), (native, {}), (tmp_path / "2", {})):
        with pytest.raises(CheckpointError, match="has a sampler of its own: ddim is for others"):
            read_checkpoint(folder, sampler="ddim", **extras)
    edit(tmp_path / "0" / "scheduler" / "scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler")
    with pytest.raises(UnknownArchitectureError, match="FlowMatchEulerDiscreteScheduler is not known, and ddim cannot"):
        read_checkpoint(tmp_path / "0", sampler="ddim")


def test_damaged_weights_are_refused_by_name(generator_folders: Mapping[str, Path], tmp_path: Path) -> None:
    folder = changed(generator_folders["native"], tmp_path / "checkpoint")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(path)
    save_file({name: each for name, each in whole.items() if name != "conv_in.bias"}, path, metadata={"format": "pt"})
    assert "conv_in.bias" in refusal_of(folder)
    save_file({**whole, "conv_in.bias": whole["conv_in.bias"] * np.nan}, path, metadata={"format": "pt"})
    assert "conv_in.bias holds values that are no numbers" in refusal_of(folder)
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be loaded" in refusal_of(folder)


class Sneaky:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_in_pickled_weights_is_run(generator_folders: Mapping[str, Path], tmp_path: Path) -> None:
    folder = changed(generator_folders["plain"], tmp_path / "checkpoint")
    torch.save({"conv_in.weight": Sneaky(tmp_path / "ran")}, folder / "unet" / "diffusion_pytorch_model.bin")
    assert "cannot be loaded" in refusal_of(folder, lora=generator_folders["lora"])
    assert not (tmp_path / "ran").exists()


def test_another_lora_is_refused_by_name(generator_folders: Mapping[str, Path], tmp_path: Path) -> None:
    unet = load_unet(read_checkpoint(generator_folders["native"]))
    state = load_file(generator_folders["lora"] / "pytorch_lora_weights.safetensors")
    for number, (tensors, expected) in enumerate(
        (
            ({"lora_te_text_model.lora_down.weight": torch.zeros(1)}, "only layers of a UNet"),
            ({key.replace("_conv1.", "_conv9."): each for key, each in state.items()}, "for another model"),
            ({"lora_unet_conv_in.lora_B.weight": torch.zeros(1)}, "are known"),
        )
    ):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path)
        with pytest.raises(CheckpointError, match=expected):
            fuse_lora(unet, path)
    with pytest.raises(CheckpointError, match=r"has no pytorch_lora_weights\.safetensors"):
        fuse_lora(unet, tmp_path)
