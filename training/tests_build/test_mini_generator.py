"""The mini generator's training: what is drawn, that stopped runs go on to the same weights, and what the folder holds."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, LatentConsistencyModelPipeline, UNet2DConditionModel
from diffusers.schedulers import LCMScheduler
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, avg_pool2d, normalize

from mirage_atlas.demo.captions import SEQUENCE_WORDS, caption
from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.lesions import held_out
from mirage_atlas.demo.plan import LEVEL_STEP_MM
from mirage_atlas.demo.template import load_template
from mirage_inference.bundles import Draws
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_inference.generator.pipeline import guidance_embedding
from mirage_inference.generator.prompts import unknown_words
from mirage_inference.llm.words import near
from mirage_models.generator.whole_folder import END, KEPT, TABLE, complete, filled, main
from mirage_models.paths import bundles_folder
from mirage_models.tasks import CheckpointError
from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_clip.queries import LESION_QUERIES, SEQUENCE_QUERIES
from mirage_training.mini_clip.wordings import LESION_NOUN
from mirage_training.mini_generator.agreement import (
    BANDS,
    WANTED,
    Guide,
    Texts,
    disagreement,
    energies,
    right_trajectories,
    sampled,
    train_agreement,
    unlike,
)
from mirage_training.mini_generator.autoencoder import as_input, autoencoder_stage
from mirage_training.mini_generator.decoder import decoding_losses, perception, texture
from mirage_training.mini_generator.detail import fine_energy
from mirage_training.mini_generator.diffusion import Examples, diffusion_stage, noisy
from mirage_training.mini_generator.distillation import boundary, drawn_points, guidance_states
from mirage_training.mini_generator.emphasis import lesion_cores, lesion_latents, weighted_mean
from mirage_training.mini_generator.finder import LesionFinder, contrasts, finder_stage, train_finder, truth
from mirage_training.mini_generator.latents import encoded, encoded_mirrored, standardise
from mirage_training.mini_generator.networks import make_autoencoder, make_unet, schedule_config, signal_shares
from mirage_training.mini_generator.pictures import Pose, draw_pose, posed, rendered, training_picture
from mirage_training.mini_generator.prompts import training_text, whole_query
from mirage_training.mini_generator.recipe import Recipe, StageRecipe, continued
from mirage_training.mini_generator.stage import Pace, Stage
from mirage_training.mini_generator.text_tower import Prompts, load_text_tower
from mirage_training.mini_generator.train import STAGES, snapshot, train
from mirage_training.mini_generator.train import main as train_main
from mirage_training.mini_generator.trajectories import (
    SHARD,
    Trajectories,
    clean_and_noise,
    guided_step,
    matched,
    step_timesteps,
    travelled,
)
from mirage_training.mini_generator.vocabulary import draws

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
    trajectories=SHARD,
    texts=200,
    decoder=StageRecipe(3, 2, 1e-3, warmup=2),
    distillation=StageRecipe(3, 2, 1e-3, warmup=2),
    finder_width=8,
    finder=StageRecipe(3, 2, 1e-3, warmup=2),
    agreement=StageRecipe(3, 2, 1e-3, warmup=2),
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
    coarse = native.reshape(32, 6, 32, 6).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), shown.reshape(32, 5, 32, 5).mean(axis=(1, 3)).ravel())[0, 1] > 0.999


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


def test_a_text_of_a_lesion_names_it(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(40)]
    sick = next(spec for spec in specs if spec.lesion)
    said = [training_text(sick, np.random.default_rng(seed)).lower() for seed in range(300)]
    words = {word for text in (*LESION_QUERIES, *LESION_NOUN) for word in text.split()} - {"a"}
    assert sum(bool(text) for text in said) > 200
    for text in filter(None, said):
        # A text may be misspelt.
        assert any(near(word, other, 1) for word in re.findall(r"[a-z]+", text) for other in words), text


def test_the_words_that_it_draws_are_those_of_many_texts(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(40)]
    recipe = replace(Recipe(), texts=4_000)
    found = draws(specs, recipe)
    assert found == draws(specs, recipe)
    assert {"axial", "t1", "flair", "lesion", "brain", "frontal", "sag"} <= found.words
    assert not {"chest", "ct", "tumour", "lesoin", "barin"} & found.words
    texts = [text for index in range(200) if (text := whole_query(specs[index % 40], np.random.default_rng(index)))]
    assert [text for text in texts if list(unknown_words(text, found))] == []
    for text in ("chest x-ray with pneumonia", "left atrium", "left ventricle", "left upper lobe", "holiday in Rome"):
        assert list(unknown_words(text, found)), text


def test_what_counts_more_is_where_a_lesion_changes_the_picture(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(40)]
    shown = lesion_latents(specs)
    assert shown.shape == (40, 1, 20, 20)
    sick = 0
    for spec, cells in zip(specs, shown[:, 0].numpy(), strict=True):
        changed = source.render(spec)[0] != source.render(replace(spec, lesion=None))[0]
        found = adaptive_max_pool2d(torch.from_numpy(changed)[None].float(), 20)[0].numpy() > 0
        assert not (found & ~cells).any()
        assert cells.sum() <= found.sum() + 40
        assert cells.any() == (spec.lesion is not None)
        sick += spec.lesion is not None
    assert sick > 15


def test_the_rim_of_a_lesion_does_not_count_and_its_core_is_a_lesion(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(20)]
    known, cores, around = truth(specs), lesion_cores(specs), lesion_latents(specs)
    assert torch.equal(known.lesions > 0, cores)
    assert not (cores & ~around).any()
    rim = around & ~cores
    assert rim.any()
    assert torch.equal(known.counted == 0, rim)
    right, wrong = torch.where(cores, 9.0, -9.0), torch.where(cores, -9.0, 9.0)
    assert known.error(right).item() < 0.01 < known.error(wrong).item()
    assert known.error(torch.where(rim, 9.0, right)).item() == pytest.approx(known.error(right).item())


def test_a_finder_learns_where_lesions_are(tmp_path: Path, source: SectionSource) -> None:
    pictures = rendered(tmp_path / "pictures", lambda: source, count=24, seed=3)
    recipe = replace(TINY, finder_width=16, finder=StageRecipe(240, 12, 4e-3, warmup=5, average=0.9))
    stage = finder_stage(tmp_path, recipe)
    known, shown = truth(pictures.specs), as_input(pictures.pixels)
    before = known.error(stage.model(shown[:, :1])[0]).item()
    assert train_finder(stage, pictures, recipe, Pace())
    finder = stage.averaged()
    with torch.no_grad():
        after = known.error(finder(shown[:, :1])[0]).item()
        lesions, sequences = finder(shown[:, :1])
    assert after < 0.5 * before
    assert lesions.shape == (24, 1, 20, 20)
    assert (sequences.argmax(dim=1) == contrasts(pictures.specs)).float().mean() > 0.6


def test_each_token_of_a_text_has_a_row_in_the_text_tower(source: SectionSource) -> None:
    table = load_text_tower().get_input_embeddings().weight
    assert table.shape == (END + 1, 128)
    rng = np.random.default_rng(8)
    words = Draws.model_validate_json((bundles_folder() / "generator/checkpoint/draws.json").read_text("utf-8")).words
    drawn = [whole_query(source.draw(rng), rng) for _ in range(100)]
    drawn += [caption(source.draw(rng), rng) for _ in range(100)]
    tokens = SimpleTokenizer(context_length=77)([*sorted(words), *drawn]).unique()
    tokens = tokens[tokens > 0]
    assert len(tokens) > 300
    assert table[tokens].abs().sum(dim=1).min() > 0.1


def test_a_table_without_rows_of_its_own_choice_is_whole() -> None:
    whole = {TABLE: torch.ones(END + 1, 2), "other": torch.ones(1)}
    assert filled(whole)[TABLE].equal(whole[TABLE])
    kept = {TABLE: torch.ones(2, 2), "other": torch.ones(1), KEPT: torch.tensor([3, END], dtype=torch.int32)}
    table = filled(kept).pop(TABLE)
    assert torch.nonzero(table.sum(dim=1))[:, 0].tolist() == [3, END]
    assert set(filled(kept)) == {TABLE, "other"}


def test_fine_detail_is_measured_as_in_the_evaluation(source: SectionSource) -> None:
    pixels = np.stack([training_picture(source, 3, index)[1] for index in range(6)])
    found = energies(as_input(pixels))
    assert found.shape == (6, len(BANDS) - 1)
    assert found[:, -1].mean().item() == pytest.approx(fine_energy(pixels), rel=1e-3)


def test_energies_are_compared_by_contrast() -> None:
    sequences = torch.tensor([0, 0, 1])
    wanted = torch.full((3, len(WANTED)), 2.0) * torch.tensor([[1.0], [1.0], [3.0]])
    right = wanted * torch.tensor(WANTED)
    assert unlike(right, wanted, sequences).item() == pytest.approx(0, abs=1e-6)
    # One of a contrast may have more if another has less, but not one of another contrast.
    assert unlike(right * torch.tensor([[2.0], [0.5], [1.0]]), wanted, sequences).item() == pytest.approx(0, abs=1e-6)
    assert unlike(right * torch.tensor([[2.0], [1.0], [0.5]]), wanted, sequences).item() > 0.5


def test_the_students_own_images_are_those_of_the_sampler(trained: tuple[Path, Path], prompts: Prompts) -> None:
    student = make_unet(TINY, guided=True).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(4)
    noises = [torch.randn((1, 4, 20, 20), generator=random) for _ in range(4)]
    states, guidance = prompts.states(["axial T1"]), guidance_states(torch.tensor([3.0]), TINY.guidance_dimension)
    scheduler = LCMScheduler.from_config(schedule_config(TINY))
    scheduler.set_timesteps(4)
    latents = noises[0]
    for number, timestep in enumerate(scheduler.timesteps):
        velocity = student(latents, timestep, states, timestep_cond=guidance).sample
        clean = scheduler.step(velocity, timestep, latents, generator=random).denoised
        if number < 3:
            share = signal_shares()[scheduler.timesteps[number + 1]].view(1, 1, 1, 1)
            latents = noisy(clean, noises[number + 1], share)
    assert torch.allclose(sampled(student, noises, states, guidance, TINY), clean, atol=0.02)


class _Bright(LesionFinder):
    """Sees a lesion wherever a picture is bright."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return avg_pool2d(pictures, 8) * 10, torch.zeros(len(pictures), 3)


