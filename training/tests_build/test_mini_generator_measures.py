"""How the mini generator is measured: what the judge sees in real sections, what counts as a copy, and what a bundle gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_atlas.demo.lesions import held_out
from mirage_atlas.demo.plan import LEVEL_STEP_MM
from mirage_atlas.demo.template import load_template
from mirage_models.paths import mini_clip_bundle
from mirage_training.mini_clip.batches import SectionSource
from mirage_training.mini_clip.encoders import BundleEncoder
from mirage_training.mini_generator.detail import fine_energy, frechet_distance
from mirage_training.mini_generator.evaluate import Asked, held_out_prompts, main, margins, nearest, share
from mirage_training.mini_generator.judge import Judge, even_limit
from mirage_training.mini_generator.pictures import training_picture
from mirage_training.mini_generator.sheet import contact_sheet


@pytest.fixture(scope="module")
def source() -> SectionSource:
    return SectionSource(load_template())


@pytest.fixture(scope="module")
def asked(source: SectionSource) -> list[Asked]:
    return held_out_prompts(source, 40)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(BundleEncoder(mini_clip_bundle(), threads=1))


def test_prompts_are_of_sections_that_training_never_saw(asked: list[Asked]) -> None:
    lesions = [each.spec.lesion for each in asked if each.spec.lesion]
    assert all(each.spec.level_mm % LEVEL_STEP_MM == 0 for each in asked)
    assert len(lesions) == 20
    assert all(held_out(lesion.centre_mm) for lesion in lesions)


def test_the_judge_is_right_about_real_sections_and_not_about_exchanged_ones(judge: Judge, asked: list[Asked]) -> None:
    pictures = [Image.fromarray(each.real).convert("RGB") for each in asked]
    specs = [each.spec for each in asked]
    judged = judge.look(pictures, specs)
    assert judged.plane.mean() > 0.95
    assert judged.contrast.mean() > 0.9
    assert judged.side.mean() > 0.8
    sick = np.array([spec.lesion is not None for spec in specs])
    assert judged.lesion[sick].mean() > 0.6
    assert judged.lesion[~sick].mean() < 0.2
    texts = judge.texts([each.caption for each in asked])
    assert margins(judged.vectors, texts).mean() > 0.2
    exchanged = judge.look(pictures[7:] + pictures[:7], specs)
    assert exchanged.plane.mean() < 0.8
    assert abs(float(margins(exchanged.vectors, texts).mean())) < 0.15


def test_an_even_limit_misses_as_many_lesions_as_it_invents() -> None:
    rng = np.random.default_rng(4)
    sick = np.arange(2000) % 2 == 1
    margins_seen = (rng.standard_normal(2000) + np.where(sick, 1.5, -2.5)).astype(np.float32)
    limit = even_limit(margins_seen, sick)
    missed, invented = (margins_seen[sick] <= limit).mean(), (margins_seen[~sick] > limit).mean()
    assert limit == pytest.approx(-0.5, abs=0.2)
    assert missed == pytest.approx(invented, abs=0.002)
    assert 0.01 < missed < 0.04


def test_a_copy_of_a_training_picture_is_at_no_distance(source: SectionSource) -> None:
    known = np.stack([training_picture(source, 3, index)[1] for index in range(12)])
    noise = np.random.default_rng(0).integers(0, 256, known[:1].shape, dtype=np.uint8)
    distances = nearest(np.concatenate([known[[4, 7]], noise]), known)
    assert distances[:2] == pytest.approx(0, abs=2e-3)
    assert distances[2] > 0.1


def test_a_share_comes_with_its_interval() -> None:
    found = share(np.array([True] * 9 + [False]))
    assert found["right"] == 0.9
    assert found["of"] == 10
    assert found["interval"] == [0.5958, 0.9821]


def test_every_image_of_a_sheet_is_marked() -> None:
    images = np.zeros((7, 128, 128, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet(images, ["axial T1"] * 7))
    amber = (sheet == (255, 191, 0)).all(axis=-1)
    assert amber.sum() > 7 * 128 * 4
    assert sheet.shape[0] > 2 * 128


@pytest.mark.parametrize("folder", ["", "manifest"])
def test_what_is_no_bundle_is_an_error(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if folder:
        (tmp_path / "manifest.json").write_text(json.dumps({"task": "generate"}), "utf-8")
    assert main(["--bundle", str(tmp_path), "--work", str(tmp_path / "work")]) == 1
    assert "error:" in capsys.readouterr().err


def test_fine_detail_is_what_pixels_next_to_each_other_differ_by() -> None:
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (4, 32, 32), dtype=np.uint8)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (4, 4, 4), dtype=np.uint8), 8, axis=1), 8, axis=2)
    assert fine_energy(np.full((2, 32, 32), 9, dtype=np.uint8)) == pytest.approx(0, abs=1e-9)
    assert fine_energy(rough) > 5 * fine_energy(smooth) > 0
    assert fine_energy((rough // 2).astype(np.uint8)) == pytest.approx(fine_energy(rough) / 4, rel=0.05)


def test_frechets_distance_is_that_of_normal_distributions() -> None:
    rng = np.random.default_rng(1)
    some = rng.standard_normal((20_000, 3)).astype(np.float32)
    assert frechet_distance(some, some) == pytest.approx(0, abs=1e-6)
    moved = some * np.float32(2) + np.array([3, 0, 0], dtype=np.float32)
    # Means 3 apart, and spreads of 1 and 2 in each of three directions.
    assert frechet_distance(some, moved) == pytest.approx(9 + 3, rel=0.03)
