"""A series of MR images of the kidneys that its package keeps as a pickle: arrays are read, and nothing that it names is run."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.parts import Opened, Origin
from mirage_atlas.records import AtlasRecord, BadRow
from mirage_core.imaging import PixelInfo, Window
from mirage_core.imaging.png import encode_deep

TIMES_MS = (118, 1118, 4118)
ORIGIN = Origin(
    "Apache-2.0",
    "Example data of the package mdreg 0.4.4: a healthy volunteer",
    "mdreg contributors (S. Sourbron and others); the package states the Apache-2.0 licence",
)


class _Arrays(pickle.Unpickler):
    """Knows numpy's arrays and plain values; any other thing that a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")):
            return _array
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError("the pickle names something other than arrays")


def _array(data: bytes, dtype: Any, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    return np.frombuffer(data, dtype=dtype).reshape(shape, order=order)


def read_arrays(data: bytes) -> dict[str, Any]:
    """Returns a pickled dict of arrays and plain values. Raises ValueError for any other pickle."""
    try:
        value = _Arrays(io.BytesIO(data)).load()
    except Exception as error:
        raise ValueError("the pickle cannot be read") from error
    if not isinstance(value, dict):
        raise ValueError("the pickle is not a dict")
    return value


@dataclass(frozen=True)
class KidneySeries:
    """Coronal sections at several times after an inversion pulse."""

    files: tuple[str, ...]

    def open(self, data: Sequence[bytes]) -> Opened:
        """One stream, of three times for each section."""
        read = read_arrays(data[0])
        try:
            # Bright values beyond int16 were stored in it all the same.
            images = np.asarray(read["array"]).view(np.uint16)
            times = {round(float(time)): number for number, time in enumerate(read["TI"])}
            chosen = [
                (section, time, images[:, :, section, times[time]].T)
                for time in TIMES_MS
                for section in range(images.shape[2])
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError("the pickle has other arrays") from error
        return Opened(len(chosen), [_records(chosen)])


def _records(chosen: Sequence[tuple[int, int, NDArray[np.uint16]]]) -> Iterator[AtlasRecord | BadRow]:
    for section, time, image in chosen:
        high = float(np.percentile(image, 98.0))
        png = encode_deep(np.ascontiguousarray(image))
        yield AtlasRecord(
            id=f"kidneys-mr-{section}-{time:04d}",
            caption=f"Coronal MRI of the kidneys, {time:,} ms after an inversion pulse (MOLLI, for a map of T1): both kidneys, "
            "the liver at image left (the patient's right) and the spleen at image right, above the left kidney.",
            title=f"MRI of the kidneys, coronal, {time:,} ms after inversion",
            case_id="kidneys-mr",
            labels={
                "modality": ("mr",),
                "plane": ("coronal",),
                "body_part": ("abdomen", "kidney"),
                "structure": ("left kidney", "right kidney", "liver", "spleen"),
                "licence": (ORIGIN.licence.lower(),),
            },
            original_labels={
                "inversion time in ms": str(time),
                "pixel size in mm": "1.50",
                "display": "image left is the patient's right, the head is up",
            },
            licence=ORIGIN.licence,
            source=ORIGIN.source,
            attribution=ORIGIN.attribution,
            sha256=hashlib.sha256(png).hexdigest(),
            image_bytes=png,
            pixels=PixelInfo(16, 1.0, 0.0, "", (Window("automatic", high / 2, max(1.0, high)),)),
        )