def test_trajectories_that_do_not_agree_with_their_texts_are_left_out(tmp_path: Path) -> None:
    lesions = torch.zeros((4, 1, 20, 20), dtype=torch.bool)
    lesions[:2, :, 3, 3] = True
    ends = torch.full((4, 4, 20, 20), -1.0)
    ends[[0, 2], :, 3, 3] = 1
    points = torch.stack([torch.zeros_like(ends), ends], dim=1)
    trajectories = Trajectories(points, torch.zeros(4, 77, 128), torch.ones(4), lesions)
    guide = Guide(lambda latents: latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3), _Bright(8))
    sick, well = right_trajectories(tmp_path / "seen.pt", trajectories, guide)
    assert (sick.tolist(), well.tolist()) == ([0], [3])
    again = Guide(lambda latents: latents / 0, _Bright(8))
    assert torch.equal(right_trajectories(tmp_path / "seen.pt", trajectories, again)[0], sick)


def test_half_of_the_texts_of_the_students_own_images_name_a_lesion(source: SectionSource, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Prompts):
        def __init__(self) -> None:
            pass

        def states(self, texts: list[str]) -> Tensor:
            said.extend(texts)
            return torch.zeros(len(texts), 77, 128)

    pictures = rendered(tmp_path / "pictures", lambda: source, count=24, seed=3)
    asked = Texts.of(pictures, Listening()).draw(np.random.default_rng(3), 40)
    assert set(asked.sequences.tolist()) == {0, 1, 2}
    assert asked.lesions.flatten(1).any(dim=1).tolist() == [True, False] * 20
    assert asked.energies.shape == (40, len(BANDS) - 1)
    names = {contrast: {name.lower() for name in (*names, contrast)} for contrast, names in SEQUENCE_QUERIES.items()}
    for text, number in zip(said, asked.sequences.tolist(), strict=True):
        assert any(name in text.lower() for name in names[SEQUENCES[number]]), text
    assert all("lesion" in text for text in said[::2])


