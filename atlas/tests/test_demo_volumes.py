"""Volumes: the same patient whatever the axes of the file; islands of a map are dropped; what does not fit is refused."""

import gzip

import numpy as np
import pytest

from mirage_atlas.demo.parts import Origin
from mirage_atlas.demo.plain_volumes import PlainVolume
from mirage_atlas.demo.volumes import Volume, from_dicom, from_nifti, from_nrrd, from_series, keep_connected
from mirage_atlas.records import AtlasRecord
from tests.support import trunk

AXES = ("LPS", "RAS", "LAS", "RPI", "SLP", "PIR")


def read(axes: str = "LPS") -> Volume:
    labels = trunk.label_map()
    return from_nifti(trunk.nifti(trunk.values(labels), axes), trunk.nifti(labels, axes), trunk.NAMES)


@pytest.mark.parametrize("axes", AXES)
def test_the_axes_of_a_file_do_not_matter(axes: str) -> None:
    volume = read(axes)

    assert volume.values.dtype == np.int16
    assert volume.map.dtype == np.uint8
    assert np.array_equal(volume.map, trunk.label_map())
    assert np.array_equal(volume.values, trunk.values(trunk.label_map()))
    assert volume.spacing == pytest.approx(trunk.SPACING)


def test_values_are_rescaled() -> None:
    labels = trunk.label_map()
    stored = (trunk.values(labels) + 1024).astype(np.int16)
    volume = from_nifti(trunk.nifti(stored, slope=1.0, inter=-1024.0), trunk.nifti(labels), trunk.NAMES)

    assert np.array_equal(volume.values, trunk.values(labels))


def test_a_dicom_series_in_any_order_is_the_same_volume() -> None:
    labels = trunk.label_map()
    volume = from_dicom(trunk.dicom_series(trunk.values(labels)), trunk.nifti(labels, "RAS"), trunk.NAMES)

    assert np.array_equal(volume.values, trunk.values(labels))
    assert np.array_equal(volume.map, labels)


def test_a_series_with_a_gap_is_refused() -> None:
    labels = trunk.label_map()
    with pytest.raises(ValueError, match="evenly"):
        from_dicom(trunk.dicom_series(trunk.values(labels))[1:], trunk.nifti(labels), trunk.NAMES)


def test_a_map_that_does_not_fit_the_image_is_refused() -> None:
    labels = trunk.label_map()
    image = trunk.nifti(trunk.values(labels))

    with pytest.raises(ValueError, match="does not fit"):
        from_nifti(image, trunk.nifti(labels[:-1]), trunk.NAMES)
    with pytest.raises(ValueError, match="does not fit"):
        from_nifti(image, trunk.nifti(labels, moved_mm=30.0), trunk.NAMES)


def test_a_map_with_other_numbers_is_refused() -> None:
    labels = trunk.label_map().astype(np.int16)
    image = trunk.nifti(trunk.values(trunk.label_map()))

    for odd in (-1, 256):
        labels[0, 0, 0] = odd
        with pytest.raises(ValueError, match="outside of 0 to 255"):
            from_nifti(image, trunk.nifti(labels), trunk.NAMES)


@pytest.mark.parametrize("data", [b"", b"noise" * 100])
def test_a_file_that_is_not_nifti_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="NIfTI"):
        from_nifti(data, trunk.nifti(trunk.label_map()), trunk.NAMES)


def test_labels_without_a_name_are_left_out() -> None:
    labels = trunk.label_map()
    volume = from_nifti(trunk.nifti(trunk.values(labels)), trunk.nifti(labels), {1: "liver"})

    assert set(np.unique(volume.map)) == {0, 1}


def test_islands_are_dropped_and_large_parts_are_kept() -> None:
    labels = trunk.label_map()
    island = labels.copy()
    island[30:32, 2:4, 30:32] = 1
    island[2:10, 22:28, 40:48] = 2

    kept = keep_connected(island, trunk.SPACING)

    assert not (kept[30:32, 2:4, 30:32] == 1).any(), "a speck of liver far away"
    assert (kept[2:10, 22:28, 40:48] == 2).all(), "a part that is half as large as the spleen"
    assert np.array_equal(kept == 1, labels == 1)


