"""How the mini CLIP is measured: what counts as right, what chance gives, where the match thresholds come from."""

import numpy as np
import pytest

from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_clip.calibrate import calibrated, top_cosines
from mirage_training.mini_clip.claims import Claim, Shown, image_table
from mirage_training.mini_clip.evaluate import Tally, level_near, satisfied

LESION = Lesion("right", "thalamus", 12, "hypointense", (11.0, -18.0, 8.0), (6.0, 6.0, 6.0))
SPECS = [
    SectionSpec("axial", 8, "t1"),
    SectionSpec("axial", 20, "t1"),
    SectionSpec("axial", 8, "t1", LESION),
    SectionSpec("sagittal", -28, "t2"),
    SectionSpec("sagittal", 28, "t2"),
]


@pytest.fixture
def table():
    return image_table([Shown(spec) for spec in SPECS])


def test_every_claimed_attribute_must_be_right(table) -> None:
    assert satisfied(Claim(plane="axial", sequence="t1"), table).tolist() == [True, True, True, False, False]
    assert satisfied(Claim(sequence="t2", side="left"), table).tolist() == [False, False, False, True, False]
    assert satisfied(Claim(lesion=True, lobe="thalamus", side="right"), table).tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert not satisfied(Claim(lesion=True, signal="hyperintense"), table).any()


def test_a_level_counts_within_ten_millimetres_in_its_plane(table) -> None:
    assert level_near(table, SectionSpec("axial", 12, "flair")).tolist() == [True, True, True, False, False]
    assert level_near(table, SectionSpec("axial", -4, "flair")).tolist() == [False, False, False, False, False]
    assert level_near(table, SectionSpec("sagittal", -20, "t1")).tolist() == [False, False, False, True, True]


def test_chance_is_the_share_of_pictures_that_would_be_right() -> None:
    tally = Tally()
    tally.add("figure", np.array([True, False, False, False]), 0)
    tally.add("figure", np.array([True, True, False, False]), 3)

    assert tally.figures() == {"figure": {"right": 0.5, "chance": 0.375, "queries": 2}}


def test_thresholds_let_few_off_atlas_queries_pass() -> None:
    rng = np.random.default_rng(0)
    inside = rng.normal(0.6, 0.08, 2000).astype(np.float32)
    outside = rng.normal(0.3, 0.1, 2000).astype(np.float32)

    found = calibrated(inside, outside)

    assert found.weak < found.good
    assert found.measured["off_atlas_good"] < 0.04
    assert found.measured["in_atlas_weak_or_good"] > 0.95
    assert found.measured["auroc"] > 0.95


def test_thresholds_between_kinds_that_lie_far_apart_stay_near_the_atlas() -> None:
    rng = np.random.default_rng(1)
    inside = rng.normal(0.8, 0.02, 1000).astype(np.float32)
    outside = rng.normal(0.0, 0.02, 1000).astype(np.float32)

    found = calibrated(inside, outside)

    assert found.good > 0.7
    assert found.measured["in_atlas_good"] > 0.9
    assert found.measured["off_atlas_weak_or_good"] == 0.0


def test_the_top_cosine_is_that_of_the_closest_picture() -> None:
    gallery = np.eye(3, dtype=np.float32)
    queries = np.array([[0.0, 0.8, 0.6], [1.0, 0.0, 0.0]], dtype=np.float32)

    assert top_cosines(queries, gallery).tolist() == pytest.approx([0.8, 1.0])
