"""Rendering from the template (build environment): the same bytes again, and anatomy where the table says."""

import json

import numpy as np
import pytest

from mirage_atlas.demo.landmarks import PLANES, STRUCTURES, Structure
from mirage_atlas.demo.lesions import ZONES, draw_lesion, held_out, in_tissue, lesion_mask
from mirage_atlas.demo.plan import LEVEL_STEP_MM, Entry, plan
from mirage_atlas.demo.reader import DATA
from mirage_atlas.demo.render import Renderer, row
from mirage_atlas.demo.sections import coordinates, section
from mirage_atlas.demo.template import Template, load_template, voxel


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template()


@pytest.fixture(scope="module")
def entries(template: Template) -> tuple[Entry, ...]:
    return plan(template)


def test_a_sample_of_the_atlas_renders_to_the_same_bytes(template: Template, entries: tuple[Entry, ...]) -> None:
    renderer = Renderer(template)
    stored = {
        json.loads(line)["id"]: line for line in (DATA / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    }

    assert set(stored) == {entry.id for entry in entries}
    for entry in entries[::60]:
        data = renderer.file(entry.spec)
        assert (DATA / "images" / f"{entry.id}.webp").read_bytes() == data, entry.id
        assert stored[entry.id] == json.dumps(row(entry, data), ensure_ascii=False, sort_keys=True)


def test_the_template_is_symmetric_so_that_a_flip_only_changes_sides(template: Template) -> None:
    assert np.array_equal(template.t1, template.t1[::-1])


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.name)
def test_the_point_of_a_structure_lies_in_its_box_and_tissue(template: Template, structure: Structure) -> None:
    index = voxel(*structure.point)
    tissue = {
        "grey": template.grey,
        "white": template.white,
        "fluid": template.fluid,
        "brain": template.brain.astype(np.float32),
    }[structure.tissue]

    assert tissue[index] > 0.5
    for value, (low, high) in zip(structure.point, (structure.x, structure.y, structure.z), strict=True):
        assert low <= value <= high


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.name)
def test_every_level_that_is_said_to_cut_a_structure_has_its_tissue_there(
    template: Template, structure: Structure
) -> None:
    tissue = {
        "grey": template.grey,
        "white": template.white,
        "fluid": template.fluid,
        "brain": template.brain.astype(np.float32),
    }[structure.tissue]
    low = voxel(structure.x[0], structure.y[0], structure.z[0])
    high = voxel(structure.x[1], structure.y[1], structure.z[1])
    for axis, plane in ((0, "sagittal"), (1, "coronal"), (2, "axial")):
        for level in range(-100, 101, LEVEL_STEP_MM):
            signed = structure.x[0] > 0 and level < 0 and plane == "sagittal"
            if signed or not structure.crosses(plane, level):
                continue
            cut = [slice(a, b + 1) for a, b in zip(low, high, strict=True)]
            place = level - (-98, -134, -72)[axis]
            cut[axis] = slice(place, place + 1)
            assert (tissue[tuple(cut)] > 0.4).sum() >= 6, (plane, level)


def test_pixels_know_their_coordinates(template: Template) -> None:
    for plane, level in (("axial", 8), ("coronal", -20), ("sagittal", 28), ("sagittal", -28)):
        shown = section(template.t1, plane, level)
        x, y, z = coordinates(plane, level)
        for r, c in ((60, 70), (96, 96), (120, 110)):
            assert shown[r, c] == template.t1[voxel(x[r, c], y[r, c], z[r, c])]


def test_axial_sections_are_radiological_and_sagittal_ones_seen_from_their_side() -> None:
    assert coordinates("axial", 0)[0][96, 0] > coordinates("axial", 0)[0][96, -1]
    assert coordinates("axial", 0)[1][0, 96] > coordinates("axial", 0)[1][-1, 96]
    assert coordinates("sagittal", -20)[1][96, 0] > coordinates("sagittal", -20)[1][96, -1]
    assert coordinates("sagittal", 20)[1][96, 0] < coordinates("sagittal", 20)[1][96, -1]


def test_drawn_lesions_keep_to_their_side_tissue_and_kind_of_cell(template: Template) -> None:
    rng = np.random.default_rng(3)
    drawn = 0
    for index in range(300):
        plane, kept = PLANES[index % 3], index % 2 == 0
        level = (8, -40, 36)[index % 3]
        lesion = draw_lesion(template, rng, plane=plane, level_mm=level, sequence="flair", want_held_out=kept)
        if lesion is None:
            continue
        drawn += 1
        x = lesion.centre_mm[0]
        assert (lesion.side == "right") == (x > 0)
        assert abs(x) > lesion.axes_mm[0]
        assert held_out(lesion.centre_mm) == kept
        assert in_tissue(template, lesion.centre_mm)
        assert lesion_mask(lesion, plane, level).sum() > 20
    assert drawn > 150


def test_a_cell_is_held_out_alike_on_both_sides() -> None:
    rng = np.random.default_rng(4)
    shares = []
    for _ in range(2000):
        zone = ZONES[int(rng.integers(len(ZONES)))]
        x, y, z = (float(rng.uniform(*span)) for span in (zone.x, zone.y, zone.z))
        assert held_out((x, y, z)) == held_out((-x, y, z))
        shares.append(held_out((x, y, z)))
    assert 0.1 < np.mean(shares) < 0.4


def test_atlas_levels_and_lesions_are_all_of_the_held_out_kind(entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        assert entry.spec.level_mm % LEVEL_STEP_MM == 0
        if entry.spec.lesion:
            assert held_out(entry.spec.lesion.centre_mm)