def test_islands_are_found_on_a_coarse_grid_of_fine_voxels() -> None:
    labels = np.zeros((120, 120, 40), np.uint8)
    labels[10:60, 10:60, 5:35] = 3
    labels[100:112, 100:112, 10:20] = 3
    kept = keep_connected(labels, (0.7, 0.7, 2.5))

    assert (kept[10:60, 10:60, 5:35] == 3).all()
    assert not kept[100:112, 100:112, 10:20].any()


def test_parts_that_meet_only_at_the_end_of_a_long_way_are_one() -> None:
    labels = np.zeros((9, 41, 3), np.uint8)
    for column in range(0, 41, 2):
        labels[:, column, 1] = 5
    for turn, column in enumerate(range(1, 41, 2)):
        labels[0 if turn % 2 else 8, column, 1] = 5

    assert np.array_equal(keep_connected(labels, (4.0, 4.0, 4.0)), labels)


def nrrd(values: np.ndarray, **fields: str) -> bytes:
    """A file of values [x, y, z], of which y is stored from the back to the front."""
    stated = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, values.shape)),
        "space directions": "(2,0,0) (0,-3,0) (0,0,5)",
        "endian": "little",
        "encoding": "gzip",
        "space origin": "(-10,10,-7)",
    }
    head = "\n".join(f"{name}: {value}" for name, value in {**stated, **fields}.items())
    return b"NRRD0004\n# a comment\n" + head.encode() + b"\n\n" + gzip.compress(values[:, ::-1].tobytes(order="F"))


VALUES = np.arange(4 * 5 * 6, dtype="<i2").reshape(4, 5, 6)


def test_an_nrrd_file_is_turned_to_the_same_axes() -> None:
    volume = from_nrrd(nrrd(VALUES))

    assert np.array_equal(volume.values, VALUES)
    assert volume.spacing == (2.0, 3.0, 5.0)
    assert not volume.map.any()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NRRD0004\n\n",
        nrrd(VALUES, type="float"),
        nrrd(VALUES, space="right-anterior-superior"),
        nrrd(VALUES, encoding="raw"),
        nrrd(VALUES, sizes="4 5 7"),
        nrrd(VALUES, sizes="4 30"),
        nrrd(VALUES)[:-20],
    ],
)
def test_an_nrrd_file_of_another_form_or_size_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"NRRD|damaged"):
        from_nrrd(data)


def test_a_series_without_a_map_has_the_same_values() -> None:
    values = trunk.values(trunk.label_map())
    volume = from_series(trunk.dicom_series(values))

    assert np.array_equal(volume.values, values)
    assert not volume.map.any()


def test_a_volume_without_a_map_gives_each_section_once_and_says_where_it_is() -> None:
    labels: dict[str, tuple[str, ...]] = {"modality": ("ct",), "body_part": ("chest",)}
    origin = Origin("MIT", "a test", "nobody")
    part = PlainVolume(
        "plain", "CT of the chest", ", for a test", "axial", "below", labels, origin, ("a",), lambda data: from_nrrd(data[0]),
        left_out=(1, 2), windows=("soft tissue", "lung"),
    )  # fmt: skip
    opened = part.open([nrrd(np.arange(20 * 20 * 9, dtype="<i2").reshape(20, 20, 9))])
    rows = [row for row in opened.streams[0] if isinstance(row, AtlasRecord)]

    assert opened.count == len(rows) == 6
    assert sorted(row.position for row in rows) == [1, 2, 3, 4, 5, 6]
    first = next(row for row in rows if row.position == 1)
    assert first.caption == (
        "Axial CT of the chest, soft tissue window, for a test. Section 1 of 6, counted from below."
    )
    assert first.labels["plane"] == ("axial",)
    assert {row.pixels.windows[0].name for row in rows if row.pixels} == {"soft tissue", "lung"}
    assert len({row.sha256 for row in rows}) == 6
