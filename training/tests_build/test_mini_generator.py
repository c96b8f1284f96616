"""The mini generator's training: what is drawn, that stopped runs go on to the same weights, and what the folder holds."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline
from diffusers.schedulers import LCMScheduler

from mirage_atlas.demo.captions import SEQUENCE_WORDS
from mirage_atlas.demo.lesions import held_out
from mirage_atlas.demo.plan import LEVEL_STEP_MM
from mirage_atlas.demo.template import load_template
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_inference.generator.pipeline import guidance_embedding
from mirage_models.generator.whole_folder import complete, main
from mirage_models.paths import bundles_folder
from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_generator.autoencoder import as_input, autoencoder_stage
from mirage_training.mini_generator.diffusion import Examples, noisy
from mirage_training.mini_generator.distillation import boundary, clean_and_noise, guidance_states, guided_step
from mirage_training.mini_generator.emphasis import lesion_latents, weighted_mean
from mirage_training.mini_generator.latents import encoded, encoded_mirrored, standardise
from mirage_training.mini_generator.networks import make_autoencoder, make_unet, schedule_config, signal_shares
from mirage_training.mini_generator.pictures import Pose, draw_pose, posed, rendered, training_picture
from mirage_training.mini_generator.prompts import training_text, whole_query
from mirage_training.mini_generator.recipe import Recipe, StageRecipe
from mirage_training.mini_generator.stage import Pace
from mirage_training.mini_generator.text_tower import Prompts, load_text_tower
from mirage_training.mini_generator.train import STAGES, snapshot, train

TINY = Recipe(
    pictures=6,
    vae_channels=(8, 8, 8, 8),
    unet_channels=(16, 16),
    unet_attention=(False, True),
    unet_heads=2,
    unet_groups=8,
    guidance_dimension=8,
    autoencoder=StageRecipe(3, 2, 1e-3, warmup=2),
    diffusion=StageRecipe(3, 2, 1e-3, warmup=2),
    distillation=StageRecipe(3, 2, 1e-3, warmup=2),
    refinement=StageRecipe(3, 2, 1e-3, warmup=2),
)


@pytest.fixture(scope="module")
def source() -> SectionSource:
    return SectionSource(load_template())


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(load_text_tower())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, source: SectionSource) -> tuple[Path, Path]:
    """The work folder and the checkpoint of a run that was never stopped."""
    root = tmp_path_factory.mktemp("mini-generator")
    assert train(root / "work", TINY, make_source=lambda: source, out=root / "checkpoint")
    return root / "work", root / "checkpoint"


def test_what_is_held_out_from_the_mini_clip_is_held_out_here_too(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(60)]
    lesions = [spec.lesion for spec in specs if spec.lesion]
    assert all(spec.level_mm % LEVEL_STEP_MM for spec in specs)
    assert len(lesions) > 20
    assert not any(held_out(lesion.centre_mm) for lesion in lesions)


def test_a_picture_is_the_same_whenever_it_is_drawn_and_no_two_are_alike(source: SectionSource) -> None:
    assert np.array_equal(training_picture(source, 3, 5)[1], training_picture(source, 3, 5)[1])
    spec = training_picture(source, 3, 5)[0]
    rng = np.random.default_rng(0)
    native = source.render(spec)[0]
    first, second = (posed(native, draw_pose(rng)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_a_section_that_is_not_posed_fills_the_same_field(source: SectionSource) -> None:
    native = source.render(training_picture(source, 3, 5)[0])[0]
    shown = posed(native, Pose()).astype(np.float32) / 255
    assert shown.mean() == pytest.approx(native.mean(), abs=0.002)
    coarse = native.reshape(64, 3, 64, 3).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), shown.reshape(64, 2, 64, 2).mean(axis=(1, 3)).ravel())[0, 1] > 0.999


def test_rendering_goes_on_where_it_was_stopped(tmp_path: Path, source: SectionSource) -> None:
    whole = rendered(tmp_path / "pictures", lambda: source, count=4, seed=3)

    def refuse() -> SectionSource:
        raise AssertionError("all of it is there")

    again = rendered(tmp_path / "pictures", refuse, count=4, seed=3)
    assert np.array_equal(whole.pixels, again.pixels)
    assert whole.specs == again.specs


def test_texts_are_true_of_their_section_and_sometimes_absent(source: SectionSource) -> None:
    rng = np.random.default_rng(4)
    texts = []
    for index in range(80):
        spec = training_picture(source, 3, index % 20)[0]
        texts.append(training_text(spec, rng))
        whole = whole_query(spec, rng).lower()
        assert spec.plane in whole or "transverse" in whole
        assert any(word.lower().split("-")[0][:2] in whole for word in SEQUENCE_WORDS[spec.sequence])
        if spec.lesion:
            assert f"{spec.lesion.side} {spec.lesion.lobe}" in whole
            assert spec.lesion.signal in whole or "brain mri" in whole
    assert 0 < texts.count("") < 25


def test_what_counts_more_is_where_a_lesion_changes_the_picture(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(40)]
    shown = lesion_latents(specs)
    assert shown.shape == (40, 1, 16, 16)
    sick = 0
    for spec, cells in zip(specs, shown[:, 0].numpy(), strict=True):
        changed = source.render(spec)[0] != source.render(replace(spec, lesion=None))[0]
        found = changed.reshape(16, 12, 16, 12).any(axis=(1, 3))
        assert not (found & ~cells).any()
        assert cells.sum() <= found.sum() + 40
        assert cells.any() == (spec.lesion is not None)
        sick += spec.lesion is not None
    assert sick > 15


def test_what_counts_more_is_counted_so_often() -> None:
    losses = torch.tensor([[[[1.0, 5.0]], [[1.0, 5.0]]]])
    lesions = torch.tensor([[[[False, True]]]])
    assert weighted_mean(losses, lesions, 1.0) == pytest.approx(3.0)
    assert weighted_mean(losses, lesions, 3.0) == pytest.approx(4.0)
    assert weighted_mean(losses, torch.zeros_like(lesions), 3.0) == pytest.approx(3.0)


def test_a_lesion_comes_with_its_mirror_image_in_the_same_words_and_noise(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(40)]
    latents = torch.arange(40.0)[:, None, None, None].expand(-1, 4, 16, 16)
    said: list[str] = []

    class Listening(Prompts):
        def __init__(self) -> None:
            pass

        def states(self, texts: list[str]) -> torch.Tensor:
            said.extend(texts)
            return torch.zeros(len(texts), 77, 128)

    drawn = Examples(latents, -latents, specs, Listening()).draw(np.random.default_rng(6), 32)
    numbers = drawn.latents[:, 0, 0, 0].tolist()
    assert drawn.rows.tolist() == [*range(24), *range(16, 24)]
    assert numbers[24:] == [-number for number in numbers[16:24]]
    swap = {"left": "right", "right": "left"}
    for first, second in zip(range(16, 24), range(24, 32), strict=True):
        spec = specs[int(numbers[first])]
        assert spec.lesion
        assert spec.plane != "sagittal"
        assert torch.equal(drawn.lesions[first].flip(2), drawn.lesions[second])
        turned = re.sub(r"\b(left|right)\b", lambda match: swap[match[0]], said[first])
        assert said[second] == turned
    assert any(said[first] != said[first + 8] for first in range(16, 24))


def test_mirror_images_are_encoded_as_what_they_show(source: SectionSource, trained: tuple[Path, Path]) -> None:
    work, _ = trained
    pictures = rendered(work / "pictures", lambda: source, count=TINY.pictures, seed=TINY.seed)
    autoencoder = autoencoder_stage(work, TINY).averaged()
    encoded(work / "latents.pt", pictures, autoencoder)
    turned = encoded_mirrored(work / "mirrored.pt", pictures, autoencoder)
    shown = as_input(np.ascontiguousarray(pictures.pixels[:, :, ::-1]))
    with torch.no_grad():
        expected = autoencoder.encode(shown).latent_dist.mean
    # They are encoded in bfloat16.
    assert (turned.float() - expected).abs().mean() < 0.02
    assert (turned.float().flip(3) - expected).abs().mean() > 0.04


def test_prompts_are_read_as_the_bundle_reads_them(prompts: Prompts) -> None:
    text = "axial FLAIR, hyperintense lesion in the left frontal lobe"
    model = load_model(bundles_folder() / "generator" / "bundle", options=EngineOptions(threads=1))
    try:
        served = torch.from_numpy(model.encode(model.tokenizer.tokenize(text)))
    finally:
        model.close()
    # int8 here, bfloat16 there.
    assert torch.cosine_similarity(prompts.states([text]), served, dim=-1).mean() > 0.99
    assert prompts.states([text, ""]).shape == (2, 77, 128)
    assert torch.equal(prompts.states([""]), prompts.nothing)


def test_the_student_takes_guidance_as_the_service_gives_it() -> None:
    for scale in (1.0, 1.7, 4.0):
        ours = guidance_states(torch.tensor([scale]), 256).numpy()
        # Sines of up to 3,000 radians: float32 knows these to 2.4e-4.
        assert np.allclose(ours, guidance_embedding(scale, 256), atol=1e-3)


def test_boundary_and_velocity_are_those_of_the_scheduler() -> None:
    config = schedule_config(Recipe())
    scheduler = LCMScheduler.from_config(config)
    assert torch.allclose(scheduler.alphas_cumprod, signal_shares(), atol=1e-6)
    scheduler.set_timesteps(4)
    random = torch.Generator().manual_seed(1)
    latents, velocity = (torch.randn((1, 4, 2, 2), generator=random) for _ in range(2))
    timestep = scheduler.timesteps[0]
    share = signal_shares()[timestep].view(1, 1, 1, 1)
    clean, noise = clean_and_noise(velocity, latents, share)
    assert torch.allclose(noisy(clean, noise, share), latents, atol=1e-5)
    skip, out = boundary(timestep.view(1))
    expected = scheduler.step(velocity, timestep, latents, generator=random).denoised
    assert torch.allclose(skip * latents + out * clean, expected, atol=1e-4)


def test_a_guided_step_of_scale_one_is_the_teachers_own() -> None:
    teacher = make_unet(TINY, guided=False).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(2)
    latents, states = torch.randn((1, 4, 16, 16), generator=random), torch.randn((1, 77, 128), generator=random)
    start, end = torch.tensor([499]), torch.tensor([449])
    shares = signal_shares()
    made = guided_step(teacher, latents, start, end, states, states * 0, torch.tensor([1.0]), shares)
    with torch.no_grad():
        clean, noise = clean_and_noise(teacher(latents, start, states).sample, latents, shares[start].view(1, 1, 1, 1))
    assert torch.allclose(made, noisy(clean, noise, shares[end].view(1, 1, 1, 1)), atol=0.05)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_stopped_goes_on_to_the_same_weights(
    tmp_path: Path, trained: tuple[Path, Path], source: SectionSource, stage: str
) -> None:
    work, _ = trained
    assert not train(tmp_path, TINY, paces={stage: Pace(stop_at=1)}, make_source=lambda: source)
    assert train(tmp_path, TINY, make_source=lambda: source)
    whole, resumed = (torch.load(each / f"{stage}.pt", weights_only=True) for each in (work, tmp_path))
    assert resumed["step"] == whole["step"] == 3
    for kind in ("model", "average"):
        assert all(torch.equal(value, resumed[kind][name]) for name, value in whole[kind].items())


def test_the_folder_runs_in_diffusers(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    complete(trained[1], tmp_path / "whole")
    pipeline = LatentConsistencyModelPipeline.from_pretrained(tmp_path / "whole", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("axial T1", height=128, width=128, num_inference_steps=2, guidance_scale=2.0, output_type="np")
    assert made.images.shape == (1, 128, 128, 3)


def test_latents_are_of_one_spread_and_lead_to_the_same_pictures() -> None:
    autoencoder = make_autoencoder(TINY).eval().requires_grad_(False)
    shown = torch.rand((2, 3, 128, 128), generator=torch.Generator().manual_seed(3)) * 2 - 1
    found = autoencoder.encode(shown).latent_dist
    before, made = found.mean, autoencoder.decode(found.mean).sample
    mean, spread = before.mean(dim=(0, 2, 3)), before.std(dim=(0, 2, 3))
    standardise(autoencoder, mean, spread)
    after = autoencoder.encode(shown).latent_dist
    assert torch.allclose(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(after.std, found.std / spread[:, None, None], rtol=1e-3)
    assert torch.allclose(autoencoder.decode(after.mean).sample, made, atol=1e-4)


def test_a_snapshot_says_what_it_is_of(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    assert snapshot(trained[0], TINY, tmp_path / "now") == "refinement, step 3"
    for path in (tmp_path / "now").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (trained[1] / path.relative_to(tmp_path / "now")).read_bytes()


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "none" in capsys.readouterr().err


def test_a_teacher_of_another_form_is_refused(tmp_path: Path) -> None:
    from mirage_training.mini_generator.distillation import distillation_stage

    other = make_unet(replace(TINY, unet_layers=2), guided=False)
    with pytest.raises((ValueError, RuntimeError)):
        distillation_stage(tmp_path, TINY, other)
