"""Colour of DICOM against PS3.3 C.7.6.3.1.2 (colour spaces), C.7.6.3.1.5 and C.7.9 (palettes), worked out here again."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image, decode_image
from tests.support.dicom_builder import BIG_ENDIAN, EXPLICIT, IMPLICIT, dicom

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (16, 18, 3), dtype=np.uint8)
INDEXES = np.tile(np.arange(64, dtype=np.uint8) * 4, (16, 1))


def colours(data: bytes) -> np.ndarray:
    """The picture that readers get, after a check that models get the same, and that nothing is kept beside it."""
    clean = clean_image(data)
    assert (clean.pixels_data, clean.pixels) == (None, None)
    seen = np.asarray(decode_image(data).image).astype(int)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(clean.data)).convert("RGB")), seen)
    return seen


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("planar", [0, 1, None])
def test_rgb_by_pixel_or_by_plane(syntax: str, planar: int | None) -> None:
    samples = RGB.transpose(2, 0, 1) if planar == 1 else RGB
    data = dicom(RGB, syntax=syntax, PlanarConfiguration=planar)
    body = dicom(samples.tobytes(), syntax=syntax, **fields_of(RGB) | {"PlanarConfiguration": planar})
    assert np.array_equal(colours(body), RGB)
    assert planar == 1 or np.array_equal(colours(data), RGB)


def fields_of(pixels: np.ndarray, **more: Any) -> dict[str, Any]:
    return {
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    } | more


@pytest.mark.parametrize("missing", ["PhotometricInterpretation", "SamplesPerPixel"])
def test_colour_is_known_by_samples_or_by_photometric_interpretation(missing: str) -> None:
    without: dict[str, Any] = {missing: None}
    assert np.array_equal(colours(dicom(RGB, **without)), RGB)


@pytest.mark.parametrize("stored", [10, 12, 16])
def test_deep_rgb_is_scaled_to_eight_bits(stored: int) -> None:
    deep = RNG.integers(0, 2**stored, (16, 18, 3), dtype=np.uint16)
    expected = np.rint(deep / (2**stored - 1) * 255)
    assert np.array_equal(colours(dicom(deep, BitsStored=stored, HighBit=stored - 1)), expected)


def from_ybr(y: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> np.ndarray:
    """The inverse of YBR_FULL: Y = .2990 R + .5870 G + .1140 B, Cb = -.1687 R - .3313 G + .5 B + 128, and so on."""
    red = y + 1.402 * (cr - 128)
    blue = y + 1.772 * (cb - 128)
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    return np.clip(np.stack([red, green, blue], axis=-1), 0, 255)


def test_ybr_full() -> None:
    found = colours(dicom(RGB, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(found - from_ybr(*RGB.astype(float).transpose(2, 0, 1))).max() <= 1


def test_ybr_full_422_shares_chroma_by_pairs() -> None:
    y, cb, cr = (RNG.integers(0, 256, (16, width)) for width in (18, 9, 9))
    packed = np.stack([y[:, 0::2], y[:, 1::2], cb, cr], axis=-1).astype(np.uint8)
    data = dicom(packed.tobytes(), **fields_of(RGB, PhotometricInterpretation="YBR_FULL_422"))
    expected = from_ybr(y.astype(float), np.repeat(cb, 2, axis=1), np.repeat(cr, 2, axis=1))
    assert np.abs(colours(data) - expected).max() <= 1


def test_ybr_partial_422_has_a_smaller_range() -> None:
    red, green, blue = RGB.astype(float).transpose(2, 0, 1)
    blue = np.repeat(blue[:, ::2], 2, axis=1)  # chroma is shared, so that of a pair must be the same
    red, green = np.repeat(red[:, ::2], 2, axis=1), np.repeat(green[:, ::2], 2, axis=1)
    y = 0.2568 * red + 0.5041 * green + 0.0979 * blue + 16
    cb = -0.1482 * red - 0.2910 * green + 0.4392 * blue + 128
    cr = 0.4392 * red - 0.3678 * green - 0.0714 * blue + 128
    packed = np.rint(np.stack([y[:, 0::2], y[:, 1::2], cb[:, ::2], cr[:, ::2]], axis=-1)).astype(np.uint8)
    data = dicom(packed.tobytes(), **fields_of(RGB, PhotometricInterpretation="YBR_PARTIAL_422"))
    assert np.abs(colours(data) - np.stack([red, green, blue], axis=-1)).max() <= 2


def test_a_profile_is_applied() -> None:
    # A profile whose red and blue are exchanged: what it shows is unmistakable.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"~XYZ").replace(b"bXYZ", b"rXYZ").replace(b"~XYZ", b"bXYZ")
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[..., 0] = 255
    found = colours(dicom(flat, ICCProfile=("OB", swapped)))
    assert found[0, 0].tolist()[2] > 200
    assert found[0, 0].tolist()[0] < 60
    assert np.array_equal(colours(dicom(flat, ICCProfile=("OB", profile))), flat)
    assert np.array_equal(colours(dicom(flat, ICCProfile=("OB", b"Mustermann" * 30))), flat)


@pytest.mark.parametrize("photometric", ["HSV", "ARGB", "CMYK"])
def test_retired_colour_spaces_are_named(photometric: str) -> None:
    with pytest.raises(MirageError) as caught:
        decode_image(dicom(RGB, PhotometricInterpretation=photometric))
    assert caught.value.code is Code.IMAGE_CODING_UNSUPPORTED
    assert photometric in caught.value.message


def palette(
    red: Any, green: Any, blue: Any, *, first: int = 0, bits: int = 16, kind: str = "US", coded: Any = None
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, entries in (("Red", red), ("Green", green), ("Blue", blue)):
        descriptor = np.array([len(entries) % 65536, first, bits]).astype("<u2").tobytes()
        fields[f"{name}PaletteColorLookupTableDescriptor"] = (kind, descriptor)
        fields[f"{name}PaletteColorLookupTableData"] = (
            "OW",
            (coded or (lambda e: np.array(e, "<u2").tobytes()))(entries),
        )
    return {"PhotometricInterpretation": "PALETTE COLOR", **fields}


def test_a_palette_of_sixteen_bits_gives_its_high_byte() -> None:
    red, green, blue = ([value * factor % 65536 for value in range(256)] for factor in (257, 129, 65))
    found = colours(dicom(INDEXES, **palette(red, green, blue)))
    expected = [[round(entries[4 * n] * 255 / 65535) for entries in (red, green, blue)] for n in range(64)]
    assert found[0].tolist() == expected


@pytest.mark.parametrize("bits", [8, 16])
def test_entries_of_eight_bits_padded_to_sixteen_are_told_by_the_length(bits: int) -> None:
    red, green, blue = list(range(256)), list(range(255, -1, -1)), [9] * 256
    found = colours(dicom(INDEXES, **palette(red, green, blue, bits=bits)))
    assert found[0].tolist() == [[4 * n, 255 - 4 * n, 9] for n in range(64)]


def test_entries_of_eight_bits_are_packed_in_pairs() -> None:
    red, green, blue = list(range(256)), list(range(255, -1, -1)), [9] * 256
    found = colours(dicom(INDEXES, **palette(red, green, blue, bits=8, coded=bytes)))
    assert found[0].tolist() == [[4 * n, 255 - 4 * n, 9] for n in range(64)]


def test_a_channel_without_bright_entries_keeps_the_scale_of_the_others() -> None:
    red, green, blue = [value * 257 for value in range(256)], [200] * 256, [0] * 256
    found = colours(dicom(INDEXES, **palette(red, green, blue)))
    assert found[0].tolist() == [[4 * n, round(200 * 255 / 65535), 0] for n in range(64)]


def test_values_outside_of_the_palette_take_its_ends() -> None:
    red, green, blue = ([v * 257 for v in values] for values in ([10, 20, 30], [40, 50, 60], [70, 80, 90]))
    found = colours(dicom(INDEXES, **palette(red, green, blue, first=8)))
    assert found[0, :6].tolist() == [[10, 40, 70]] * 3 + [[30, 60, 90]] * 3


def test_a_palette_of_signed_pixels_starts_below_zero() -> None:
    signed = np.tile(np.arange(-32, 32, dtype=np.int8), (16, 1))
    entries = [value * 1000 for value in range(64)]
    found = colours(dicom(signed, **palette(entries, entries, entries, first=-32, kind="SS")))
    assert found[0, :, 0].tolist() == [round(value * 255 / 65535) for value in entries]


def test_a_segmented_palette_is_expanded() -> None:
    # Four entries, a line to 63 * 257 in 60 steps, then the discrete segment again (PS3.3 C.7.9.2).
    discrete, line = [0, 4, 1000, 2000, 3000, 4000], [1, 60, 16191]
    words = [*discrete, *line, 2, 1, 0, 0]
    fields = palette([0] * 68, [0] * 68, [0] * 68)
    for name in ("Red", "Green", "Blue"):
        del fields[f"{name}PaletteColorLookupTableData"]
        fields[f"Segmented{name}PaletteColorLookupTableData"] = ("OW", np.array(words, "<u2").tobytes())
    values = np.tile(np.arange(68, dtype=np.uint8), (16, 1))
    entries = [1000, 2000, 3000, 4000, *(round(4000 + 12191 * n / 60) for n in range(1, 61)), 1000, 2000, 3000, 4000]
    assert colours(dicom(values, **fields))[0, :, 0].tolist() == [round(entry * 255 / 65535) for entry in entries]


@pytest.mark.parametrize(
    "words", [[], [3, 1, 2], [1, 5, 9], [0, 60000, 1], [2, 65535, 0, 0], [2, 1, 4, 0], [0, 0] * 50]
)
def test_a_segmented_palette_that_is_not_sound_ends_in_an_error(words: list[int]) -> None:
    fields = palette([0] * 64, [0] * 64, [0] * 64)
    for name in ("Red", "Green", "Blue"):
        del fields[f"{name}PaletteColorLookupTableData"]
        fields[f"Segmented{name}PaletteColorLookupTableData"] = ("OW", np.array(words, "<u2").tobytes())
    code: Code | None = None
    try:
        colours(dicom(INDEXES, **fields))
    except MirageError as error:
        code = error.code
    # Some of them have entries.
    assert code in (None, Code.IMAGE_UNREADABLE)


def test_a_palette_that_is_missing_ends_in_an_error() -> None:
    with pytest.raises(MirageError) as caught:
        decode_image(dicom(INDEXES, PhotometricInterpretation="PALETTE COLOR"))
    assert caught.value.code is Code.IMAGE_UNREADABLE


@pytest.mark.parametrize("order", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_a_palette_reads_the_same_in_every_native_coding(order: str) -> None:
    entries = [value * 257 for value in range(256)]
    endian = ">" if order == BIG_ENDIAN else "<"
    fields = palette(entries, entries[::-1], [0] * 256, coded=lambda e: np.array(e, f"{endian}u2").tobytes())
    for name in ("Red", "Green", "Blue"):
        fields[f"{name}PaletteColorLookupTableDescriptor"] = ("US", np.array([256, 0, 16], f"{endian}u2").tobytes())
    found = colours(dicom(INDEXES, syntax=order, **fields))
    assert found[0].tolist() == [[4 * n, 255 - 4 * n, 0] for n in range(64)]


@pytest.mark.parametrize("place", ["data set", "frame"])
def test_a_supplemental_palette_colours_the_values_from_its_first_on(place: str) -> None:
    values = np.tile(np.arange(64, dtype=np.uint16), (16, 1))
    entries = [v * 257 for v in range(32)]
    fields = palette(entries, [0] * 32, [65535] * 32, first=32) | {"PhotometricInterpretation": "MONOCHROME2"}
    if place == "frame":
        group = {"CTImageFrameTypeSequence": [{"PixelPresentation": "MIXED"}]}
        fields |= {"SharedFunctionalGroupsSequence": [group], "NumberOfFrames": 1}
    else:
        fields |= {"PixelPresentation": "COLOR"}
    found = colours(dicom(values, WindowCenter=16, WindowWidth=32, **fields))
    greys = [round(min(max((v - 15.5) / 31 + 0.5, 0), 1) * 255) for v in range(32)]
    assert found[0].tolist() == [[g, g, g] for g in greys] + [[v, 0, 255] for v in range(32)]
