"""PNG: every depth and colour type, transparency, orientation, aspect, gamma and profile, against the PNG specification."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import PixelInfo, Window, clean_image, decode_image
from tests.support.picture_files import SIGNATURE, chunk, exif, png

RNG = np.random.default_rng(3)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SRGB.replace(b"rXYZ", b"~XYZ").replace(b"bXYZ", b"rXYZ").replace(b"~XYZ", b"bXYZ")  # red and blue exchanged


def seen(data: bytes) -> np.ndarray:
    """The picture that readers get, after a check that models get the same and that the file is a PNG."""
    clean = clean_image(data)
    assert clean.media_type == "image/png"
    shown = np.asarray(decode_image(data).image).astype(int)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(clean.data)).convert("RGB")), shown)
    assert (clean.height, clean.width) == shown.shape[:2]
    return shown


def stored(data: bytes, **options: Any) -> tuple[np.ndarray, PixelInfo]:
    clean = clean_image(data, **options)
    assert clean.pixels_data is not None
    assert clean.pixels is not None
    image = Image.open(io.BytesIO(clean.pixels_data))
    assert image.mode == "I;16"
    return np.asarray(image), clean.pixels


@pytest.mark.parametrize("laced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_greyscale_of_up_to_eight_bits(depth: int, laced: bool) -> None:
    samples = RNG.integers(0, 2**depth, (17, 19))
    shown = seen(png(samples, depth=depth, laced=laced))
    assert np.array_equal(shown[..., 0], np.rint(samples * 255 / (2**depth - 1)))


@pytest.mark.parametrize("laced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes(depth: int, laced: bool) -> None:
    samples = RNG.integers(0, 2**depth, (17, 19))
    table = RNG.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    assert np.array_equal(
        seen(png(samples, depth=depth, colour=3, laced=laced, palette=table.tobytes())), table[samples]
    )


@pytest.mark.parametrize("laced", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_rgb(depth: int, laced: bool) -> None:
    samples = RNG.integers(0, 2**depth, (17, 19, 3))
    # The specification allows to keep the high byte of 16 bits.
    assert np.abs(seen(png(samples, depth=depth, laced=laced)) - samples * 255 / (2**depth - 1)).max() <= (
        0 if depth == 8 else 1
    )


@pytest.mark.parametrize("laced", [False, True])
def test_twelve_bits_in_sixteen_are_shown_by_the_range_in_use_and_kept(laced: bool) -> None:
    samples = RNG.integers(100, 4096, (17, 19))
    low, high = samples.min(), samples.max()
    data = png(samples, depth=16, laced=laced)
    assert np.array_equal(seen(data)[..., 0], np.rint((samples - low) / (high - low) * 255))
    values, info = stored(data)
    assert np.array_equal(values, samples)
    assert info == PixelInfo(12, 1.0, 0.0, "", (Window("automatic", (low + high) / 2, float(high - low)),))


def test_a_window_that_is_given_is_shown() -> None:
    samples = np.tile(np.arange(0, 4096, 64), (16, 1))
    info = PixelInfo(12, 1.0, -1024.0, "HU", (Window("soft tissue", 40.0, 400.0), Window("lung", -600.0, 1500.0)))
    clean = clean_image(png(samples, depth=16), pixels=info)
    expected = [round(min(max((v - 1024 - 39.5) / 399 + 0.5, 0), 1) * 255) for v in range(0, 4096, 64)]
    assert np.asarray(Image.open(io.BytesIO(clean.data)))[0].tolist() == expected
    assert clean.pixels == info
    assert np.array_equal(stored(png(samples, depth=16), pixels=info)[0], samples)


def test_a_meaning_without_a_window_gets_the_range_in_use_as_one() -> None:
    samples = np.tile(np.arange(0, 4096, 64), (16, 1))
    _, info = stored(png(samples, depth=16), pixels=PixelInfo(12, 2.0, 10.0, "s", ()))
    assert (info.slope, info.intercept, info.unit) == (2.0, 10.0, "s")
    assert info.windows == (Window("automatic", 10 + 4032.0, 8064.0),)


@pytest.mark.parametrize(
    ("data", "bits", "field"),
    [
        (png(np.full((16, 16), 4096), depth=16), 12, "bits"),
        (png(np.zeros((16, 16)), depth=8), 8, "image"),
        (png(np.zeros((16, 16, 3)), depth=16), 16, "image"),
    ],
)
def test_a_meaning_that_does_not_fit_the_image_is_refused(data: bytes, bits: int, field: str) -> None:
    with pytest.raises(MirageError) as caught:
        clean_image(data, pixels=PixelInfo(bits, 1.0, 0.0, "", ()))
    assert (caught.value.code, caught.value.metadata["field"]) == (Code.PIXELS_INVALID, field)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    shown: np.ndarray = colour * alpha + 255 * (1 - alpha)
    return shown


@pytest.mark.parametrize("laced", [False, True])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_laid_on_white(channels: int, laced: bool) -> None:
    samples = RNG.integers(0, 256, (17, 19, channels))
    samples[:4, :, -1], samples[4:8, :, -1] = 0, 255
    shown = seen(png(samples, laced=laced))
    expected = over_white(samples[..., :-1], samples[..., -1:] / 255)
    assert np.abs(shown - expected).max() <= 1
    assert (shown[:4] == 255).all()


def test_black_on_transparent_black_is_seen() -> None:
    samples = np.zeros((32, 32, 4), int)
    samples[8:24, 8:24, 3] = 255
    shown = seen(png(samples))
    assert (shown[8:24, 8:24] == 0).all()
    assert shown.sum() == 255 * 3 * (32 * 32 - 16 * 16)


@pytest.mark.parametrize("laced", [False, True])
def test_sixteen_bits_with_alpha_keep_their_bits_and_lie_on_white(laced: bool) -> None:
    grey = RNG.integers(0, 4096, (17, 19))
    alpha = RNG.choice([0, 32896, 65535], (17, 19))
    data = png(np.stack([grey, alpha], axis=-1), depth=16, laced=laced)
    scaled = (grey - grey.min()) / (grey.max() - grey.min()) * 255
    assert np.abs(seen(data)[..., 0] - over_white(scaled, alpha / 65535)).max() <= 1
    assert np.array_equal(stored(data)[0], grey)
    rgba = RNG.integers(0, 65536, (17, 19, 4))
    assert (
        np.abs(seen(png(rgba, depth=16, laced=laced)) - over_white(rgba[..., :3] / 257, rgba[..., 3:] / 65535)).max()
        <= 2
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_white(depth: int) -> None:
    samples = RNG.integers(0, 2 if depth == 1 else 4, (17, 19)) + (0 if depth < 8 else 250)
    key = int(samples[0, 0])
    data = png(samples, depth=depth, before=[(b"tRNS", struct.pack(">H", key))])
    shown = seen(data)[..., 0]
    assert (shown[samples == key] == 255).all()
    others = samples[samples != key]
    if depth < 16:
        assert np.array_equal(shown[samples != key], np.rint(others * 255 / (2**depth - 1)))
    else:
        # It does not count for the range in use either.
        assert np.array_equal(shown[samples != key], np.rint((others - others.min()) / np.ptp(others) * 255))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_white_by_all_its_bits(depth: int) -> None:
    samples = np.zeros((16, 16, 3), int) + 0x12
    key = (0x1234, 0x5678, 0x9ABC) if depth == 16 else (0x34, 0x78, 0xBC)
    samples[:4] = key
    samples[4:8] = [key[0], key[1], key[2] ^ 1]  # differs in the lowest bit
    shown = seen(png(samples, depth=depth, before=[(b"tRNS", struct.pack(">3H", *key))]))
    assert (shown[:4] == 255).all()
    assert (shown[4:] != 255).all()


def test_a_palette_with_transparency_is_laid_on_white() -> None:
    table = np.array([[0, 0, 0], [10, 20, 30], [200, 100, 50]], np.uint8)
    samples = np.tile(np.array([0, 1, 2, 2]), (16, 5))
    shown = seen(png(samples, colour=3, palette=table.tobytes(), before=[(b"tRNS", bytes((0, 128)))]))
    assert (
        np.abs(
            shown[0, :4] - [[255] * 3, over_white(table[1].astype(float), np.array(128 / 255)), table[2], table[2]]
        ).max()
        <= 1
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_turns_every_depth(depth: int, turn: int, order: str) -> None:
    samples = np.arange(16 * 20).reshape(16, 20) % 2**depth
    upright = {
        1: samples, 2: samples[:, ::-1], 3: samples[::-1, ::-1], 4: samples[::-1], 5: samples.T, 6: samples.T[:, ::-1],
        7: samples[::-1, ::-1].T, 8: samples.T[::-1],
    }[turn]  # fmt: skip
    for before, after in (([(b"eXIf", exif(turn, order=order))], []), ([], [(b"eXIf", exif(turn, order=order))])):
        data = png(samples, depth=depth, before=before, after=after)
        expected = upright if depth == 8 else np.rint(upright / samples.max() * 255)
        assert np.array_equal(seen(data)[..., 0], expected)
        if depth == 16:
            assert np.array_equal(stored(data)[0], upright)


@pytest.mark.parametrize(
    "block", [b"", b"II*\0", b"Exif\0\0", exif(0), exif(9), exif(6)[:20], b"MM\0*\xff\xff\xff\xff", b"\0" * 100]
)
def test_an_orientation_that_means_nothing_turns_nothing(block: bytes) -> None:
    assert seen(png(np.zeros((16, 20)), before=[(b"eXIf", block)])).shape == (16, 20, 3)


@pytest.mark.parametrize(
    ("across", "down", "size"),
    [(2, 1, (16, 32)), (1, 2, (32, 16)), (1, 1, (16, 16)), (0, 1, (16, 16)), (2**31, 1, (16, 16))],
)
@pytest.mark.parametrize("depth", [8, 16])
def test_pixels_that_are_not_square_are_stretched(across: int, down: int, size: tuple[int, int], depth: int) -> None:
    samples = RNG.integers(0, 256, (16, 16))
    shown = seen(png(samples, depth=depth, before=[(b"pHYs", struct.pack(">IIB", across, down, 0))]))
    assert shown.shape == (size[1], size[0], 3)


def icc(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"name\0\0" + zlib.compress(profile)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_profile_is_applied(channels: int) -> None:
    samples = np.full((16, 16, channels), 255)
    samples[..., 1:3] = 0
    assert seen(png(samples, before=[icc(SRGB)]))[0, 0].tolist() == [255, 0, 0]
    red, _, blue = seen(png(samples, before=[icc(SWAPPED)]))[0, 0].tolist()
    assert blue > 200 > 60 > red


@pytest.mark.parametrize(
    "content",
    [b"", b"name", b"name\0\0", b"name\0\1x", b"name\0\0" + zlib.compress(b"junk" * 50), b"n\0\0\x78\x9c\xff"],
)
def test_a_profile_that_is_damaged_changes_nothing(content: bytes) -> None:
    samples = RNG.integers(0, 256, (16, 16, 3))
    assert np.array_equal(seen(png(samples, before=[(b"iCCP", content)])), samples)


def test_a_profile_of_another_colour_space_changes_nothing() -> None:
    samples = RNG.integers(0, 256, (16, 16))
    assert np.array_equal(seen(png(samples, before=[icc(SWAPPED)]))[..., 0], samples)


def srgb(light: float) -> float:
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("chunks", "gamma"),
    [
        ([(b"gAMA", struct.pack(">I", 100_000))], 1.0),
        ([(b"gAMA", struct.pack(">I", 55_556))], 0.55556),
        ([(b"gAMA", struct.pack(">I", 45_455))], None),
        ([(b"gAMA", struct.pack(">I", 0))], None),
        ([(b"gAMA", struct.pack(">I", 2**31))], None),
        ([(b"gAMA", b"\1")], None),
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))], None),
        ([icc(SRGB), (b"gAMA", struct.pack(">I", 100_000))], None),
    ],
)
def test_gamma_is_applied_unless_a_profile_or_srgb_is_stated(
    chunks: list[tuple[bytes, bytes]], gamma: float | None
) -> None:
    samples = np.tile(np.arange(256), (16, 1))
    expected = samples[0] if gamma is None else np.array([round(srgb((v / 255) ** (1 / gamma))) for v in range(256)])
    assert np.array_equal(seen(png(samples, before=chunks))[0, :, 0], expected)


def test_of_an_animation_the_first_picture_is_read() -> None:
    first, second = RNG.integers(0, 256, (2, 16, 16))
    frame = struct.pack(">IIIIIHHBB", 0, 16, 16, 0, 0, 1, 10, 0, 0)
    rows = np.insert(second.astype(np.uint8), 0, 0, axis=1).tobytes()
    data = png(
        first, before=[(b"acTL", struct.pack(">II", 2, 0)), (b"fcTL", frame)],
        after=[(b"fcTL", struct.pack(">I", 1) + frame[4:]), (b"fdAT", struct.pack(">I", 2) + zlib.compress(rows))],
    )  # fmt: skip
    assert np.array_equal(seen(data)[..., 0], first)
    assert clean_image(data).frames == 1
    with pytest.raises(MirageError) as caught:
        decode_image(data, frame=1)
    assert caught.value.code is Code.IMAGE_FRAME_OUT_OF_RANGE


def test_the_same_pixels_give_the_same_bytes() -> None:
    samples = RNG.integers(0, 256, (16, 16))
    forms = [
        png(samples),
        png(samples, laced=True, before=[(b"tEXt", b"Title\0Mustermann")]),
        png(np.repeat(samples[..., None], 3, axis=2)),
        png(np.dstack([samples, np.full_like(samples, 255)])),
        png(samples, colour=3, palette=np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()),
    ]
    assert len({clean_image(data).data for data in forms}) == 1


HEADER = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
ROWS = zlib.compress(bytes(17 * 16))


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER)], Code.IMAGE_UNREADABLE),
        ([(b"IDAT", ROWS)], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER[:12]), (b"IDAT", ROWS)], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER[:8] + b"\3" + HEADER[9:]), (b"IDAT", ROWS)], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER[:9] + b"\5" + HEADER[10:]), (b"IDAT", ROWS)], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER[:9] + b"\3" + HEADER[10:]), (b"IDAT", ROWS)], None),
        ([(b"IHDR", HEADER), (b"IDAT", ROWS[:-8])], None),
        ([(b"IHDR", HEADER), (b"IDAT", b"junk")], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER), (b"IDAT", b"")], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", struct.pack(">II", 15, 400) + HEADER[8:]), (b"IDAT", ROWS)], Code.IMAGE_TOO_SMALL),
        (
            [(b"IHDR", struct.pack(">II", 2**31 - 1, 2**31 - 1) + HEADER[8:]), (b"IDAT", ROWS)],
            Code.IMAGE_TOO_MANY_PIXELS,
        ),
        ([(b"IHDR", struct.pack(">II", 7000, 7000) + HEADER[8:]), (b"IDAT", ROWS)], Code.IMAGE_UNREADABLE),
        ([(b"IHDR", HEADER), *[(b"tEXt", b"")] * 110_000, (b"IDAT", ROWS)], Code.IMAGE_TOO_COSTLY),
    ],
)
def test_a_file_that_is_not_sound_ends_in_an_error(parts: list[tuple[bytes, bytes]], code: Code | None) -> None:
    data = SIGNATURE + b"".join(chunk(*part) for part in parts) + chunk(b"IEND", b"")
    for function in (decode_image, clean_image):
        found = None
        try:
            function(data)
        except MirageError as error:
            found = error.code
        assert found in ((code,) if code is not None else (None, Code.IMAGE_UNREADABLE))


def test_packed_texts_are_never_unpacked() -> None:
    bomb = zlib.compress(bytes(2**25))
    before = [(b"zTXt", b"a\0\0" + bomb), (b"iTXt", b"a\0\1\0\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb)] * 40
    samples = RNG.integers(0, 256, (16, 16, 3))
    assert np.array_equal(seen(png(samples, before=before)), samples)
