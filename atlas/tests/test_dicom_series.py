"""Sections of a DICOM series: their order, the one that is shown, and the functional groups that describe it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mirage_atlas.records import AtlasRecord

from .dicom_files import read, records, write_dicom

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def write_series(path: Path, places: list[float], *, series: str = "1.2.9", first: int = 1, **fields: Any) -> None:
    """Sections at these places along the normal, numbered in the order of the list."""
    for number, place in enumerate(places, start=first):
        write_dicom(
            path / f"{number:03}.dcm",
            **{
                "SeriesInstanceUID": series,
                "SOPInstanceUID": f"{series}.{number}",
                "InstanceNumber": number,
                "Modality": "CT",
                "ImageOrientationPatient": AXIAL,
                "ImagePositionPatient": [0, 0, place],
                "shade": number,
                **fields,
            },
        )


def shown(record: AtlasRecord, folder: Path) -> str:
    """The name of the file whose picture a record has."""
    same = []
    for file in sorted(folder.rglob("*.dcm")):
        alone = records(read(file))[0]
        if alone.read_image() == record.read_image():
            same.append(file.name)
    assert len(same) == 1
    return same[0]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sections_are_ordered_by_their_position(tmp_path: Path, syntax: UID) -> None:
    # Numbered as they were acquired: every other one first.
    write_series(tmp_path, [0, 10, 20, 5, 15], syntax=syntax)
    (record,) = records(read(tmp_path))
    assert record.caption == "Axial CT, section 3 of 5."
    assert record.original_labels["slice"] == "3 of 5"
    assert shown(record, tmp_path) == "002.dcm"


def test_a_localizer_in_the_series_does_not_count(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 0, 0], ImageOrientationPatient=SAGITTAL)
    write_series(tmp_path, [0, 10, 20, 30, 40], first=4)
    (record,) = records(read(tmp_path))
    assert record.caption == "Axial CT, section 3 of 5."
    assert shown(record, tmp_path) == "006.dcm"


def test_times_and_echoes_at_one_position_are_one_section(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 10, 20, 0, 10, 20])
    (record,) = records(read(tmp_path))
    assert record.caption == "Axial CT, section 2 of 3."
    assert shown(record, tmp_path) == "002.dcm"


def test_radial_planes_and_files_without_positions_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, angle in enumerate((0.1, 0.5, 0.9, 1.3, 1.7), start=1):
        write_series(
            tmp_path / "radial",
            [0],
            first=number,
            ImageOrientationPatient=[float(np.cos(angle)), float(np.sin(angle)), 0, 0, 0, -1],
        )
    write_series(tmp_path / "plain", [0, 0, 0], series="1.2.10", ImagePositionPatient=None)
    plain, radial = records(read(tmp_path))
    assert radial.caption.endswith("section 3 of 5.")
    assert plain.caption.endswith("section 2 of 3.")


def test_a_series_that_has_grown_has_the_same_id(tmp_path: Path) -> None:
    write_series(tmp_path, [0, 10, 20])
    (before,) = records(read(tmp_path))
    write_series(tmp_path, [30, 40, 50, 60], first=4)
    (after,) = records(read(tmp_path))
    assert before.id == after.id
    assert before.read_image() != after.read_image()
    assert after.caption == "Axial CT, section 4 of 7."
    # Where earlier versions put it, whichever section that was.
    assert len(after.former_ids) == 7
    assert set(before.former_ids) <= set(after.former_ids)
    assert all(each.startswith(f"{after.id}-") for each in after.former_ids)


# Functional groups


def sequence(**fields: Any) -> Sequence:
    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return Sequence([item])


def enhanced(places: list[float], *, shared: dict[str, Sequence] | None = None, **own: Any) -> dict[str, Any]:
    """Headers of a file with functional groups and a frame at each place along the normal of sagittal planes."""
    items = []
    for place in places:
        item = Dataset()
        item.PlanePositionSequence = sequence(ImagePositionPatient=[place, 0, 0])
        for name, value in own.items():
            setattr(item, name, value)
        items.append(item)
    common = Dataset()
    common.PlaneOrientationSequence = sequence(ImageOrientationPatient=SAGITTAL)
    for name, value in (shared or {}).items():
        setattr(common, name, value)
    return {
        "NumberOfFrames": len(places),
        "PerFrameFunctionalGroupsSequence": Sequence(items),
        "SharedFunctionalGroupsSequence": Sequence([common]),
    }


def test_an_enhanced_file_is_described_by_the_functional_groups_of_the_frame_shown(tmp_path: Path) -> None:
    region = sequence(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Doe's brain")
    write_dicom(
        tmp_path / "a.dcm",
        Modality="MR",
        SeriesInstanceUID="1.2.3",
        WindowCenter=500,
        WindowWidth=1000,
        # Frames come in any order: the one in the middle is the fourth.
        **enhanced(
            [0, 40, 10, 20, 30],
            shared={
                "FrameAnatomySequence": sequence(FrameLaterality="R", AnatomicRegionSequence=region),
                "MRTimingAndRelatedParametersSequence": sequence(RepetitionTime=4000),
            },
            MREchoSequence=sequence(EffectiveEchoTime=90),
        ),
    )
    (record,) = records(read(tmp_path))
    assert record.caption == "Sagittal T2 MRI of the right brain, section 3 of 5."
    assert record.labels == {
        "modality": ("mr",),
        "plane": ("sagittal",),
        "side": ("right",),
        "sequence": ("t2",),
        "body_part": ("brain",),
        "licence": ("not stated",),
    }
    from mirage_core.imaging import clean_image

    data = (tmp_path / "a.dcm").read_bytes()
    fourth, third = (clean_image(data, frame=frame) for frame in (3, 2))
    assert record.read_image() == (fourth.pixels_data or fourth.data)
    assert record.read_image() != (third.pixels_data or third.data)


def test_a_side_without_a_body_part_is_said(tmp_path: Path) -> None:
    shared = {"FrameAnatomySequence": sequence(FrameLaterality="R")}
    write_dicom(tmp_path / "a.dcm", Modality="MR", SeriesInstanceUID="1.2.3", **enhanced([0, 1, 2], shared=shared))
    (record,) = records(read(tmp_path))
    assert record.caption == "Right sagittal MRI, section 2 of 3."


def test_a_word_that_is_no_defined_body_part_is_not_kept(tmp_path: Path) -> None:
    for number, word in enumerate(("MUSTERMANN", "WHOLE_BODY", "TSPINE")):
        write_dicom(tmp_path / f"{number}.dcm", Modality="CT", SeriesInstanceUID=f"1.2.{number}", BodyPartExamined=word)
    assert [each.labels.get("body_part") for each in records(read(tmp_path))] == [None, ("whole body",), ("tspine",)]
