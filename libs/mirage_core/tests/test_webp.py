"""WebP: with and without loss, transparency, orientation, profile, and animations."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image, decode_image
from mirage_core.imaging import webp as module
from tests.support.picture_files import exif, extended_webp, riff, webp, webp_chunks

RNG = np.random.default_rng(9)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SRGB.replace(b"rXYZ", b"~XYZ").replace(b"bXYZ", b"rXYZ").replace(b"~XYZ", b"bXYZ")  # red and blue exchanged


def noise(mode: str = "RGB", size: tuple[int, int] = (20, 17)) -> Image.Image:
    channels = len(mode)
    return Image.fromarray(RNG.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8))


def seen(data: bytes) -> np.ndarray:
    """The picture that readers get, after a check that models get the same and that the file is a WebP without loss."""
    clean = clean_image(data)
    assert clean.media_type == "image/webp"
    assert [kind for kind, _ in webp_chunks(clean.data)] == [b"VP8L"]
    shown = np.asarray(decode_image(data).image).astype(int)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(clean.data)).convert("RGB")), shown)
    assert (clean.height, clean.width, clean.frames) == (*shown.shape[:2], 1)
    return shown


@pytest.mark.parametrize("lossless", [False, True])
def test_pixels_come_back_exactly(lossless: bool) -> None:
    data = webp(noise(), lossless=lossless)
    assert np.array_equal(seen(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert clean_image(data) == clean_image(extended_webp_of(data))


def extended_webp_of(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    size = (image.width - 1).to_bytes(3, "little") + (image.height - 1).to_bytes(3, "little")
    return riff(
        [(b"VP8X", bytes((0x0C, 0, 0, 0)) + size), *webp_chunks(data), (b"XMP ", b"Mustermann"), (b"EXIF", b"Erika")]
    )


@pytest.mark.parametrize("lossless", [False, True])
def test_alpha_is_laid_on_white(lossless: bool) -> None:
    image = noise("RGBA")
    image.putalpha(Image.fromarray(RNG.choice([0, 128, 255], (17, 20)).astype(np.uint8)))
    data = webp(image, lossless=lossless, exact=True)
    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    shown = seen(data)
    assert np.abs(shown - (rgba[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1
    assert (shown[rgba[..., 3] == 0] == 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(turn: int) -> None:
    image = noise()
    plain = np.asarray(image)
    upright = {
        1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1], 5: plain.transpose(1, 0, 2),
        6: plain.transpose(1, 0, 2)[:, ::-1], 7: plain[::-1, ::-1].transpose(1, 0, 2), 8: plain.transpose(1, 0, 2)[::-1],
    }[turn]  # fmt: skip
    for block in (exif(turn), b"Exif\0\0" + exif(turn, order=">")):
        assert np.array_equal(seen(extended_webp(image, lossless=True, added=[(b"EXIF", block)])), upright)


def test_a_profile_is_applied() -> None:
    red = Image.new("RGB", (20, 20), (255, 0, 0))
    assert seen(extended_webp(red, lossless=True, added=[(b"ICCP", SRGB)]))[0, 0].tolist() == [255, 0, 0]
    first, _, last = seen(extended_webp(red, lossless=True, added=[(b"ICCP", SWAPPED)]))[0, 0].tolist()
    assert last > 200 > 60 > first
    assert seen(extended_webp(red, lossless=True, added=[(b"ICCP", b"Mustermann")]))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_of_an_animation_the_first_frame_is_read(mode: str) -> None:
    first, second = noise(mode), Image.new(mode, (20, 17))
    data = webp(first, lossless=True, save_all=True, append_images=[second, second], duration=100, exact=True)
    assert [kind for kind, _ in webp_chunks(data)].count(b"ANMF") >= 2
    plain = np.asarray(first).astype(float)
    alpha = plain[..., 3:] / 255 if mode == "RGBA" else 1.0
    assert np.abs(seen(data) - (plain[..., :3] * alpha + 255 * (1 - alpha))).max() <= 1
    with pytest.raises(MirageError) as caught:
        clean_image(data, frame=1)
    assert caught.value.code is Code.IMAGE_FRAME_OUT_OF_RANGE


def test_a_large_image_becomes_a_png(monkeypatch: pytest.MonkeyPatch) -> None:
    data = webp(noise(), lossless=True)
    monkeypatch.setattr(module, "LOSSLESS_PIXELS", 100)
    clean = clean_image(data)
    assert clean.media_type == "image/png"
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(clean.data)).convert("RGB")), np.asarray(decode_image(data).image)
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (riff([]), Code.IMAGE_UNREADABLE),
        (riff([(b"VP8 ", b"")]), Code.IMAGE_UNREADABLE),
        (riff([(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(100))]), Code.IMAGE_TOO_MANY_PIXELS),
        (riff([(b"VP8 ", b"\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(100))]), Code.IMAGE_TOO_MANY_PIXELS),
        (
            riff([(b"VP8X", b"\2\0\0\0" + b"\xff" * 6), (b"ANIM", bytes(6)), (b"ANMF", bytes(40))]),
            Code.IMAGE_TOO_MANY_PIXELS,
        ),
        (riff([(b"VP8X", b"\2\0\0\0\x13\0\0\x13\0\0"), (b"ANMF", bytes(4))]), Code.IMAGE_UNREADABLE),
        (webp(noise(size=(15, 40))), Code.IMAGE_TOO_SMALL),
        (webp(noise())[:-100], Code.IMAGE_UNREADABLE),
        (riff([(b"XMP ", b"")] * 11_000), Code.IMAGE_TOO_COSTLY),
    ],
)
def test_a_file_that_is_not_sound_ends_in_an_error(data: bytes, code: Code) -> None:
    for function in (decode_image, clean_image):
        with pytest.raises(MirageError) as caught:
            function(data)
        assert caught.value.code is code
