"""Greyscale of any depth to 8 bits: the window functions of DICOM PS3.3 C.11.2, percentiles, and look-up tables."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from mirage_core.pixels import PixelInfo, Window

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Stored = npt.NDArray[np.uint16]
# Takes values, returns greys from 0 (black) to 255 (white).
Shading = Callable[[Floats], Bytes]

# Pixels that are converted at a time, so that a large image is never copied as floating point.
_STRIP = 2**20


def linear(window: Window) -> Shading:
    """Returns PS3.3 C.11.2.1.2.1's LINEAR function; a width of 1 or less is read as LINEAR_EXACT."""
    if window.width <= 1:
        return linear_exact(window)
    return lambda values: _greys((values - (window.center - 0.5)) / (window.width - 1) + 0.5)


def linear_exact(window: Window) -> Shading:
    """Returns PS3.3 C.11.2.1.3.2's LINEAR_EXACT: black at center - width / 2, white at center + width / 2."""
    return lambda values: _greys((values - window.center) / window.width + 0.5)


def sigmoid(window: Window) -> Shading:
    """Returns PS3.3 C.11.2.1.3.1's SIGMOID."""

    def shade(values: Floats) -> Bytes:
        # Beyond 700 the exponential overflows; the grey has been 0 or 255 for long by then.
        return _greys(1 / (1 + np.exp(np.clip(-4 * (values - window.center) / window.width, -700, 700))))

    return shade


def _greys(shares: Floats) -> Bytes:
    return np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)


def span(low: float, high: float, *, name: str) -> Window:
    """Returns the window from black at `low` to white at `high`; one of width 1 around a single value."""
    width = high - low
    return Window(name, low + width / 2, width if width > 0 else 1.0)


def strips(shape: tuple[int, int]) -> Iterator[slice]:
    """Yields slices of rows that cover an image of (height, width), of about a million pixels each."""
    rows = max(1, _STRIP // max(1, shape[1]))
    for top in range(0, shape[0], rows):
        yield slice(top, min(top + rows, shape[0]))


def look_up(stored: Stored, table: Bytes) -> Image.Image:
    """Returns the L (or, with a table of (n, 3), RGB) image of a (height, width) array through a table of all its values."""
    height, width = stored.shape
    if table.ndim == 2:
        image = Image.new("RGB", (width, height))
        for rows in strips((height, width)):
            image.paste(Image.fromarray(table[stored[rows]]), (0, rows.start))
        return image
    out = np.empty((height, width), np.uint8)
    for rows in strips((height, width)):
        np.take(table, stored[rows], out=out[rows], mode="clip")
    return Image.fromarray(out)


def count(stored: Stored, size: int) -> npt.NDArray[np.int64]:
    """Returns how often each value from 0 to size - 1 occurs."""
    counts = np.zeros(size, np.int64)
    for rows in strips((stored.shape[0], stored.shape[1])):
        counts += np.bincount(stored[rows].ravel(), minlength=size)[:size]
    return counts


def percentiles(values: Floats, counts: npt.NDArray[np.int64], shares: tuple[float, float]) -> tuple[float, float]:
    """Returns two percentiles (0 to 100) of values that occur `counts` times each, as numpy's default method gives them."""
    order = np.argsort(values, kind="stable")
    ordered, ends = values[order], np.cumsum(counts[order])
    total = int(ends[-1])

    def at(share: float) -> float:
        place = share / 100 * (total - 1)
        below, above = (
            float(ordered[np.searchsorted(ends, int(k), side="right")]) for k in (math.floor(place), math.ceil(place))
        )
        return below + (above - below) * (place - math.floor(place))

    return at(shares[0]), at(shares[1])


def shade_png(
    stored: Stored, info: PixelInfo, *, hidden: npt.NDArray[np.bool_] | None = None
) -> tuple[Image.Image, PixelInfo]:
    """Returns the 8-bit image of a 16-bit greyscale PNG, and its meaning with at least one window.

    The first window is shown; without one in `info`, the range of values in use is. Values that `hidden` marks (one flag for each
    of the 65,536) are transparent: they are white, and do not count for that range.
    """
    values = np.arange(65536, dtype=np.float64) * info.slope + info.intercept
    if info.windows:
        greys = linear(info.windows[0])(values)
    else:
        used = count(stored, 65536) > 0
        if hidden is not None and (used & ~hidden).any():
            used &= ~hidden
        window = span(float(values[used].min()), float(values[used].max()), name="automatic")
        greys = linear_exact(window)(values) if np.ptp(values[used]) > 0 else np.zeros(65536, np.uint8)
        info = PixelInfo(info.bits, info.slope, info.intercept, info.unit, (window,))
    if hidden is not None:
        greys[hidden] = 255
    return look_up(stored, greys), info
