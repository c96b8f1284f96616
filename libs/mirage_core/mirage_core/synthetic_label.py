"""The visible mark of synthetic images: a band at the lower edge that says so, and how it is found again.

Amber with black letters: no greyscale picture has that, and it reads on dark and light ones alike. Being the same to
the pixel in every image of a size, it is also found in copies that lost their metadata: recompressed, or as a whole
made larger or smaller.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels: TypeAlias = npt.NDArray[np.uint8]
_Bits: TypeAlias = npt.NDArray[np.bool_]

TEXT = "AI GENERATED"
_AMBER, _BLACK = np.array((255, 191, 0), np.uint8), np.zeros(3, np.uint8)
# Rows of letters, a bit a pixel from the left. The large ones are five by seven, the small ones three by five.
_LARGE = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "G": (14, 17, 16, 23, 17, 17, 15),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "T": (31, 4, 4, 4, 4, 4, 4),
    " ": (0,) * 7,
}
_SMALL = {
    "A": (2, 5, 7, 5, 5),
    "D": (6, 5, 5, 5, 6),
    "E": (7, 4, 6, 4, 7),
    "G": (3, 4, 5, 5, 3),
    "I": (7, 2, 2, 2, 7),
    "N": (6, 5, 5, 5, 5),
    "R": (6, 5, 6, 5, 5),
    "T": (7, 2, 2, 2, 2),
    " ": (0,) * 5,
}
# Sides of generated images: a scaled copy had one of these.
_SIDES = range(64, 769, 64)
_ASPECT_TOLERANCE = 0.03
# Pictures of the demo atlas come to 0.12 at most; copies recompressed, grey or smoothly scaled to 0.84 at least.
_ALIKE = 0.5
# Sides of a copy below which the band is unreadable.
_LEGIBLE = 32
_ALIKE_EDGES = 0.4
# Amber is at 188 of 255 in grey; recompressed, it scatters by a few.
_DARK, _UNEVEN = 60.0, 25.0


def draw_label(pixels: Pixels) -> Pixels:
    """Returns a copy of uint8[height, width, 3] with the band over its lower edge; sides of at least 64 pixels.

    Raises ValueError for anything smaller, which is too small for the band.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < _SIDES.start:
        raise ValueError("the picture is too small for the label")
    band = _band(width, height)
    labelled = pixels.copy()
    labelled[height - len(band) :] = band
    return labelled


def label_rows(width: int, height: int) -> int:
    """Returns the rows of the band in an image of this size."""
    return len(_band(width, height))


def shows_label(image: Image.Image) -> bool:
    """Returns True if the lower edge of an RGB image is the band, even recompressed or with the whole image scaled."""
    if min(image.size) < _LEGIBLE or not _may_show_label(image):
        return False
    return any(_is_alike(image, width, height) for width, height in _origins(image.width, image.height))


def _may_show_label(image: Image.Image) -> bool:
    """False for most pictures, at next to no cost: both ends of the last row are plain amber, whatever became of it."""
    row = np.asarray(image.crop((0, image.height - 1, image.width, image.height)).convert("L"), np.float32)[0]
    side = max(1, image.width // 10)
    ends = np.concatenate([row[:side], row[-side:]])
    return bool(ends.mean() > _DARK and ends.std() < _UNEVEN)


def _origins(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Sizes that an image may have been made with, going by its proportions."""
    for wide in _SIDES:
        for high in _SIDES:
            if abs(width * high / (height * wide) - 1) <= _ASPECT_TOLERANCE:
                yield wide, high


def _is_alike(image: Image.Image, width: int, height: int) -> bool:
    # Without the line, into which the picture above it runs in a copy; at the lower resolution of the two.
    band = _band(width, height)
    rows = len(band) - _scale(width, height)
    if image.width >= width:
        box = (0.0, image.height * (1 - rows / height), float(image.width), float(image.height))
        strip = image.resize((width, rows), Image.Resampling.BOX, box=box)
        expected = Image.fromarray(band[-rows:])
    else:
        kept = max(1, rows * image.height // height)
        strip = image.crop((0, image.height - kept, image.width, image.height))
        box = (0.0, max(0.0, len(band) - kept * height / image.height), float(width), float(len(band)))
        expected = Image.fromarray(band).resize((image.width, kept), Image.Resampling.BICUBIC, box=box)
    found, sought = _greys(strip), _greys(expected)
    if _correlation(found, sought) < _ALIKE:
        return False
    # A smooth shade that is darker in the middle is like the band as a whole; the edges of letters are not in it.
    return _correlation(np.diff(found, axis=1), np.diff(sought, axis=1)) >= _ALIKE_EDGES


def _greys(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.asarray(np.asarray(image, np.float32).mean(2), np.float32)


def _correlation(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    one, other = first - first.mean(), second - second.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / length if length > 0 else 0.0


@lru_cache(maxsize=32)
def _band(width: int, height: int) -> Pixels:
    """uint8[rows, width, 3]: the band of an image of this size."""
    letters = _letters(_LARGE, 5) if width >= 128 else _letters(_SMALL, 3)
    scale = _scale(width, height)
    letters = letters.repeat(scale, axis=0).repeat(scale, axis=1)
    margin = 2 * scale
    black = np.zeros((len(letters) + 2 * margin, width), dtype=np.bool_)
    black[:scale] = True  # a line that parts the band from a light picture
    left = (width - letters.shape[1]) // 2
    black[margin + scale // 2 :][: len(letters), left : left + letters.shape[1]] = letters
    return np.where(black[..., None], _BLACK, _AMBER)


def _scale(width: int, height: int) -> int:
    return max(1, min(width // 128, height // 64))


def _letters(font: Mapping[str, Sequence[int]], columns: int) -> _Bits:
    """bool[rows, columns of all letters]: the text, with a column between letters."""
    rows = np.array([font[letter] for letter in TEXT]).T[..., None]
    bits = (rows >> np.arange(columns - 1, -1, -1)) & 1
    spaced = np.pad(bits, ((0, 0), (0, 0), (0, 1)))
    return spaced.reshape(len(bits), -1)[:, :-1].astype(np.bool_)
