import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_core.synthetic_label import draw_label, shows_label

SIZES = [(64, 64), (128, 128), (512, 512), (768, 64), (64, 768), (512, 320)]
GROUNDS = ("black", "white", "noise")
ATLAS = Path(__file__).resolve().parents[3] / "atlas" / "mirage_atlas" / "demo" / "data" / "images"


def ground(width: int, height: int, kind: str) -> np.ndarray:
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.full((height, width, 3), 255 if kind == "white" else 0, np.uint8)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("kind", GROUNDS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_label_is_found_in_copies(width: int, height: int, kind: str) -> None:
    plain = ground(width, height, kind)
    labelled = Image.fromarray(draw_label(plain))
    assert not shows_label(Image.fromarray(plain))
    assert shows_label(labelled)
    assert shows_label(labelled.convert("L").convert("RGB"))
    assert all(shows_label(jpeg(labelled, quality)) for quality in (90, 50, 30))
    for factor in (0.5, 0.75, 1.3, 2.0):
        size = round(width * factor), round(height * factor)
        assert shows_label(labelled.resize(size, Image.Resampling.BICUBIC)), factor


def test_the_label_covers_the_lower_edge_and_nothing_else() -> None:
    plain = ground(512, 512, "noise")
    before = plain.copy()
    labelled = draw_label(plain)
    assert np.array_equal(plain, before)
    changed = np.flatnonzero((labelled != plain).any(axis=(1, 2)))
    assert changed.min() > 512 * 0.9
    assert np.array_equal(draw_label(plain), labelled)


@pytest.mark.parametrize("kind", ["black", "white"])
def test_the_label_stands_out_from_dark_and_light_pictures(kind: str) -> None:
    band = draw_label(ground(128, 128, kind))[-8:]
    colours, counts = np.unique(band.reshape(-1, 3), axis=0, return_counts=True)
    assert {tuple(colour) for colour in colours.tolist()} == {(255, 191, 0), (0, 0, 0)}
    # Colourful, as no greyscale picture is, and letters take up a good part of it.
    assert 0.1 < counts.min() / counts.sum() < 0.4


def test_pictures_of_the_atlas_show_no_label() -> None:
    files = sorted(ATLAS.glob("*.webp"))[::10]
    assert len(files) > 50
    assert not [path.name for path in files if shows_label(Image.open(path).convert("RGB"))]


def test_a_picture_without_room_for_the_label_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        draw_label(np.zeros((64, 63, 3), np.uint8))


def test_a_one_coloured_picture_shows_no_label() -> None:
    assert not shows_label(Image.new("RGB", (128, 128), (255, 191, 0)))
    assert not shows_label(Image.new("RGB", (1, 1000)))


def test_no_size_of_a_bright_picture_is_too_odd_to_look_at() -> None:
    sides = (1, 2, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 100, 129, 700, 3000)
    assert not [size for size in product(sides, sides) if shows_label(Image.new("RGB", size, (255, 191, 0)))]


@pytest.mark.parametrize("side", [64, 80, 96, 128, 200, 512])
def test_smooth_shades_are_not_taken_for_the_label(side: int) -> None:
    shade = Image.radial_gradient("L").resize((side, side))
    assert not any(shows_label(each.convert("RGB")) for each in (shade, shade.point(lambda grey: 255 - grey)))
