"""RGB images to the pixels that the image tower takes, as open_clip's evaluation transform does it.

Steps and rounding follow open_clip/transform.py (`image_transform`, is_train=False) and the torchvision functions that
it calls; Pillow resizes with antialiasing in both.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from mirage_inference.bundles import ImageInput

PixelArray: TypeAlias = npt.NDArray[np.float32]

# Length by width from which an image counts as a strip: resized whole, one of 448 px still takes less than 40 MB.
_STRIP = 64
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def preprocess(image: Image.Image, spec: ImageInput) -> PixelArray:
    """float32 array of shape (3, size, size), normalised by the bundle's mean and deviation, of an RGB image."""
    square = _to_square(image, spec)
    scaled = np.asarray(square, dtype=np.float32) / np.float32(255.0)
    mean = np.asarray(spec.mean, dtype=np.float32)
    std = np.asarray(spec.std, dtype=np.float32)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def _to_square(image: Image.Image, spec: ImageInput) -> Image.Image:
    size, resample = spec.size, _FILTERS[spec.interpolation]
    width, height = image.size
    if spec.resize_mode == "squash":
        return _resize(image, size, size, resample)
    if spec.resize_mode == "longest":
        # round() is half to even, as there.
        ratio = max(height / size, width / size)
        image = _resize(image, round(width / ratio), round(height / ratio), resample)
        return _crop_or_pad(image, size, spec.fill_color)
    short, long = min(width, height), max(width, height)
    # An extreme strip is cropped first: what the crop drops need not be resized, and memory stays bounded.
    longer = int(size * long / short)
    if longer > _STRIP * size:
        return _strip(image, size, longer, resample)
    image = _resize(image, *((size, longer) if width <= height else (longer, size)), resample)
    return _crop_or_pad(image, size, spec.fill_color)


def _resize(image: Image.Image, width: int, height: int, resample: Image.Resampling) -> Image.Image:
    width, height = max(1, width), max(1, height)
    return image if image.size == (width, height) else image.resize((width, height), resample)


def _strip(image: Image.Image, size: int, longer: int, resample: Image.Resampling) -> Image.Image:
    # The crop of the resized image, taken as a box of the source: the same sampling grid, without the rest of it. Pillow
    # may then resize rows before columns, so that what it clips between the two differs by some grey levels in noise.
    width, height = image.size
    offset = round((longer - size) / 2.0)
    if width <= height:
        step = height / longer
        return image.resize((size, size), resample, box=(0, offset * step, width, (offset + size) * step))
    step = width / longer
    return image.resize((size, size), resample, box=(offset * step, 0, (offset + size) * step, height))


def _crop_or_pad(image: Image.Image, size: int, fill: int) -> Image.Image:
    width, height = image.size
    if width < size or height < size:
        canvas = Image.new("RGB", (max(width, size), max(height, size)), (fill, fill, fill))
        canvas.paste(image, (max(0, size - width) // 2, max(0, size - height) // 2))
        image, (width, height) = canvas, canvas.size
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))
