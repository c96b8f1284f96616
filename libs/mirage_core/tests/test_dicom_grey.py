"""Greyscale of DICOM against the formulas of PS3.3 C.7.6.3, C.11.1, C.11.2 and C.7.5.1.1.2, worked out here again."""

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import CleanImage, Window, clean_image, decode_image
from tests.support.dicom_builder import BIG_ENDIAN, EXPLICIT, IMPLICIT, dataset, dicom

RAMP = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (16, 1))  # 64 columns
SIGNED = np.tile(np.arange(-2048, 2048, 64, dtype=np.int16), (16, 1))


def grey(data: bytes) -> np.ndarray:
    """The first row of the picture that readers get, after a check that models get the same."""
    clean = clean_image(data)
    seen = np.asarray(decode_image(data).image)
    shown = np.asarray(opened(clean.data).convert("RGB"))
    assert np.array_equal(seen, shown)
    assert (seen[..., 0] == seen[..., 1]).all()
    assert (seen[..., 0] == seen[..., 2]).all()
    return seen[0, :, 0].astype(int)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def deep(data: bytes) -> tuple[np.ndarray, CleanImage]:
    """The first row of the values that the 16-bit copy means."""
    clean = clean_image(data)
    assert clean.pixels_data is not None
    assert clean.pixels is not None
    image = opened(clean.pixels_data)
    assert image.mode == "I;16"
    stored = np.asarray(image).astype(np.float64)
    assert stored.max() < 2**clean.pixels.bits
    return stored[0] * clean.pixels.slope + clean.pixels.intercept, clean


