"""The demonstration as a whole, on archives of a local folder: parts take turns, and what is missing leaves the others there."""

import gzip
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirage_atlas.demo import kidneys
from mirage_atlas.demo.archives import gunzip
from mirage_atlas.demo.contents import CONTENTS, Examination
from mirage_atlas.demo.demonstration import Demonstration, brain_rows
from mirage_atlas.demo.parts import Origin, Part
from mirage_atlas.demo.pictures import Gallery, Picture, record
from mirage_atlas.demo.section_records import Case
from mirage_atlas.demo.sources import BRAIN, Source, sources_of
from mirage_atlas.demo.volumes import from_nifti
from mirage_atlas.records import FACETS, AtlasRecord, BadRow
from tests.support import trunk
from tests.support.package_files import sdist, wheel

ORIGIN = Origin("CC0-1.0", "a source", "an author")
PICTURE = Picture("a-picture", "p/a.png", "A picture", "A picture of an eye.", {"modality": ("fundus",)}, ORIGIN)
CASE = Case("trunk", "CT of the trunk", "ct", {"axial": 8.0, "coronal": 20.0}, ORIGIN, "a model")


def png(size: tuple[int, int] = (64, 48), colour: str = "grey") -> bytes:
    image = Image.new("RGB", size, colour)
    image.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def source(name: str, path: Path) -> Source:
    data = path.read_bytes()
    return Source(name, "1.0", path.name, hashlib.sha256(data).hexdigest(), len(data), f"what is in {name}")


@pytest.fixture
def sources(tmp_path: Path) -> list[Source]:
    labels = trunk.label_map()
    volume = {"v/ct.nii.gz": gzip.compress(trunk.nifti(trunk.values(labels), "LAS"))}
    volume["v/map.nii.gz"] = gzip.compress(trunk.nifti(labels, "LAS"))
    return [
        source("volumes", sdist(tmp_path / "volumes-1.0.tar.gz", volume)),
        source("pictures", wheel(tmp_path / "pictures-1.0-py3-none-any.whl", {"p/a.png": png()})),
    ]


def contents() -> dict[str, tuple[Part, ...]]:
    return {
        "volumes": (
            Examination(
                CASE,
                ("v/ct.nii.gz", "v/map.nii.gz"),
                lambda data: from_nifti(gunzip(data[0]), gunzip(data[1]), trunk.NAMES),
            ),
        ),
        "pictures": (Gallery((PICTURE,)),),
    }


def demonstration(sources: list[Source], folder: Path, **options: Any) -> Demonstration:
    return Demonstration(sources, [folder], contents=contents(), offline=True, **options)


def test_all_parts_are_read_and_counted_and_none_is_empty(sources: list[Source], tmp_path: Path) -> None:
    atlas = demonstration(sources, tmp_path)
    rows = [row for row in atlas.read() if isinstance(row, AtlasRecord)]

    assert len({row.id for row in rows}) == len(rows) == atlas.total
    assert atlas.done == [BRAIN, "volumes", "pictures"]
    assert atlas.missing == {}
    assert {row.labels["modality"][0] for row in rows} == {"mr", "ct", "fundus"}
    assert all(row.title and row.caption and row.licence and row.source and row.attribution for row in rows)


def test_parts_take_turns(sources: list[Source], tmp_path: Path) -> None:
    rows = demonstration(sources[:1], tmp_path, done=[BRAIN]).read()
    planes = [row.labels["plane"][0] for row in rows if isinstance(row, AtlasRecord)]

    assert planes[:6] == ["axial", "coronal"] * 3
    assert planes.count("axial") > planes.count("coronal")


def test_a_missing_archive_leaves_the_others_and_is_named(sources: list[Source], tmp_path: Path) -> None:
    (tmp_path / sources[0].file).unlink()
    said: list[dict[str, str]] = []
    atlas: Demonstration = demonstration(sources, tmp_path, report=lambda: said.append(dict(atlas.missing)))
    rows = [row for row in atlas.read() if isinstance(row, AtlasRecord)]

    assert atlas.done == [BRAIN, "pictures"]
    assert list(atlas.missing) == ["what is in volumes"]
    assert atlas.missing == said[-1]
    assert len(rows) == atlas.total
    assert any(row.id == "a-picture" for row in rows)


