"""DICOM segmentations (SEG): label maps for the images that they name.

Of a segment only codes are read, and called by the standard's own words for them: its label and description are free text, in
which a person may have written a name. A segmentation that does not name its images (Derivation Image Sequence) is not used.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirage_core.dicom.codecs import unpack
from mirage_core.dicom.elements import Elements, Frame, read
from mirage_core.dicom.form import image_format
from mirage_core.imaging.label_map import encode_label_map
from mirage_core.regions import REGIONS_MAX, Region, RegionMap, default_colour

TAGS = (
    "SegmentationType", "SegmentSequence", "MaximumFractionalValue", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_SIDES = {"7771000": "left", "24028007": "right", "51440002": "bilateral", "G-A101": "left", "G-A100": "right"}
_NAME_CHARS = 80


@dataclass(frozen=True)
class _Place:
    """A frame of a file that shows segments on an image."""

    path: Path
    frame: int


class Segmentations:
    """The segmentations of a folder, by the digests of the images that they name."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], list[_Place]] = defaultdict(list)
        self._last: tuple[Path, _File] | None = None

    def add(self, path: Path) -> int:
        """Notes what a file names; returns how many of its frames name an image."""
        file = self._read(path)
        named = 0
        for number in range(file.frames):
            for source in file.sources(number):
                self._places[source].append(_Place(path, number))
                named += 1
        return named

    def _read(self, path: Path) -> _File:
        """The file, which was often read last. Raises MirageError, OSError, and nearly anything of pydicom's."""
        if self._last is None or self._last[0] != path:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._last = path, _File(path.read_bytes())
        return self._last[1]

    def label_map(
        self, image: str, frame: int, shape: tuple[int, int], size: tuple[int, int]
    ) -> tuple[RegionMap, bool] | None:
        """Returns the label map of a frame (from 1) of an image of `shape` (rows, columns) in the size (width, height) that
        is stored, and True if segments overlap on it: there the smaller one is shown. None if no segmentation names it.

        Raises ValueError, saying why, for segments that do not fit the image.
        """
        places = [*self._places.get((image, 0), ()), *self._places.get((image, frame), ())]
        masks: dict[tuple[Path, int], NDArray[np.bool_]] = {}
        names: dict[tuple[Path, int], tuple[str, str]] = {}
        for place in places:
            file = self._read(place.path)
            for number, mask in file.masks(place.frame):
                if mask.shape != shape:
                    raise ValueError("the segmentation has another size than its image")
                key = place.path, number
                masks[key] = masks[key] | mask if key in masks else mask
                names[key] = file.names.get(number, (f"segment {number}", ""))
        masks = {key: mask for key, mask in masks.items() if mask.any()}
        if not masks:
            return None
        if len(masks) > REGIONS_MAX:
            raise ValueError(f"the segmentations of an image have more than {REGIONS_MAX} segments")
        ids = {key: number for number, key in enumerate(masks, start=1)}
        drawn = np.zeros(shape, np.uint8)
        # The smaller of two that overlap is drawn later.
        for key, mask in sorted(masks.items(), key=lambda item: -int(item[1].sum())):
            drawn[mask] = ids[key]
        overlap = sum(int(mask.sum()) for mask in masks.values()) > np.count_nonzero(drawn)
        legend = tuple(Region(ids[key], *names[key], default_colour(ids[key])) for key in masks)
        stored = np.asarray(Image.fromarray(drawn).resize(size, Image.Resampling.NEAREST))
        return RegionMap(encode_label_map(stored, legend), legend), bool(overlap)


class _File:
    """A segmentation that was read."""

    def __init__(self, data: bytes) -> None:
        self._file = read(data, TAGS)
        self._form = image_format(self._file)
        self._elements = self._file.elements
        self.frames = self._form.frames
        self._kind = self._elements.word("SegmentationType")
        self._half = (self._elements.number("MaximumFractionalValue") or 1.0) / 2
        segments = self._elements.items("SegmentSequence")
        self.names = {each.whole("SegmentNumber") or 0: (_name(each), _group(each)) for each in segments}

    def sources(self, number: int) -> set[tuple[str, int]]:
        """Digest of each image that a frame names, and its frame there from 1, or 0 for all."""
        found = set()
        for derivation in Frame(self._elements, number).groups("DerivationImageSequence"):
            for source in derivation.items("SourceImageSequence"):
                if instance := source.word("ReferencedSOPInstanceUID"):
                    frames = source.numbers("ReferencedFrameNumber")[:1] or [0.0]
                    found.add((hashlib.sha256(instance.encode()).hexdigest(), int(frames[0])))
        return found

    def masks(self, number: int) -> list[tuple[int, NDArray[np.bool_]]]:
        """The segments of a frame by their numbers."""
        values = unpack(self._file, self._form, number).values
        if self._kind == "LABELMAP":
            return [(int(each), values == each) for each in np.unique(values) if int(each) in self.names and each]
        segment = Frame(self._elements, number).group("SegmentIdentificationSequence")
        found = segment.whole("ReferencedSegmentNumber") if segment is not None else None
        half = self._half if self._kind == "FRACTIONAL" else 0.5
        return [] if found is None else [(found, values > half)]


def _name(segment: Elements) -> str:
    name = _meaning(segment.items("SegmentedPropertyTypeCodeSequence"))
    if not name:
        return f"segment {segment.whole('SegmentNumber') or 0}"
    for kind in segment.items("SegmentedPropertyTypeCodeSequence")[:1]:
        for modifier in kind.items("SegmentedPropertyTypeModifierCodeSequence"):
            if side := _SIDES.get(modifier.word("CodeValue"), ""):
                name = f"{side} {name}"
    return name[:_NAME_CHARS]


def _group(segment: Elements) -> str:
    return _meaning(segment.items("SegmentedPropertyCategoryCodeSequence"))[:64]


def _meaning(items: Sequence[Elements]) -> str:
    return next(
        (word for each in items if (word := _word(each.word("CodeValue"), each.word("CodingSchemeDesignator")))), ""
    )


@lru_cache(maxsize=1_024)
def _word(value: str, scheme: str) -> str:
    """The standard's own words for a code of SNOMED or DICOM, in lower case, never those of a file; empty for an unknown one."""
    from pydicom.sr.coding import Code as Concept

    if not value or scheme not in ("SCT", "SRT", "DCM"):
        return ""
    wanted = Concept(value, scheme, "")
    # Of several names the shortest: "Kidney", not "Kidney structure (body structure)".
    names = [str(each.meaning) for each in _concepts("DCM" if scheme == "DCM" else "SCT") if each == wanted]
    return min(names, key=lambda name: (len(name), name), default="").lower()


@lru_cache
def _concepts(scheme: str) -> tuple[Any, ...]:
    from pydicom.sr import codes

    known = getattr(codes, scheme)
    return tuple(getattr(known, name) for name in known.dir())
