"""Statistics of a picture's pixels, without a model: colour, darkness, flatness; twelve numbers between -1 and 1."""

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 128
NAMES = (
    "chroma_mean",
    "chroma_high",
    "hue_spread",
    "redness",
    "greenness",
    "black_share",
    "white_share",
    "border_light",
    "border_spread",
    "light_mean",
    "edge_mean",
    "flat_share",
)

Array = npt.NDArray[np.float32]


def picture_statistics(image: Image.Image) -> Array:
    """float32 [12], in the order of NAMES, of an RGB picture as it is seen at 128 x 128 pixels."""
    pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32) / 255.0
    light = pixels.mean(axis=2)
    chroma = pixels.max(axis=2) - pixels.min(axis=2)
    border = np.concatenate([light[:6].ravel(), light[-6:].ravel(), light[:, :6].ravel(), light[:, -6:].ravel()])
    steps = np.abs(np.diff(light, axis=0))[:, :-1] + np.abs(np.diff(light, axis=1))[:-1]
    return np.array(
        [
            chroma.mean(),
            np.quantile(chroma, 0.95),
            *_hue(pixels, chroma),
            (light < 0.06).mean(),
            (light > 0.94).mean(),
            border.mean(),
            border.std() * 2,
            light.mean(),
            min(1.0, float(steps.mean()) * 5),
            (steps < 0.004).mean(),
        ],
        dtype=np.float32,
    )


def squared(statistics: Array) -> Array:
    """float32 [24]: statistics and their squares, as the gates take them."""
    return np.concatenate([statistics, statistics * statistics])


def _hue(pixels: Array, chroma: Array) -> tuple[float, float, float]:
    """Returns the spread of hues (0: one hue or hardly any colour, towards 1: many), and the mean colour on two
    axes.
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    # The plane of equal lightness: two axes at right angles, so that opposite hues cancel out.
    first = float((red - (green + blue) / 2).mean())
    second = float(((green - blue) * np.float32(np.sqrt(3) / 2)).mean())
    weight = float(chroma.mean())
    spread = 0.0 if weight < 0.02 else max(0.0, 1.0 - float(np.hypot(first, second)) / weight)
    return spread, first, second
