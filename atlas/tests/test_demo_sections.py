"""Sections of a trunk of known anatomy: orientation, aspect, level, side, window, map, and captions that say nothing else."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from mirage_atlas.demo.anatomy import structure
from mirage_atlas.demo.cross_sections import Cutter, Section
from mirage_atlas.demo.label_names import TOTAL, TOTAL_MR
from mirage_atlas.demo.landmarks import Plane
from mirage_atlas.demo.parts import Origin
from mirage_atlas.demo.section_records import Case, CaseSections, spread
from mirage_atlas.demo.volumes import from_dicom, from_nifti
from mirage_atlas.records import AtlasRecord
from tests.support import trunk

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
ORIGIN = Origin("CC-BY-3.0", "a source", "an author")


def sections_of(axes: str = "RAS", *, aorta: int = 45, modality: str = "ct") -> CaseSections:
    labels = trunk.label_map()
    volume = from_nifti(trunk.nifti(trunk.values(labels, aorta=aorta), axes), trunk.nifti(labels, axes), trunk.NAMES)
    case = Case("trunk", "CT of the trunk", modality, dict.fromkeys(PLANES, 8.0), ORIGIN, "a model")
    return CaseSections(case, volume)


@pytest.fixture(scope="module")
def cutter() -> Cutter:
    labels = trunk.label_map()
    return Cutter(from_nifti(trunk.nifti(trunk.values(labels), "RAS"), trunk.nifti(labels, "RAS"), trunk.NAMES))


@pytest.fixture(scope="module")
def records() -> list[AtlasRecord]:
    return [record for stream in sections_of().streams() for record in stream]


def middle(section: Section, label: str) -> tuple[float, float]:
    """Row and column of a structure's middle, as shares of the picture."""
    number = next(n for n, name in trunk.NAMES.items() if name == label)
    rows, columns = np.nonzero(section.map == number)
    return float(rows.mean()) / section.map.shape[0], float(columns.mean()) / section.map.shape[1]


def stored(record: AtlasRecord) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record.read_image())))


def test_the_patients_right_is_at_image_left_of_axial_and_coronal_sections(cutter: Cutter) -> None:
    for section in (cutter.cut("axial", 12), cutter.cut("coronal", 16)):
        assert middle(section, "liver")[1] < 0.4
        assert middle(section, "spleen")[1] > 0.7
    assert middle(cutter.cut("axial", 12), "stomach")[1] > 0.5


def test_the_front_and_the_head_are_up_and_the_front_of_a_sagittal_section_is_left(cutter: Cutter) -> None:
    axial, coronal, sagittal = cutter.cut("axial", 12), cutter.cut("coronal", 12), cutter.cut("sagittal", 10)

    assert middle(axial, "stomach")[0] < middle(axial, "vertebrae_T12")[0]
    assert middle(coronal, "lung_lower_lobe_right")[0] < middle(coronal, "liver")[0]
    assert middle(sagittal, "lung_lower_lobe_right")[0] < middle(sagittal, "liver")[0]
    assert middle(cutter.cut("sagittal", 21), "aorta")[1] < middle(cutter.cut("sagittal", 20), "spinal_cord")[1]


@pytest.mark.parametrize("plane", PLANES)
def test_pixels_are_square(plane: Plane, cutter: Cutter) -> None:
    section = cutter.cut(plane, 15)
    across, down = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
    height, width = section.values.shape

    assert section.map.shape == section.values.shape
    assert width * section.pixel_mm == pytest.approx(trunk.SHAPE[across] * trunk.SPACING[across], abs=1)
    assert height * section.pixel_mm == pytest.approx(trunk.SHAPE[down] * trunk.SPACING[down], abs=1)
    assert 320 <= max(width, height) <= 640