def test_an_archive_without_its_files_leaves_the_others_and_is_named(sources: list[Source], tmp_path: Path) -> None:
    sources[0] = source("volumes", sdist(tmp_path / "volumes-1.0.tar.gz", {"v/ct.nii.gz": gzip.compress(b"noise")}))
    atlas = demonstration(sources, tmp_path, done=[BRAIN])

    assert [row.id for row in atlas.read() if isinstance(row, AtlasRecord)] == ["a-picture"]
    assert atlas.missing == {"what is in volumes": "the archive has no v/map.nii.gz"}

    both = {"v/ct.nii.gz": gzip.compress(b"noise"), "v/map.nii.gz": gzip.compress(b"noise")}
    sources[0] = source("volumes", sdist(tmp_path / "volumes-1.0.tar.gz", both))
    atlas = demonstration(sources, tmp_path, done=[BRAIN])
    assert [row.id for row in atlas.read() if isinstance(row, AtlasRecord)] == ["a-picture"]
    assert atlas.missing == {"what is in volumes": "its files cannot be read"}


def test_what_is_stored_already_is_not_read_again(sources: list[Source], tmp_path: Path) -> None:
    atlas = demonstration(sources, tmp_path, done=[BRAIN, "volumes"])

    assert [row.id for row in atlas.read() if isinstance(row, AtlasRecord)] == ["a-picture"]
    assert atlas.done == ["pictures"]


def test_the_brain_is_at_most_500_records_of_all_planes_contrasts_and_both_sides() -> None:
    rows = [row for row in brain_rows() if isinstance(row, AtlasRecord)]

    assert 250 <= len(rows) <= 500
    for facet, values in (("plane", 3), ("sequence", 3), ("side", 3)):
        assert len({row.labels[facet][0] for row in rows if facet in row.labels}) == values
    lesions = [row for row in rows if row.labels["finding"] == ("simulated lesion",)]
    assert len({row.case_id for row in lesions}) * 9 == len(lesions)
    assert all("simulated" in row.title for row in lesions)
    assert any("thalami" in row.labels["structure"] for row in rows if "structure" in row.labels)


def test_every_part_that_is_fetched_is_known_and_says_where_it_is_from() -> None:
    assert {each.name for each in sources_of("full")} <= CONTENTS.keys()
    for part in (part for parts in CONTENTS.values() for part in parts):
        assert part.files
        if isinstance(part, Gallery):
            for each in part.pictures:
                assert set(each.labels) <= set(FACETS)
                assert each.title
                assert each.caption.endswith(".")
                assert "" not in (each.origin.licence, each.origin.source, each.origin.attribution)
                assert not any(name in each.file for name in ("693_", "US1"))


def test_a_picture_is_cut_turned_and_made_smaller() -> None:
    picture = Picture("x", "x", "X", "X.", {}, ORIGIN, keep=(0.0, 0.0, 0.5, 1.0), upturned=True, mirrored=True)
    made = record(picture, png((4000, 3000)))

    assert isinstance(made, AtlasRecord)
    image = Image.open(io.BytesIO(made.read_image()))
    assert image.size == (683, 1024)
    assert image.getpixel((300, 900)) == (255, 0, 0), "the upper half is below"
    assert image.getpixel((300, 100)) != (255, 0, 0)


def test_a_picture_that_cannot_be_decoded_is_a_bad_row() -> None:
    row = record(PICTURE, b"noise")

    assert isinstance(row, BadRow)
    assert row.code == "IMAGE_FORMAT_UNSUPPORTED"


def molli(**changes: object) -> bytes:
    array = np.arange(64 * 64 * 2 * 8, dtype=np.int16).reshape(64, 64, 2, 8)
    times = [118.0, 201.0, 1118.0, 1201.0, 2118.0, 2201.0, 3118.0, 4118.0]
    return pickle.dumps({"array": array, "TI": times, "pixel_spacing": [1.5, 1.5], **changes}, protocol=5)


def test_arrays_of_a_pickle_are_read() -> None:
    opened = kidneys.KidneySeries(("x",)).open([molli()])
    (rows,) = opened.streams
    records = [row for row in rows if isinstance(row, AtlasRecord)]

    assert len(records) == opened.count == 6
    assert len({row.sha256 for row in records}) == 6
    assert np.asarray(Image.open(io.BytesIO(records[0].read_image()))).dtype == np.uint16


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        kidneys.read_arrays(molli(array=Hostile(tmp_path / "ran")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data", [b"", b"noise", pickle.dumps([1]), molli(TI=[1.0]), molli(array=np.zeros((2, 2), np.int16))]
)
def test_another_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="pickle"):
        kidneys.KidneySeries(("x",)).open([data])