def linear(x: np.ndarray, c: float, w: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, line by line."""
    out = np.empty(len(x), int)
    for place, value in enumerate(x):
        if value <= c - 0.5 - (w - 1) / 2:
            out[place] = 0
        elif value > c - 0.5 + (w - 1) / 2:
            out[place] = 255
        else:
            out[place] = round(((value - (c - 0.5)) / (w - 1) + 0.5) * 255)
    return out


@pytest.mark.parametrize(
    ("center", "width"), [(2048, 4096), (40, 400), (1000, 1), (1000.5, 2), (300.25, 1500.5), (-5, 100)]
)
def test_linear_windows_follow_the_formula(center: float, width: float) -> None:
    assert np.array_equal(grey(dicom(RAMP, WindowCenter=center, WindowWidth=width)), linear(RAMP[0], center, width))


def test_nothing_is_stretched_after_the_window() -> None:
    # A water phantom: 0 HU with noise of 30 to each side, at 40/400.
    water = np.tile(np.arange(-32, 32, dtype=np.int16) + 1024, (16, 1))
    shown = grey(dicom(water, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400, Modality="CT"))
    assert (shown.min(), shown.max()) == (
        round((-32 - 39.5) / 399 * 255 + 127.5),
        round((31 - 39.5) / 399 * 255 + 127.5),
    )


def test_linear_exact_windows_follow_the_formula() -> None:
    shown = grey(dicom(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT"))
    expected = [0 if x <= 750 else 255 if x > 1250 else round(((x - 1000) / 500 + 0.5) * 255) for x in RAMP[0].tolist()]
    assert shown.tolist() == expected


def test_linear_exact_may_be_narrower_than_one() -> None:
    values = np.tile(np.arange(64, dtype=np.uint16), (16, 1))
    data = dicom(values, RescaleSlope="0.01", WindowCenter="0.3", WindowWidth="0.4", VOILUTFunction="LINEAR_EXACT")
    expected = [round(min(max((x * 0.01 - 0.3) / 0.4 + 0.5, 0), 1) * 255) for x in range(64)]
    assert grey(data).tolist() == expected


def test_sigmoid_windows_follow_the_formula() -> None:
    shown = grey(dicom(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction="SIGMOID"))
    assert shown.tolist() == [round(255 / (1 + math.exp(-4 * (x - 1000) / 500))) for x in RAMP[0].tolist()]


@pytest.mark.parametrize(
    "fields",
    [
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": 40, "WindowWidth": -10},
        {"WindowCenter": 40, "WindowWidth": "0.5"},
        {"WindowCenter": 40, "WindowWidth": "NaN"},
        {"WindowCenter": "inf", "WindowWidth": 40},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": 40},
        {"WindowWidth": 40},
        {"WindowCenter": "wide", "WindowWidth": "400"},
        {"WindowCenter": 40, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"},
        {},
    ],
)
def test_without_a_window_that_means_something_percentiles_are_shown(fields: dict[str, Any]) -> None:
    low, high = np.percentile(RAMP, (1, 99))
    expected = np.rint(np.clip((RAMP[0] - low) / (high - low), 0, 1) * 255).astype(int)
    data = dicom(RAMP, **fields)
    assert np.array_equal(grey(data), expected)
    clean = clean_image(data)
    assert clean.pixels is not None
    (window,) = clean.pixels.windows
    assert window.name == "automatic"
    assert (window.center, window.width) == pytest.approx(((low + high) / 2, high - low))


@pytest.mark.parametrize("function", ["", "  ", "CUBIC", "linear"])
def test_an_empty_or_unknown_function_is_linear(function: str) -> None:
    shown = grey(dicom(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction=function))
    assert np.array_equal(shown, linear(RAMP[0], 1000, 500))


def test_the_first_window_that_means_something_is_shown_and_all_are_named() -> None:
    data = dicom(
        RAMP, WindowCenter=[10, -600, 40], WindowWidth=[0, 1500, 400],
        WindowCenterWidthExplanation=["BAD", "LUNG", "SOFT TISSUE"], RescaleSlope=1, RescaleIntercept=-1024, Modality="CT",
    )  # fmt: skip
    assert np.array_equal(grey(data), linear(RAMP[0] - 1024.0, -600, 1500))
    clean = clean_image(data)
    assert clean.pixels is not None
    assert clean.pixels.windows == (Window("LUNG", -600.0, 1500.0), Window("SOFT TISSUE", 40.0, 400.0))


def test_an_explanation_that_could_be_a_name_is_not_kept() -> None:
    data = dicom(
        RAMP, WindowCenter=[1, 2], WindowWidth=[10, 20], WindowCenterWidthExplanation=["Mustermann", "LUNG 12345678"]
    )
    clean = clean_image(data)
    assert clean.pixels is not None
    assert [window.name for window in clean.pixels.windows] == ["window 1", "window 2"]


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [("2", "-1024", (2.0, -1024.0)), ("", "", (1.0, 0.0)), ("0", "5", (1.0, 5.0)), ("NaN", "7", (1.0, 7.0)),
     (None, None, (1.0, 0.0)), ("0.5", None, (0.5, 0.0)), ("-1", "4095", (-1.0, 4095.0)), ("1,5", "0", (1.5, 0.0))],
)  # fmt: skip
def test_values_are_rescaled_and_an_empty_or_zero_slope_is_one(
    slope: str | None, intercept: str | None, expected: tuple[float, float]
) -> None:
    data = dicom(RAMP, RescaleSlope=slope, RescaleIntercept=intercept, WindowCenter=500, WindowWidth=1000)
    values = RAMP[0] * expected[0] + expected[1]
    assert np.array_equal(grey(data), linear(values, 500, 1000))
    assert np.array_equal(deep(data)[0], values)


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ({"Modality": "CT", "RescaleIntercept": -1024}, "HU"),
        ({"Modality": "CT", "RescaleIntercept": -1024, "RescaleType": "HU"}, "HU"),
        ({"Modality": "CT", "RescaleIntercept": -1024, "RescaleType": "US"}, ""),
        ({"Modality": "CT"}, ""),
        ({"Modality": "CR", "RescaleSlope": 1, "RescaleType": "OD"}, "OD"),
        ({"Modality": "CR", "RescaleSlope": 1, "RescaleType": "MUSTERMANN"}, ""),
        ({"Modality": "PT", "RescaleSlope": 3, "Units": "BQML"}, "BQML"),
        ({"Modality": "PT", "RescaleSlope": 3, "Units": "MUSTERMANN"}, ""),
        (
            {
                "RealWorldValueMappingSequence": [
                    {"RealWorldValueSlope": 1.0, "RealWorldValueIntercept": 0.0,
                     "MeasurementUnitsCodeSequence": [{"CodeValue": "mm2/s", "CodeMeaning": "Mustermann"}]}
                ]
            },
            "mm2/s",
        ),
    ],
)  # fmt: skip
def test_the_unit_is_what_the_standard_defines(fields: dict[str, Any], unit: str) -> None:
    pixels = deep(dicom(RAMP, **fields))[1].pixels
    assert pixels is not None
    assert pixels.unit == unit


def test_signed_values_keep_their_sign() -> None:
    data = dicom(SIGNED, WindowCenter=0, WindowWidth=2000)
    assert np.array_equal(grey(data), linear(SIGNED[0], 0, 2000))
    values, clean = deep(data)
    assert np.array_equal(values, SIGNED[0])
    assert clean.pixels is not None
    assert (clean.pixels.bits, clean.pixels.slope, clean.pixels.intercept) == (16, 1.0, -32768.0)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_outside_of_the_stored_ones_are_dropped(signed: bool) -> None:
    # Twelve bits, with an overlay in bit 12 and noise in bits 13 to 15.
    values = (SIGNED if signed else RAMP).astype(np.int64)
    noise = np.random.default_rng(1).integers(0, 16, values.shape) << 12
    raw = ((values & 0xFFF) | noise).astype(np.uint16)
    fields: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed), "OverlayRows": None}
    data = dicom(raw, WindowCenter=0, WindowWidth=3000, **fields)
    assert np.array_equal(grey(data), linear(values[0], 0, 3000))
    found, clean = deep(data)
    assert np.array_equal(found, values[0])
    assert clean.pixels is not None
    assert clean.pixels.bits == 12


def test_a_high_bit_above_the_stored_ones_shifts_them() -> None:
    raw = (RAMP << 4 | 0xF).astype(np.uint16)
    data = dicom(raw, BitsStored=12, HighBit=15, WindowCenter=2048, WindowWidth=4096)
    assert np.array_equal(grey(data), linear(RAMP[0], 2048, 4096))
    assert np.array_equal(deep(data)[0], RAMP[0])


@pytest.mark.parametrize(("stored", "high"), [(0, 0), (17, 16), (12, 40), (12, 3)])
def test_bits_that_cannot_be_are_passed_over(stored: int, high: int) -> None:
    data = dicom(RAMP, BitsStored=stored, HighBit=high, WindowCenter=2048, WindowWidth=4096)
    assert np.array_equal(grey(data), linear(RAMP[0], 2048, 4096))


def test_eight_bits_are_shown_and_not_kept_twice() -> None:
    data = dicom(np.tile(np.arange(64, dtype=np.uint8), (16, 1)), WindowCenter=32, WindowWidth=64)
    assert np.array_equal(grey(data), linear(np.arange(64), 32, 64))
    assert (clean_image(data).pixels_data, clean_image(data).pixels) == (None, None)


def test_pixels_of_one_bit_are_black_and_white() -> None:
    bits = np.random.default_rng(2).integers(0, 2, (17, 19), dtype=np.uint8)
    data = dicom(
        np.packbits(bits, bitorder="little").tobytes(), Rows=17, Columns=19, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelRepresentation=0,
    )  # fmt: skip
    assert np.array_equal(np.asarray(decode_image(data).image)[..., 0], bits * 255)


def test_frames_of_one_bit_follow_each_other_without_padding() -> None:
    bits = np.random.default_rng(3).integers(0, 2, (3, 17, 19), dtype=np.uint8)
    data = dicom(
        np.packbits(bits, bitorder="little").tobytes(), Rows=17, Columns=19, BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelRepresentation=0, NumberOfFrames=3,
    )  # fmt: skip
    for index in range(3):
        assert np.array_equal(np.asarray(decode_image(data, frame=index).image)[..., 0], bits[index] * 255)


def test_monochrome1_shows_small_values_white_and_its_windows_fit_what_is_kept() -> None:
    data = dicom(
        RAMP, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11, WindowCenter=1000, WindowWidth=500
    )
    shown = grey(data)
    assert np.array_equal(shown, 255 - linear(RAMP[0], 1000, 500))
    values, clean = deep(data)
    assert np.array_equal(values, 4095.0 - RAMP[0])
    assert clean.pixels is not None
    window = clean.pixels.windows[0]
    assert (window.center, window.width) == (4095 - 1000 + 1, 500)
    # Seen through its window, what is kept looks like the picture.
    assert np.abs(linear(values, window.center, window.width) - shown).max() <= 1


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [("MONOCHROME2", "IDENTITY", False), ("MONOCHROME2", "INVERSE", True), ("MONOCHROME1", "INVERSE", True),
     ("MONOCHROME1", "IDENTITY", True), (None, None, False), ("", "", False)],
)  # fmt: skip
def test_the_presentation_lut_shape_inverts_once(photometric: str | None, shape: str | None, inverted: bool) -> None:
    data = dicom(
        RAMP, PhotometricInterpretation=photometric, PresentationLUTShape=shape, WindowCenter=1000, WindowWidth=500
    )
    shown = linear(RAMP[0], 1000, 500)
    assert np.array_equal(grey(data), 255 - shown if inverted else shown)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, -1990, -2010])
def test_padding_is_black_and_does_not_count(photometric: str, limit: int | None) -> None:
    values = np.tile(np.arange(-32, 32, dtype=np.int16), (32, 1))
    padded = values.copy()
    padded[:, :20] = -2000
    data = dicom(padded, PhotometricInterpretation=photometric, PixelPaddingValue=("SS", -2000),
                 PixelPaddingRangeLimit=None if limit is None else ("SS", limit))  # fmt: skip
    low, high = np.percentile(values[:, 20:], (1, 99))
    expected = np.rint(np.clip((values[0] - low) / (high - low), 0, 1) * 255).astype(int)
    if photometric == "MONOCHROME1":
        expected = 255 - expected
    expected[:20] = 0
    assert np.array_equal(grey(data), expected)


def test_a_padding_value_with_the_wrong_sign_is_read_by_the_pixels_sign() -> None:
    padded = SIGNED.copy()
    padded[:, :20] = -2000
    right = grey(dicom(padded, PixelPaddingValue=("SS", -2000)))
    assert right[:20].max() == 0
    assert np.array_equal(grey(dicom(padded, PixelPaddingValue=("US", 63536))), right)


def test_padding_brighter_than_the_picture_is_kept_as_its_darkest_value() -> None:
    padded = RAMP.copy()
    padded[:, :20] = 60000
    values, _ = deep(dicom(padded, PixelPaddingValue=60000, WindowCenter=2000, WindowWidth=4000))
    assert set(values[:20]) == {float(RAMP[0, 20])}
    assert np.array_equal(values[20:], RAMP[0, 20:])


def lut(
    entries: Any, *, first: int, bits: int, kind: str = "US", data: tuple[str, Any] | None = None
) -> dict[str, Any]:
    count = len(entries)
    coded = np.array([count % 65536, first, bits]).astype("<i8").astype("<u2").tobytes()
    return {"LUTDescriptor": (kind, coded), "LUTData": data or ("OW", np.array(entries, "<u2").tobytes())}


def test_a_modality_lut_gives_the_values() -> None:
    entries = [1000 - 3 * number for number in range(256)]
    values = np.tile(np.arange(0, 512, 8, dtype=np.uint16), (16, 1))
    data = dicom(values, ModalityLUTSequence=[lut(entries, first=100, bits=16) | {"ModalityLUTType": "OD"}],
                 WindowCenter=700, WindowWidth=600, RescaleSlope=7, RescaleIntercept=3)  # fmt: skip
    looked_up = np.array([entries[min(max(value - 100, 0), 255)] for value in values[0].tolist()])
    assert np.array_equal(grey(data), linear(looked_up, 700, 600))
    found, clean = deep(data)
    assert np.array_equal(found, looked_up)
    assert clean.pixels is not None
    assert clean.pixels.unit == "OD"


def test_a_modality_lut_of_signed_pixels_starts_below_zero() -> None:
    entries = list(range(500, 600))
    data = dicom(
        SIGNED, ModalityLUTSequence=[lut(entries, first=-50, bits=16, kind="SS")], WindowCenter=550, WindowWidth=100
    )
    looked_up = np.array([entries[min(max(value + 50, 0), 99)] for value in SIGNED[0].tolist()])
    assert np.array_equal(grey(data), linear(looked_up, 550, 100))


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"LUTDescriptor": b"", "LUTData": ("OW", b"\1\2")},
        {"LUTDescriptor": ("US", b"\4\0\0\0\x10\0"), "LUTData": ("OW", b"")},
        {"LUTDescriptor": ("US", b"\4\0")},
    ],
)
def test_a_lut_that_is_not_sound_is_passed_over(item: dict[str, Any]) -> None:
    shown = linear(RAMP[0], 1000, 500)
    assert np.array_equal(grey(dicom(RAMP, ModalityLUTSequence=[item], WindowCenter=1000, WindowWidth=500)), shown)
    data = dicom(RAMP, VOILUTSequence=[item], WindowCenter=1000, WindowWidth=500)
    assert np.array_equal(grey(data), shown)
    assert grey(dicom(RAMP, VOILUTSequence=[item])).max() == 255


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_voi_lut_gives_the_greys(bits: int) -> None:
    most = 2**bits - 1
    entries = [round(most * (number / 255) ** 2) for number in range(256)]
    values = np.tile(np.arange(0, 512, 8, dtype=np.uint16), (16, 1))
    data = dicom(values, VOILUTSequence=[lut(entries, first=100, bits=bits) | {"LUTExplanation": "Mustermann"}])
    expected = [round(entries[min(max(value - 100, 0), 255)] * 255 / most) for value in values[0].tolist()]
    assert grey(data).tolist() == expected
    clean = clean_image(data)
    assert clean.pixels is not None
    assert clean.pixels.windows == (Window("VOI LUT", 100 + 255 / 2, 255.0),)


@pytest.mark.parametrize("form", ["packed", "padded", "padded, said to have 16"])
def test_eight_bit_entries_of_a_lut_are_read_packed_or_padded(form: str) -> None:
    entries = list(range(255, -1, -1))
    coded = bytes(entries) if form == "packed" else np.array(entries, "<u2").tobytes()
    item = lut(entries, first=0, bits=16 if form.endswith("16") else 8, data=("OW", coded))
    values = np.tile(np.arange(64, dtype=np.uint16) * 4, (16, 1))
    assert grey(dicom(values, VOILUTSequence=[item])).tolist() == [255 - 4 * number for number in range(64)]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_voi_lut_of_negative_values_starts_below_zero(syntax: str) -> None:
    entries = list(range(0, 2000, 2))
    item = lut(entries, first=-500, bits=12, kind="SS")
    data = dicom(RAMP, VOILUTSequence=[item], RescaleSlope=1, RescaleIntercept=-1024, syntax=syntax)
    expected = [round(entries[min(max(value - 1024 + 500, 0), 999)] * 255 / 4095) for value in RAMP[0].tolist()]
    assert grey(data).tolist() == expected


def test_a_lut_of_65536_entries_is_stated_as_zero() -> None:
    entries = np.arange(65536)[::-1]
    data = dicom(RAMP, VOILUTSequence=[lut(entries, first=0, bits=16)])
    assert grey(data).tolist() == [round((65535 - value) * 255 / 65535) for value in RAMP[0].tolist()]


def test_a_window_comes_before_a_voi_lut() -> None:
    data = dicom(RAMP, VOILUTSequence=[lut(list(range(256)), first=0, bits=8)], WindowCenter=1000, WindowWidth=500)
    assert np.array_equal(grey(data), linear(RAMP[0], 1000, 500))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_every_native_coding_reads_the_same(syntax: str) -> None:
    data = dicom(SIGNED, syntax=syntax, PixelPaddingValue=("SS", -2048), WindowCenter=10, WindowWidth=1000)
    expected = linear(SIGNED[0], 10, 1000)
    expected[0] = 0
    assert np.array_equal(grey(data), expected)


def test_integers_of_32_bits_are_shown_from_their_values_and_kept_within_half_a_step() -> None:
    values = np.tile(np.linspace(-(2**30), 2**30, 64).astype(np.int32), (16, 1))
    data = dicom(values, WindowCenter=1000, WindowWidth=10**9, RescaleSlope="0.5", RescaleIntercept=7)
    rescaled = values[0] * 0.5 + 7
    assert np.array_equal(grey(data), linear(rescaled, 1000, 10**9))
    found, clean = deep(data)
    assert clean.pixels is not None
    assert np.abs(found - rescaled).max() <= clean.pixels.slope / 2 * (1 + 1e-9)
    assert clean.pixels.slope == pytest.approx(2**30 / 65535)


def test_integers_of_32_bits_that_span_little_are_kept_exactly() -> None:
    values = np.tile(np.arange(70_000, 70_064, dtype=np.uint32), (16, 1))
    found, clean = deep(dicom(values))
    assert np.array_equal(found, values[0])
    assert clean.pixels is not None
    assert (clean.pixels.bits, clean.pixels.slope) == (6, 1.0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_floating_point_is_shown_from_its_values_and_kept_within_half_a_step(kind: type, photometric: str) -> None:
    values: np.ndarray = np.tile(np.linspace(-0.25, 3.5, 64).astype(kind), (16, 1))
    values[:, 5], values[:, 6] = np.nan, np.inf
    fields: dict[str, Any] = {"BitsAllocated": None, "BitsStored": None, "HighBit": None, "PixelRepresentation": None}
    data = dicom(
        values,
        PhotometricInterpretation=photometric,
        WindowCenter=1,
        WindowWidth=2,
        VOILUTFunction="LINEAR_EXACT",
        **fields,
    )
    real = np.delete(values[0], (5, 6)).astype(float)
    expected = np.array([round(min(max((x - 1) / 2 + 0.5, 0), 1) * 255) for x in real.tolist()])
    shown = grey(data)
    assert shown[5:7].tolist() == [0, 0]
    assert np.array_equal(np.delete(shown, (5, 6)), 255 - expected if photometric == "MONOCHROME1" else expected)
    found, clean = deep(data)
    assert clean.pixels is not None
    kept = np.delete(found, (5, 6))
    if photometric == "MONOCHROME1":
        kept = real.min() + real.max() - kept
    assert np.abs(kept - real).max() <= clean.pixels.slope / 2 * (1 + 1e-6)


def test_floating_point_padding_is_black_and_does_not_count() -> None:
    values = np.tile(np.linspace(0, 1, 64).astype(np.float32), (16, 1))
    values[:, :10] = -1e9
    data = dicom(
        values, FloatPixelPaddingValue=-1e9, BitsAllocated=None, BitsStored=None, HighBit=None, PixelRepresentation=None
    )
    low, high = np.percentile(values[:, 10:], (1, 99))
    shown = grey(data)
    assert shown[:10].max() == 0
    assert np.array_equal(shown[10:], np.rint(np.clip((values[0, 10:] - low) / (high - low), 0, 1) * 255))


def test_pixels_that_are_no_numbers_at_all_are_refused() -> None:
    values = np.full((16, 16), np.nan, np.float32)
    with pytest.raises(MirageError) as caught:
        decode_image(dicom(values, BitsAllocated=None, BitsStored=None, HighBit=None))
    assert caught.value.code is Code.IMAGE_UNREADABLE


def test_one_value_everywhere_is_black() -> None:
    assert set(grey(dicom(np.full((16, 16), 700, np.uint16)))) == {0}


def test_a_few_bright_pixels_on_black_are_seen() -> None:
    values = np.zeros((64, 64), np.uint16)
    values[0, :8] = 500
    assert grey(dicom(values))[:9].tolist() == [255] * 8 + [0]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"PixelSpacing": ["1.0", "1.0"]}, (64, 32)),
        ({"PixelSpacing": ["2.0", "1.0"]}, (64, 64)),
        ({"PixelSpacing": ["1.0", "2.0"]}, (128, 32)),
        ({"ImagerPixelSpacing": ["0.3", "0.2"]}, (64, 48)),
        ({"NominalScannedPixelSpacing": ["2", "1"]}, (64, 64)),
        ({"PixelAspectRatio": ["2", "1"]}, (64, 64)),
        ({"PixelAspectRatio": ["3", "4"]}, (85, 32)),
        ({"PixelSpacing": ["1", "1"], "PixelAspectRatio": ["2", "1"]}, (64, 32)),
        ({"PixelSpacing": ["0", "1"]}, (64, 32)),
        ({"PixelSpacing": ["", ""]}, (64, 32)),
        ({"PixelSpacing": ["1.004", "1.0"]}, (64, 32)),
        ({"PixelSpacing": ["5000", "1"]}, (64, 32)),
    ],
)
def test_pixels_that_are_not_square_are_stretched_along_the_coarser_axis(
    fields: dict[str, Any], size: tuple[int, int]
) -> None:
    values = np.tile(np.arange(64, dtype=np.uint16) * 16, (32, 1))
    data = dicom(values, WindowCenter=512, WindowWidth=1024, **fields)
    clean = clean_image(data)
    assert clean.pixels_data is not None
    assert (clean.width, clean.height) == size
    assert decode_image(data).image.size == opened(clean.data).size == opened(clean.pixels_data).size == size


def test_stretched_values_lie_between_their_neighbours() -> None:
    values = np.tile(np.arange(64, dtype=np.uint16)[:, None] * 10, (1, 16))
    clean = clean_image(dicom(values, PixelSpacing=["2", "1"]))
    assert clean.pixels_data is not None
    column = np.asarray(opened(clean.pixels_data))[:, 0].astype(int)
    # Centres of the new rows are at a quarter and three quarters of the old ones.
    assert column[1:7].tolist() == [2, 8, 12, 18, 22, 28] or column[1:7].tolist() == [3, 8, 13, 18, 23, 28]


def test_stretching_mixes_no_value_with_padding() -> None:
    values = np.full((32, 32), 1000, np.int16)
    values[:, 16:] = -2000
    clean = clean_image(
        dicom(values, PixelSpacing=["1", "1.5"], PixelPaddingValue=("SS", -2000), WindowCenter=1000, WindowWidth=100)
    )
    assert clean.pixels_data is not None
    assert clean.pixels is not None
    found = np.asarray(opened(clean.pixels_data)) + clean.pixels.intercept
    assert set(np.unique(found)) == {-2000.0, 1000.0}


def test_an_overlay_is_not_drawn() -> None:
    overlay: dict[Any, Any] = {
        0x60000010: ("US", 16), 0x60000011: ("US", 64), 0x60000040: ("CS", "G"), 0x60000050: ("SS", [1, 1]),
        0x60000100: ("US", 1), 0x60000102: ("US", 0), 0x60003000: ("OW", b"\xff" * 128),
    }  # fmt: skip
    plain = dicom(RAMP, WindowCenter=1000, WindowWidth=500)
    body = dataset(overlay)
    at = plain.index(b"\xe0\x7f\x10\x00OW")
    assert np.array_equal(grey(plain[:at] + body + plain[at:]), grey(plain))


@pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
@pytest.mark.parametrize(
    ("said", "refused"), [("YES", True), ("yes ", True), ("NO", False), ("", False), (None, False)]
)
def test_what_the_pixels_show_of_a_patient_is_refused_by_its_attribute(
    keyword: str, said: str | None, refused: bool
) -> None:
    fields: dict[str, Any] = {keyword: said}
    data = dicom(RAMP, **fields)
    assert decode_image(data).width == 64  # a search with it stores nothing
    if not refused:
        assert clean_image(data).width == 64
        return
    with pytest.raises(MirageError) as caught:
        clean_image(data)
    assert caught.value.code is Code.IMAGE_BURNED_IN
    assert caught.value.metadata["field"] == keyword
