"""Which frame of a DICOM file is shown, and what the functional groups of enhanced objects (PS3.3 C.7.6.16) say about it."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import Window, clean_image, decode_image
from tests.support.dicom_builder import BIG_ENDIAN, EXPLICIT, IMPLICIT, dicom

FRAMES = np.stack([np.full((16, 16), 100 * (number + 1), np.uint16) for number in range(5)])
FRAMES[:, 0, 0] = 0


def level(data: bytes, frame: int | None = None) -> int:
    """The grey of the last pixel."""
    return int(np.asarray(decode_image(data, frame=frame).image)[-1, -1, 0])


def shown(value: float, center: float, width: float) -> int:
    return round(min(max((value - (center - 0.5)) / (width - 1) + 0.5, 0), 1) * 255)


def test_the_middle_frame_is_shown_unless_one_is_asked_for() -> None:
    data = dicom(FRAMES, WindowCenter=300, WindowWidth=600)
    assert level(data) == shown(300, 300, 600)
    for number in range(5):
        assert level(data, number) == shown(100 * (number + 1), 300, 600)
    clean = clean_image(data, frame=4)
    assert clean.frames == 5
    assert np.asarray(Image.open(io.BytesIO(clean.data)))[-1, -1] == shown(500, 300, 600)


@pytest.mark.parametrize("frame", [-1, 5, 10**9])
def test_a_frame_that_is_not_there_has_its_own_error(frame: int) -> None:
    for function in (decode_image, clean_image):
        with pytest.raises(MirageError) as caught:
            function(dicom(FRAMES), frame=frame)
        assert caught.value.code is Code.IMAGE_FRAME_OUT_OF_RANGE
        assert caught.value.metadata["frames"] == "5"


def test_fewer_pixels_than_frames_are_unreadable() -> None:
    with pytest.raises(MirageError) as caught:
        decode_image(dicom(FRAMES, NumberOfFrames=100))
    assert caught.value.code is Code.IMAGE_UNREADABLE


@pytest.mark.parametrize("frames", ["", "0", "-3", "x"])
def test_a_number_of_frames_that_means_nothing_is_one(frames: str) -> None:
    assert decode_image(dicom(FRAMES[0], NumberOfFrames=frames)).frames == 1


def voi(center: Any, width: Any, **more: Any) -> dict[str, Any]:
    return {"FrameVOILUTSequence": [{"WindowCenter": center, "WindowWidth": width} | more]}


def transformation(slope: Any, intercept: Any, kind: str) -> dict[str, Any]:
    return {
        "PixelValueTransformationSequence": [
            {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": kind}
        ]
    }


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_each_frame_has_its_own_window_and_slope(syntax: str) -> None:
    own = [voi(50 * n, 100 + n) | transformation(n + 1, -n, "US") for n in range(5)]
    data = dicom(FRAMES, syntax=syntax, PerFrameFunctionalGroupsSequence=own)
    for number in range(5):
        value = 100 * (number + 1) * (number + 1) - number
        assert level(data, number) == shown(value, 50 * number, 100 + number)
        info = clean_image(data, frame=number).pixels
        assert info is not None
        assert (info.slope, info.windows) == (number + 1.0, (Window("window 1", 50.0 * number, 100.0 + number),))


def test_shared_groups_hold_for_frames_without_their_own() -> None:
    data = dicom(
        FRAMES,
        Modality="CT",
        SharedFunctionalGroupsSequence=[
            voi(500, 1000, WindowCenterWidthExplanation="BRAIN") | transformation(2, -1000, "HU")
        ],
        PerFrameFunctionalGroupsSequence=[voi(0, 300), {}, {}, {}, {}],
    )
    assert level(data, 0) == shown(-800, 0, 300)
    assert level(data, 3) == shown(-200, 500, 1000)
    info = clean_image(data, frame=3).pixels
    assert info is not None
    assert (info.unit, info.windows[0].name) == ("HU", "BRAIN")


def test_a_frames_groups_come_before_the_data_sets_own_elements() -> None:
    data = dicom(
        FRAMES, WindowCenter=1, WindowWidth=2, RescaleSlope=9, RescaleIntercept=9, VOILUTFunction="SIGMOID",
        SharedFunctionalGroupsSequence=[voi(300, 600) | transformation(1, 0, "US")],
    )  # fmt: skip
    assert level(data, 2) == shown(300, 300, 600)


def test_a_frames_function_is_used() -> None:
    data = dicom(FRAMES, SharedFunctionalGroupsSequence=[voi(300, 600, VOILUTFunction="LINEAR_EXACT")])
    assert level(data, 1) == round(((200 - 300) / 600 + 0.5) * 255)


def test_spacing_of_the_functional_groups_makes_pixels_square() -> None:
    measures = {"PixelMeasuresSequence": [{"PixelSpacing": ["2", "1"]}]}
    assert decode_image(dicom(FRAMES, SharedFunctionalGroupsSequence=[measures])).image.size == (16, 32)
    own = [{"PixelMeasuresSequence": [{"PixelSpacing": ["1", str(n + 1)]}]} for n in range(5)]
    assert decode_image(dicom(FRAMES, PerFrameFunctionalGroupsSequence=own), frame=1).image.size == (32, 16)


def test_a_real_world_mapping_of_the_frame_gives_the_unit() -> None:
    mapping = {
        "RealWorldValueMappingSequence": [
            {
                "RealWorldValueSlope": 0.5,
                "RealWorldValueIntercept": 1.0,
                "MeasurementUnitsCodeSequence": [{"CodeValue": "mm2/s"}],
            }
        ]
    }
    same, other = transformation("0.5", "1", ""), transformation("2", "1", "")
    for group, unit in ((same, "mm2/s"), (other, "")):
        info = clean_image(dicom(FRAMES, SharedFunctionalGroupsSequence=[group | mapping])).pixels
        assert info is not None
        assert info.unit == unit


@pytest.mark.parametrize(
    "groups",
    [[], [{}], [{"FrameVOILUTSequence": []}], [{"FrameVOILUTSequence": [{}]}], ("SQ", b"\1\2\3\4"), ("UN", bytes(7))],
)
def test_groups_that_say_nothing_change_nothing(groups: Any) -> None:
    plain = dicom(FRAMES)
    assert level(dicom(FRAMES, PerFrameFunctionalGroupsSequence=groups)) == level(plain)
    assert level(dicom(FRAMES, SharedFunctionalGroupsSequence=groups)) == level(plain)
