"""Volumes with label maps: read from NIfTI or DICOM bytes, turned so that axes are known, islands of the map dropped.

Every volume here has the axes x to the patient's left, y to the back and z to the head: rows and columns of a displayed axial
section are then y and x as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.archives import gunzip

AXES = ("L", "P", "S")
ISLAND_SHARE = 0.05
"""A part of a structure that is not connected to its largest part is dropped if it is smaller than this share of that."""
GRID_MM = 3.0


@dataclass(frozen=True)
class Volume:
    """Values and label map of one examination, int16 and uint8 of the same shape [x, y, z] with the axes `AXES`.

    `spacing` is in mm along these axes. `names` gives the label of each number of the map; 0 is the rest.
    """

    values: NDArray[np.int16]
    map: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    names: Mapping[int, str]


def from_nifti(image: bytes, label_map: bytes, names: Mapping[int, str]) -> Volume:
    """Reads an image and its map, both unpacked NIfTI files. Raises ValueError if they do not fit each other."""
    values, affine = _canonical(_nifti(image))
    return _volume(values, affine, label_map, names)


def from_dicom(files: Sequence[bytes], label_map: bytes, names: Mapping[int, str]) -> Volume:
    """Reads the files of one series and a map in NIfTI. Only pixels and geometry of the files are read. Raises ValueError."""
    import nibabel as nib

    values, affine = _series(files)
    values, affine = _canonical(nib.Nifti1Image(values, affine))
    return _volume(values, affine, label_map, names)


def from_series(files: Sequence[bytes]) -> Volume:
    """Reads the files of one DICOM series without a map. Only pixels and geometry are read. Raises ValueError."""
    import nibabel as nib

    return _without_map(*_canonical(nib.Nifti1Image(*_series(files))))


def echo_ms(file: bytes) -> float:
    """Returns the echo time of a DICOM file in ms, or NaN."""
    import io

    from pydicom import dcmread

    return float(getattr(dcmread(io.BytesIO(file), stop_before_pixels=True), "EchoTime", math.nan))


def from_nrrd(data: bytes) -> Volume:
    """Reads an image without a map: NRRD with 16-bit numbers, packed with gzip, axes counted to left, back and head.

    Raises ValueError for any other. (Format: https://teem.sourceforge.net/nrrd/format.html)
    """
    import nibabel as nib

    head, parted, packed = data.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode("ascii", "replace").splitlines() if ": " in line)
    expected = {"type": "short", "space": "left-posterior-superior", "endian": "little", "encoding": "gzip"}
    if not data.startswith(b"NRRD") or not parted or any(fields.get(name) != value for name, value in expected.items()):
        raise ValueError("not an NRRD file of the form that is read")
    shape = tuple(int(size) for size in fields["sizes"].split())
    numbers = np.frombuffer(gunzip(packed), "<i2")
    if len(shape) != 3 or numbers.size != math.prod(shape):
        raise ValueError("the NRRD file has another number of values than it says")
    affine = np.eye(4)
    affine[:3, :3] = np.array([_vector(each) for each in fields["space directions"].split()]).T
    affine[:3, 3] = _vector(fields["space origin"])
    # NRRD counts to the left and to the back.
    affine[:2] *= -1
    return _without_map(*_canonical(nib.Nifti1Image(numbers.reshape(shape, order="F"), affine)))


def _vector(text: str) -> list[float]:
    return [float(each) for each in text.strip("()").split(",")]


def _without_map(values: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    x, y, z = (float(np.linalg.norm(affine[:3, axis])) for axis in range(3))
    return Volume(values.astype(np.int16, copy=False), np.zeros(values.shape, np.uint8), (x, y, z), {})


def keep_connected(label_map: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Returns the map without islands (`ISLAND_SHARE`), found on a grid of about `GRID_MM` by voxels that share a face."""
    steps = [max(1, int(GRID_MM / each)) for each in spacing]
    coarse = label_map[:: steps[0], :: steps[1], :: steps[2]]
    islands = _islands(coarse)
    for axis, step in enumerate(steps):
        islands = np.repeat(islands, step, axis)
    x, y, z = label_map.shape
    islands = islands[:x, :y, :z]
    return np.where(islands == label_map, np.uint8(0), label_map)


def _islands(label_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the map of what is to be dropped, 0 elsewhere."""
    filled = np.flatnonzero(label_map)
    labels = label_map.ravel()[filled]
    number = np.full(label_map.shape, -1, np.int32)
    number.ravel()[filled] = np.arange(filled.size, dtype=np.int32)
    pairs = []
    for axis in range(3):
        low, high = (tuple(slice(*cut) if a == axis else slice(None) for a in range(3)) for cut in ((0, -1), (1, None)))
        joined = (label_map[low] == label_map[high]) & (label_map[low] > 0)
        pairs.append(np.stack([number[low][joined], number[high][joined]]))
    parts = _roots(np.concatenate(pairs, axis=1), filled.size)
    sizes = np.bincount(parts, minlength=filled.size)
    largest = np.zeros(256, np.int64)
    np.maximum.at(largest, labels, sizes[parts])
    dropped = np.zeros_like(label_map)
    dropped.ravel()[filled] = np.where(sizes[parts] < ISLAND_SHARE * largest[labels], labels, 0)
    return dropped


def _roots(pairs: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Gives each of `count` things the smallest of those that pairs connect it with, at any remove."""
    parts = np.arange(count, dtype=np.int32)
    first, second = pairs
    while True:
        a, b = parts[first], parts[second]
        apart = a != b
        if not apart.any():
            return parts
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(parts, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(further := parts[parts], parts):
            parts = further


def _nifti(data: bytes) -> Any:
    import nibabel as nib

    try:
        return nib.Nifti1Image.from_bytes(data)
    except Exception as error:
        raise ValueError("not a NIfTI file") from error


def _canonical(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values with the axes `AXES`, and the affine from their indices to x right, y front, z up."""
    import nibabel as nib

    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(AXES)
    )
    values = _stored(image.dataobj)
    if values.ndim != 3:
        raise ValueError("not a volume")
    affine = image.affine @ nib.orientations.inv_ornt_aff(turn, values.shape)
    return np.ascontiguousarray(nib.orientations.apply_orientation(values, turn)), affine


def _stored(data: Any) -> NDArray[Any]:
    """Values of a NIfTI file, or of an array, as int16 or uint8."""
    if isinstance(data, np.ndarray):
        return data.astype(np.int16, copy=False)
    values, slope, inter = np.asarray(data.get_unscaled()), data.slope, data.inter
    if (slope, inter) == (1, 0) and values.dtype in (np.uint8, np.int16):
        return values
    stored = np.empty(values.shape, np.int16)
    for number in range(values.shape[-1]):
        # Slice by slice, so that the whole is never there in floating point.
        stored[..., number] = np.rint(np.clip(values[..., number] * slope + inter, -32768, 32767))
    return stored


def _volume(
    values: NDArray[np.int16], affine: NDArray[np.float64], label_map: bytes, names: Mapping[int, str]
) -> Volume:
    labels, place = _canonical(_nifti(label_map))
    if labels.shape != values.shape or not np.allclose(affine, place, atol=0.5):
        raise ValueError("the label map does not fit the image")
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError("the label map has numbers outside of 0 to 255")
    named = np.zeros(256, np.uint8)
    named[list(names)] = list(names)
    labels = named[labels.astype(np.uint8, copy=False)]
    x, y, z = (float(np.linalg.norm(affine[:3, axis])) for axis in range(3))
    return Volume(values.astype(np.int16, copy=False), keep_connected(labels, (x, y, z)), (x, y, z), names)


def _series(files: Sequence[bytes]) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Rescaled values [column, row, slice] and the affine to x right, y front, z up (NIfTI's), of parallel slices."""
    import io

    from pydicom import dcmread

    slices = [dcmread(io.BytesIO(data)) for data in files]
    across = np.array(slices[0].ImageOrientationPatient[:3], np.float64)
    down = np.array(slices[0].ImageOrientationPatient[3:], np.float64)
    normal = np.cross(across, down)
    slices.sort(key=lambda each: float(np.dot(normal, np.array(each.ImagePositionPatient, np.float64))))
    places = [np.array(each.ImagePositionPatient, np.float64) for each in slices]
    steps = np.diff([float(np.dot(normal, place)) for place in places])
    if len(slices) < 2 or not np.allclose(steps, steps[0], atol=0.1):
        raise ValueError("the slices are not evenly spaced")
    values = np.stack(
        [
            each.pixel_array.T * float(getattr(each, "RescaleSlope", 1)) + float(getattr(each, "RescaleIntercept", 0))
            for each in slices
        ],
        axis=2,
    )
    row, column = (float(value) for value in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (
        across * column,
        down * row,
        (places[-1] - places[0]) / (len(places) - 1),
    )
    affine[:3, 3] = places[0]
    # DICOM counts to the left and to the back.
    affine[:2] *= -1
    return np.rint(values).astype(np.int16), affine
