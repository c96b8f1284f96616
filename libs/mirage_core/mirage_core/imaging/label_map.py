"""Label maps as they come in and as they are stored: decoded, checked against their legend, and written again."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from mirage_core.errors import MirageError
from mirage_core.imaging import png
from mirage_core.regions import REGIONS_BYTES, Region, RegionMap, check_legend, refuse

Numbers = npt.NDArray[np.uint8]
_GREY, _PALETTE = 0, 3


@dataclass(frozen=True)
class LabelMap:
    """A label map as it is stored, with the regions that have at least one pixel, in the order of their numbers."""

    png: bytes
    regions: tuple[Region, ...]


def read_label_map(given: RegionMap, width: int, height: int) -> LabelMap:
    """Checks a map that came in with an image of this size. Raises REGIONS_INVALID. Runs in a decoding child."""
    check_legend(given.legend)
    numbers = _numbers(given.png, width, height)
    counts = np.bincount(numbers.ravel(), minlength=256)
    unknown = set(np.flatnonzero(counts).tolist()) - {0, *(each.id for each in given.legend)}
    if unknown:
        raise refuse(f"it has the number {min(unknown)}, which is not in its legend")
    legend = sorted((each for each in given.legend if counts[each.id]), key=lambda each: each.id)
    regions = tuple(
        replace(each, box=box, area=int(counts[each.id]))
        for each, box in zip(legend, _boxes(numbers, [each.id for each in legend]), strict=True)
    )
    encoded = encode_label_map(numbers, regions)
    if len(encoded) > REGIONS_BYTES:
        raise refuse(f"it has more than {REGIONS_BYTES} bytes once it is written again")
    return LabelMap(encoded, regions)


def encode_label_map(numbers: Numbers, legend: Sequence[Region]) -> bytes:
    """Returns a (height, width) array as a PNG with a palette, 8 bits a pixel, neither filtered nor interlaced."""
    palette = np.zeros((256, 3), np.uint8)
    for each in legend:
        palette[each.id] = tuple(bytes.fromhex(each.colour[1:]))
    image = Image.fromarray(numbers)
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=8)
    return buffer.getvalue()


def _numbers(data: bytes, width: int, height: int) -> Numbers:
    if len(data) > REGIONS_BYTES:
        raise refuse(f"it has more than {REGIONS_BYTES} bytes")
    if not data.startswith(png.SIGNATURE):
        raise refuse("it is not a PNG file")
    try:
        parsed = png.parse(data)
    except MirageError as error:
        raise refuse("its PNG file is damaged, or of a size that no image may have") from error
    # The size is checked before anything is unpacked, so no file takes more memory than its image.
    if parsed.size != (width, height):
        raise refuse(f"it has {parsed.size[0]} x {parsed.size[1]} pixels, and its image has {width} x {height}")
    if parsed.colour != _PALETTE and (parsed.colour, parsed.depth) != (_GREY, 8):
        raise refuse("it is not a PNG with a palette or with 8 bits of greyscale")
    try:
        with Image.open(io.BytesIO(parsed.stripped), formats=["PNG"]) as image:
            # Of a palette these are its numbers, not its colours.
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise refuse("its PNG file is damaged") from error


def _boxes(numbers: Numbers, wanted: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Returns left, top, width and height of each number, all of which occur."""
    height, width = numbers.shape
    across, down = np.zeros((256, width), np.bool_), np.zeros((256, height), np.bool_)
    columns = np.arange(width)
    for row in range(height):
        across[numbers[row], columns] = True
        down[numbers[row], row] = True
    boxes = []
    for number in wanted:
        x, y = np.flatnonzero(across[number]), np.flatnonzero(down[number])
        boxes.append((int(x[0]), int(y[0]), int(x[-1] - x[0]) + 1, int(y[-1] - y[0]) + 1))
    return boxes
