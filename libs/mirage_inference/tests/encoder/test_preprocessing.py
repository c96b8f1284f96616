import numpy as np
import pytest
from PIL import Image

from mirage_inference.bundles import ImageInput
from mirage_inference.encoder.preprocessing import preprocess

RED, BLUE = (255, 0, 0), (0, 0, 255)


def spec(mode: str = "shortest", *, size: int = 32, fill: int = 0) -> ImageInput:
    return ImageInput.model_validate(
        {
            "size": size,
            "mean": (0.5, 0.25, 0.0),
            "std": (0.5, 0.25, 1.0),
            "resize_mode": mode,
            "interpolation": "bicubic",
            "fill_color": fill,
        }
    )


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def test_pixels_are_channels_first_and_normalised() -> None:
    pixels = preprocess(Image.new("RGB", (32, 32), (255, 128, 0)), spec())
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.float32
    assert np.allclose(pixels[0], 1.0)
    assert np.allclose(pixels[1], (128 / 255 - 0.25) / 0.25)
    assert np.allclose(pixels[2], 0.0)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(16, 16), (17, 401), (401, 17), (33, 32), (640, 480), (31, 1)])
def test_every_size_becomes_the_same_square(mode: str, size: tuple[int, int]) -> None:
    pixels = preprocess(halves(*size), spec(mode))
    assert pixels.shape == (3, 32, 32)
    assert np.isfinite(pixels).all()


def test_shortest_keeps_the_middle() -> None:
    pixels = preprocess(halves(96, 32), spec("shortest"))
    assert pixels[0, 16, 2] > 0.9  # red just left of the middle
    assert pixels[2, 16, 29] > 0.9  # blue just right of it


def test_longest_pads_with_the_fill_colour() -> None:
    pixels = preprocess(Image.new("RGB", (64, 32), (255, 255, 255)), spec("longest", fill=0))
    assert np.allclose(pixels[2, 0], 0.0)
    assert np.allclose(pixels[2, 16], 1.0)


def test_a_very_long_strip_needs_no_huge_image() -> None:
    # 16 x 1,000,000: resized whole it would be 32 x 2,000,000 pixels.
    strip = preprocess(halves(1_000_000, 16), spec("shortest"))
    assert strip[0, 16, 0] > 0.9
    assert strip[2, 16, 31] > 0.9


def test_a_strip_is_cropped_as_if_it_had_been_resized_whole() -> None:
    ramp = np.linspace(0, 255, 16 * 1600).reshape(16, 1600, order="F").astype(np.uint8)
    strip = Image.fromarray(np.repeat(ramp[:, :, None], 3, axis=2))
    whole = strip.resize((3200, 32), Image.Resampling.BICUBIC).crop((1584, 0, 1616, 32))
    expected = (np.asarray(whole, np.float32).transpose(2, 0, 1) / 255)[2]
    assert np.abs(preprocess(strip, spec("shortest"))[2] - expected).max() <= 1.001 / 255