def test_the_level_is_that_of_the_body_not_of_the_process_behind_it(cutter: Cutter) -> None:
    # At index 10 the process of T11 is behind the body of T12.
    levels = {index: cutter.cut("axial", index).level for index in (5, 10, 17, 25, 33, 40)}

    assert levels == {5: "T12", 10: "T12", 17: "T11/T12", 25: "T11", 33: "T10/T11", 40: "T10"}
    assert cutter.cut("coronal", 10).level == ""


def test_a_sagittal_section_has_a_side(cutter: Cutter) -> None:
    sides = [cutter.cut("sagittal", index).side for index in (6, 19, 20, 33)]

    assert sides == ["right", "midline", "midline", "left"]
    assert cutter.cut("axial", 10).side == ""


def test_single_organs_have_the_patients_side(cutter: Cutter) -> None:
    found = {each.label: each.side for each in cutter.cut("axial", 14).found}

    assert found["liver"] == "right"
    assert found["spleen"] == "left"
    assert found["stomach"] == "left"
    assert found["vertebrae_T12"] == ""


@pytest.mark.parametrize(("aorta", "said"), [(45, "without contrast"), (300, "with contrast"), (100, None)])
def test_contrast_is_said_if_the_aorta_shows_it(aorta: int, said: str | None) -> None:
    record = sections_of(aorta=aorta).record("axial", 20, 0)

    assert ("contrast" in record.caption) == (said is not None)
    assert said is None or said in record.caption