def test_one_lesion_of_its_size_in_its_place_agrees_with_a_text() -> None:
    wanted = torch.zeros(6, 1, 20, 20, dtype=torch.bool)
    wanted[:5, :, 5:7, 5:7] = True
    found = torch.full((6, 1, 20, 20), -9.0)
    found[0, 0, 4:6, 6:8] = 9  # in its place
    found[1, 0, 14, 14] = 9  # elsewhere
    found[2, 0, 5, 5] = found[2, 0, 14, 14] = 9  # two
    found[3, 0, 2:10, 2:10] = 9  # too large
    found[5, 0, 5, 5] = 9  # none is asked for
    assert disagreement(found, wanted).round().tolist() == [0, 24, 13, 15, 11, 13]
    assert disagreement(torch.full((1, 1, 20, 20), -9.0), wanted[5:]).item() == 0


def test_disagreement_can_be_learnt_from_even_without_a_lesion() -> None:
    found = torch.zeros(2, 1, 20, 20, requires_grad=True)
    wanted = torch.zeros(2, 1, 20, 20, dtype=torch.bool)
    wanted[0, :, 5:7, 5:7] = True
    disagreement(found, wanted).sum().backward()
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()
    assert (found.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_a_student_learns_to_draw_what_was_asked_for(tmp_path: Path, source: SectionSource, prompts: Prompts) -> None:
    pictures = rendered(tmp_path / "pictures", lambda: source, count=24, seed=3)
    recipe = replace(TINY, agreement=StageRecipe(8, 4, 2e-3, warmup=1, average=0.5))
    finder = LesionFinder(8).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(5)
    trajectories = Trajectories(
        torch.randn((4, 21, 4, 20, 20), generator=random),
        torch.zeros(4, 77, 128),
        torch.full((4,), 3.0),
        torch.tensor([True, True, False, False])[:, None, None, None].expand(-1, 1, 20, 20),
    )
    guide = Guide.of(make_autoencoder(TINY).eval().requires_grad_(False), finder)
    stage = Stage(tmp_path, "agreement", make_unet(recipe, guided=True), recipe.agreement)
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    right = (torch.tensor([0, 1]), torch.tensor([2, 3]))
    assert train_agreement(stage, trajectories, right, Texts.of(pictures, prompts), guide, recipe, Pace())
    assert any(not torch.equal(value, before[name]) for name, value in stage.model.state_dict().items())
    assert all(torch.isfinite(value).all() for value in stage.model.state_dict().values())


def test_what_counts_more_is_counted_so_often() -> None:
    losses = torch.tensor([[[[1.0, 5.0]], [[1.0, 5.0]]]])
    lesions = torch.tensor([[[[False, True]]]])
    assert weighted_mean(losses, lesions, 1.0) == pytest.approx(3.0)
    assert weighted_mean(losses, lesions, 3.0) == pytest.approx(4.0)
    assert weighted_mean(losses, torch.zeros_like(lesions), 3.0) == pytest.approx(3.0)


def test_a_lesion_comes_with_its_mirror_image_in_the_same_words_and_noise(source: SectionSource) -> None:
    specs = [training_picture(source, 3, index)[0] for index in range(40)]
    latents = torch.arange(40.0)[:, None, None, None].expand(-1, 4, 20, 20)
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
    turned = encoded_mirrored(work / "mirrored.pt", pictures, autoencoder).float()
    shown = as_input(np.ascontiguousarray(pictures.pixels[:, :, ::-1]))
    with torch.no_grad():
        expected = autoencoder.encode(shown).latent_dist.mean
    chosen = [bool(spec.lesion) and spec.plane != "sagittal" for spec in pictures.specs]
    assert any(chosen)
    assert not turned[[not each for each in chosen]].any()
    # They are encoded in bfloat16 on some processors.
    assert (turned - expected)[chosen].abs().mean() < 0.02
    assert (turned.flip(3) - expected)[chosen].abs().mean() > 0.04


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
    latents, states = torch.randn((1, 4, 20, 20), generator=random), torch.randn((1, 77, 128), generator=random)
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
    made = pipeline("axial T1", height=160, width=160, num_inference_steps=2, guidance_scale=2.0, output_type="np")
    assert made.images.shape == (1, 160, 160, 3)


def test_latents_are_of_one_spread_and_lead_to_the_same_pictures() -> None:
    autoencoder = make_autoencoder(TINY).eval().requires_grad_(False)
    shown = torch.rand((2, 3, 160, 160), generator=torch.Generator().manual_seed(3)) * 2 - 1
    found = autoencoder.encode(shown).latent_dist
    before, made = found.mean, autoencoder.decode(found.mean).sample
    mean, spread = before.mean(dim=(0, 2, 3)), before.std(dim=(0, 2, 3))
    standardise(autoencoder, mean, spread)
    after = autoencoder.encode(shown).latent_dist
    assert torch.allclose(after.mean.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(after.mean.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4)
    assert torch.allclose(after.std, found.std / spread[:, None, None], rtol=1e-3)
    assert torch.allclose(autoencoder.decode(after.mean).sample, made, atol=1e-4)


def test_a_decoder_can_also_learn_to_keep_features() -> None:
    autoencoder = make_autoencoder(TINY)
    latents = torch.zeros((2, 4, 20, 20))
    shown = torch.rand((2, 3, 160, 160), generator=torch.Generator().manual_seed(3)) * 2 - 1

    def perceive(pictures: Tensor) -> list[Tensor]:
        return [normalize(avg_pool2d(pictures, size), dim=1) for size in (4, 8)]

    plain = decoding_losses(autoencoder, latents, shown)
    more = decoding_losses(autoencoder, latents, shown, perceive)
    assert set(more) - set(plain) == {"features"}
    assert more["features"].item() > 0
    made = autoencoder.decode(latents).sample.detach()
    assert decoding_losses(autoencoder, latents, made, perceive)["features"].item() == pytest.approx(0, abs=1e-6)


def test_without_the_archive_of_the_tower_nothing_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError):
        perception(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        train_main(["--work", str(tmp_path / "work"), "--towers", str(tmp_path)])
    assert stopped.value.code == 2
    assert "efficientnet_lite0" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_snapshot_says_what_it_is_of(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    assert snapshot(trained[0], TINY, tmp_path / "now") == "agreement, step 3"
    for path in (tmp_path / "now").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (trained[1] / path.relative_to(tmp_path / "now")).read_bytes()


def test_a_checkpoint_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "none" in capsys.readouterr().err
    broken = tmp_path / "broken" / "text_encoder" / "model.safetensors"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not weights")
    assert main(["--checkpoint", str(tmp_path / "broken"), "--out", str(tmp_path / "out")]) == 1
    assert "model.safetensors cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ids", [[3], [3, END + 1], [-1, 3], [[3, 4]]])
def test_rows_that_are_not_those_of_their_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(CheckpointError, match="are not those of"):
        filled({TABLE: torch.ones(2, 2), KEPT: torch.tensor(ids)})


def test_a_teacher_of_another_form_is_refused(tmp_path: Path) -> None:
    from mirage_training.mini_generator.distillation import distillation_stage

    other = make_unet(replace(TINY, unet_layers=2), guided=False)
    with pytest.raises((ValueError, RuntimeError)):
        distillation_stage(tmp_path, TINY, other)


def test_a_run_begins_with_the_networks_of_another(
    tmp_path: Path, trained: tuple[Path, Path], source: SectionSource
) -> None:
    recipe = continued(TINY)
    assert recipe.autoencoder.steps == 0
    begun = replace(recipe, pictures=TINY.pictures, diffusion=TINY.diffusion)
    paces = {stage: Pace(stop_at=0) for stage in ("decoder", "diffusion")}
    assert not train(tmp_path, begun, paces=paces, make_source=lambda: source, begin=trained[1])
    assert not train(tmp_path, begun, paces=paces, make_source=lambda: source, begin=trained[1], only="diffusion")
    before = AutoencoderKL.from_pretrained(trained[1] / "vae", local_files_only=True, torch_dtype=torch.float32)
    now = autoencoder_stage(tmp_path, begun).averaged()
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in before.state_dict().items())
    unet = UNet2DConditionModel.from_pretrained(trained[1] / "unet", local_files_only=True, torch_dtype=torch.float32)
    began = diffusion_stage(tmp_path, begun).averaged().state_dict()
    assert set(unet.state_dict()) - set(began) == {"time_embedding.cond_proj.weight"}
    assert all(torch.equal(value, unet.state_dict()[name]) for name, value in began.items())


def test_a_run_does_not_begin_with_networks_of_another_form(tmp_path: Path, trained: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="networks of another form"):
        diffusion_stage(tmp_path, replace(TINY, unet_layers=2), trained[1])


def test_one_stage_can_run_alone(tmp_path: Path, source: SectionSource) -> None:
    assert train(tmp_path, TINY, make_source=lambda: source, only="decoder")
    assert (tmp_path / "decoder.pt").exists()
    assert not (tmp_path / "diffusion.pt").exists()


def test_a_decoder_learns_while_its_encoder_stays(trained: tuple[Path, Path]) -> None:
    first, second = (torch.load(trained[0] / f"{name}.pt", weights_only=True) for name in ("autoencoder", "decoder"))
    changed = {name for name, value in first["average"].items() if not torch.equal(value, second["average"][name])}
    # The convolutions next to the latents have taken up their spread.
    assert {name for name in changed if name.startswith("encoder.")} == set()
    assert any(name.startswith("decoder.up_blocks") for name in changed)


def test_fine_detail_counts_where_it_is_not_on_which_pixel() -> None:
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., ::2] = 1
    moved = stripes.roll(1, dims=3)
    assert torch.allclose(texture(stripes), texture(moved), atol=0.1)
    assert texture(stripes).mean() > 10 * texture(torch.full((1, 3, 32, 32), 0.5)).mean()


