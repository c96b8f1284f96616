"""How the mini CLIP is measured: what counts as right, what chance gives."""

import numpy as np
import pytest

from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_clip.claims import Claim, Shown, image_table
from mirage_training.mini_clip.evaluate import Tally, level_near, satisfied
from mirage_training.mini_clip.natural import auroc

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


def test_the_area_under_the_curve_is_the_chance_of_the_right_order() -> None:
    assert auroc(np.array([0.9, 0.4], dtype=np.float32), np.array([0.5, 0.1], dtype=np.float32)) == 0.75