def test_values_are_stored_in_hounsfield_units_with_the_shown_window_first(records: list[AtlasRecord]) -> None:
    assert {record.original_labels["window"] for record in records} == {"soft tissue", "lung", "bone"}
    for record in records:
        assert record.pixels is not None
        assert record.pixels.unit == "HU"
        assert record.pixels.windows[0].name == record.original_labels["window"]
        assert {each.name for each in record.pixels.windows} == {"soft tissue", "lung", "bone"}
        picture = stored(record)
        assert picture.dtype == np.uint16
        values = picture * record.pixels.slope + record.pixels.intercept
        assert values.min() >= -1024
        assert int(picture.max()).bit_length() <= record.pixels.bits
    axial = sections_of().record("axial", 16, 0)
    section = np.asarray(stored(axial)) - 1024
    assert np.median(section[section.shape[0] // 3, section.shape[1] // 4 : section.shape[1] // 3]) == 60, "the liver"


def test_a_lung_window_is_used_only_where_there_are_lungs(records: list[AtlasRecord]) -> None:
    for record in records:
        if record.original_labels["window"] == "lung":
            assert any("lung" in value for value in record.labels["structure"])


def test_the_map_of_a_record_has_the_structures_of_its_legend(records: list[AtlasRecord]) -> None:
    for record in records:
        assert record.regions is not None
        picture = Image.open(io.BytesIO(record.regions.png))
        assert picture.mode == "P"
        assert picture.size == Image.open(io.BytesIO(record.read_image())).size
        numbers = set(np.unique(np.asarray(picture))) - {0}
        assert numbers == {each.id for each in record.regions.legend}
        for each in record.regions.legend:
            assert structure(trunk.NAMES[each.id]) is not None
            assert re.fullmatch(r"#[0-9a-f]{6}", each.colour)


def test_captions_name_plane_level_and_nothing_that_the_map_does_not_show(records: list[AtlasRecord]) -> None:
    known = {found.name for label in TOTAL.values() if (found := structure(label)) is not None}
    for record in records:
        text = record.caption
        plane = record.labels["plane"][0]
        assert re.search({"axial": "axial|transverse", "coronal": "coronal"}.get(plane, "sagittal"), text.lower())
        shown = {each.name for each in record.regions.legend} if record.regions else set()
        said = {name for name in known if f"the {name}" in text}
        assert said <= shown | {f"vertebra {level}" for level in ("T10", "T11", "T12")}
        level = record.original_labels.get("level", "")
        assert all(name in text for name in level.split("/"))
        assert record.labels.get("side", ("",))[0].replace("midline", "mid") in text.lower()
        for side in re.findall(r"(liver|spleen|stomach) \(on the patient's (\w+)\)", text):
            assert side == (side[0], {"liver": "right"}.get(side[0], "left"))
        assert not re.search(r"normal|lesion|tumou?r|patholog|disease", text.lower())


def test_the_same_section_has_the_same_words_and_other_sections_have_others(records: list[AtlasRecord]) -> None:
    again = [record for stream in sections_of("LPS").streams() for record in stream]

    assert [record.caption for record in again] == [record.caption for record in records]
    assert [record.sha256 for record in again] == [record.sha256 for record in records]
    assert len({record.caption for record in records}) > 0.8 * len(records)


def test_a_record_says_case_place_licence_and_what_its_structures_are_also_called(records: list[AtlasRecord]) -> None:
    assert len({record.id for record in records}) == len(records) == len(sections_of())
    assert sorted(record.position for record in records) == list(range(1, len(records) + 1))
    for record in records:
        assert record.case_id == "trunk"
        assert (record.licence, record.labels["licence"]) == ("CC-BY-3.0", ("cc-by-3.0",))
        assert record.title.startswith("CT of the trunk")
        if "lower lobe of the left lung" in record.labels["structure"]:
            assert "lower lobe of the left lung" in record.keywords
    assert any("thoracic vertebra" in record.keywords for record in records)


def test_an_arm_next_to_the_trunk_is_not_a_shoulder() -> None:
    labels = trunk.label_map()
    labels[36:40, 10:20, 20:40] = 20
    names = {**trunk.NAMES, 20: "humerus_left"}
    volume = from_nifti(trunk.nifti(trunk.values(labels)), trunk.nifti(labels), names)
    case = Case("trunk", "CT of the trunk", "ct", {"axial": 8.0}, ORIGIN, "a model")
    record = CaseSections(case, volume).record("axial", 30, 0)

    assert "left humerus" in record.labels["structure"]
    assert "shoulder" not in record.labels["body_part"]
    assert "chest" in record.labels["body_part"]


def test_nothing_of_a_dicom_header_is_in_a_record() -> None:
    labels = trunk.label_map()
    volume = from_dicom(trunk.dicom_series(trunk.values(labels)), trunk.nifti(labels), trunk.NAMES)
    case = Case("trunk", "CT of the trunk", "ct", {"axial": 20.0}, ORIGIN, "a model")
    records = [record for stream in CaseSections(case, volume).streams() for record in stream]

    assert records
    for record in records:
        assert not re.search("secret|2020", f"{record} {record.read_image()!r} {record.regions}".lower())


def test_other_volumes_have_no_unit_and_one_window() -> None:
    record = sections_of(modality="mr").record("axial", 20, 0)

    assert record.pixels is not None
    assert record.pixels.unit == ""
    assert [each.name for each in record.pixels.windows] == ["automatic"]
    assert "window" not in record.caption
    assert "contrast" not in record.caption


def test_the_first_sections_are_spread_over_the_whole() -> None:
    assert spread(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    for count in (0, 1, 5, 67):
        assert sorted(spread(count)) == list(range(count))


def test_names_are_anatomical_terms_with_everyday_words() -> None:
    labels = (*TOTAL.values(), *TOTAL_MR.values())
    named = {label: found for label in labels if (found := structure(label)) is not None}

    assert named["kidney_left"].name == "left kidney"
    assert (named["adrenal_gland_right"].name, named["adrenal_gland_right"].everyday) == (
        "right suprarenal gland",
        "adrenal gland",
    )
    assert named["lung_upper_lobe_left"].name == "upper lobe of the left lung"
    assert named["vertebrae_T8"].everyday == "thoracic vertebra"
    assert named["rib_right_11"].name == "right rib 11"
    assert structure("kidney_cyst_left") is None, "a finding is not anatomy"
    assert structure("carpal") is None
    assert all("{" not in each.name + each.everyday for each in named.values() if each)
