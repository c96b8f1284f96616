"""The encoder's preprocessing against open_clip's evaluation transform, pixel by pixel."""

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from mirage_inference.bundles import ImageInput
from mirage_inference.encoder.preprocessing import preprocess

# Both are Pillow's resize; float32 arithmetic in another order leaves two thousandths of one grey level of 255.
TOLERANCE = 8e-6


def both(
    mode: str, interpolation: str, size: tuple[int, int], *, side: int, fill: int
) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    cfg = PreprocessCfg(size=side, resize_mode=mode, interpolation=interpolation, fill_color=fill)
    spec = ImageInput.model_validate(
        {
            "size": side,
            "mean": cfg.mean,
            "std": cfg.std,
            "resize_mode": mode,
            "interpolation": interpolation,
            "fill_color": fill,
        }
    )
    return preprocess(image, spec), image_transform_v2(cfg, is_train=False)(image).numpy()


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    "size",
    [(16, 16), (97, 233), (233, 97), (224, 224), (225, 223), (448, 449), (641, 480), (1001, 333), (17, 100), (40, 900)],
)
@pytest.mark.parametrize("side", [120, 225])
def test_pixels_are_those_of_open_clip(mode: str, interpolation: str, size: tuple[int, int], side: int) -> None:
    ours, theirs = both(mode, interpolation, size, side=side, fill=7)
    assert ours.shape == theirs.shape == (3, side, side)
    assert np.abs(ours - theirs).max() <= TOLERANCE