def test_a_trajectory_has_the_points_that_steps_of_the_teacher_lead_to(trained: tuple[Path, Path]) -> None:
    made = travelled(trained[0] / "trajectories", None, None, TINY)
    assert made.points.shape == (SHARD, TINY.original_steps + 1, 4, 20, 20)
    assert TINY.trajectories == SHARD
    usual = (made.scales == TINY.served_guidance).float().mean()
    assert 0.2 < usual < 0.8
    assert made.scales.min() >= 1
    assert made.scales.max() <= TINY.most_guidance
    teacher = diffusion_stage(trained[0], TINY).averaged()
    times = step_timesteps(TINY.original_steps)
    assert (times[0], times[-2:], len(times)) == (999, [49, 0], 21)
    nothing = Prompts(load_text_tower()).nothing
    start, end = (torch.full((SHARD,), times[place]) for place in (5, 6))
    states, here = made.states.float(), made.points[:, 5].float()
    after = guided_step(teacher, here, start, end, states, nothing, made.scales, signal_shares())
    # They are kept in float16.
    assert (after - made.points[:, 6].float()).abs().mean() < 0.01


def test_trajectories_that_are_there_are_not_computed_again(tmp_path: Path) -> None:
    kept = {"points": torch.zeros(1), "states": torch.zeros(1), "scales": torch.zeros(1), "lesions": torch.zeros(1)}
    for number in (0, 1):
        torch.save(kept, tmp_path / f"{number:04d}.pt")
    found = travelled(tmp_path, None, None, replace(TINY, trajectories=2 * SHARD))
    assert len(found.points) == 2


def test_guidance_changes_neither_brightness_nor_contrast() -> None:
    random = torch.Generator().manual_seed(4)
    plain, guided = (torch.randn((2, 4, 8, 8), generator=random) for _ in range(2))
    found = matched(3 * guided + 1, plain)
    assert torch.allclose(found.mean(dim=(2, 3)), plain.mean(dim=(2, 3)), atol=1e-5)
    assert torch.allclose(found.std(dim=(2, 3)), plain.std(dim=(2, 3)), rtol=1e-4)
    assert torch.corrcoef(torch.stack([found[0, 0].ravel(), guided[0, 0].ravel()]))[0, 1] > 0.999


def test_half_of_the_points_are_those_that_four_steps_begin_at() -> None:
    places = drawn_points(np.random.default_rng(1), 4_000, 20)
    assert places.min() == 0
    assert places.max() == 19
    assert np.isin(places, [0, 5, 10, 15]).mean() == pytest.approx(0.5 + 0.5 * 0.2, abs=0.02)
