"""A folder of DICOM files: series by series, the pixels alone, described by technical headers from a short list.

Nothing of a patient, a person, a place or a date is read, kept or logged: only the tags in `_TAGS`, of which free texts are not
one. Identifiers of series and instances tell files apart while reading and leave as digests. What is stored is a PNG of the
windowed pixels, never the file. Pixels may still show a name: a file that says so (BurnedInAnnotation) is left out.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from mirage_atlas.folder import IMAGE_BYTES
from mirage_atlas.records import AtlasRecord, BadRow, Labels
from mirage_core.dicom import decode_dicom
from mirage_core.errors import MirageError
from mirage_core.imaging import encode_png

logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "BodyPartExamined", "ViewPosition", "Laterality",
    "ImageLaterality", "ImageOrientationPatient", "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "BurnedInAnnotation",
    "SequenceVariant", "ScanningSequence", "RepetitionTime", "EchoTime", "InversionTime", "SliceThickness",
)  # fmt: skip
_MODALITIES = {
    "CR": "x-ray", "DX": "x-ray", "RF": "x-ray", "XA": "x-ray", "MG": "x-ray", "IO": "x-ray", "PX": "x-ray", "CT": "ct",
    "MR": "mr", "US": "us", "IVUS": "us", "NM": "nm", "PT": "nm", "OP": "fundus", "SM": "histology", "GM": "histology",
}  # fmt: skip
_WORDS = {"x-ray": "X-ray", "ct": "CT", "mr": "MRI", "us": "Ultrasound", "nm": "Nuclear medicine", "fundus": "Fundus photograph",
          "histology": "Histology", "other": "Image"}  # fmt: skip
_NO_PICTURE = frozenset({"PR", "KO", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "REG", "DOC", "ECG", "AU", "PLAN"})
_SIDES = {"L": "left", "R": "right", "B": "bilateral"}
_VIEWS = {"AP": "frontal", "PA": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
PER_SERIES = 1
SOURCE = "DICOM files of the operator"


@dataclass(frozen=True)
class _Slice:
    """One file of a series: where it stands and what its headers say."""

    path: Path
    number: int
    instance: str
    labels: Labels
    frames: int


class DicomReader:
    """Reads every DICOM file below `path`; of each series the middle one, or `per_series` spread over it evenly.

    A file with several frames is one record, of its middle frame. `licence` and `source` are the operator's to state.
    """

    def __init__(
        self, path: Path, *, per_series: int = PER_SERIES, licence: str = "not stated", source: str = SOURCE
    ) -> None:
        self._path = path.resolve()
        self._per_series = max(1, per_series)
        self._licence = licence
        self._source = source

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records by series; files that give none are named by their number in the order of names."""
        series: dict[str, list[_Slice]] = {}
        for number, path in enumerate(dicom_files(self._path), start=1):
            found = _look(path)
            if isinstance(found, str):
                yield BadRow(number, found)
                continue
            key, each = found
            series.setdefault(key, []).append(each)
        for key, slices in series.items():
            slices.sort(key=lambda each: (each.number, each.instance))
            for place, each in _spread(slices, self._per_series):
                yield self._record(key, each, place, len(slices))

    def _record(self, key: str, each: _Slice, place: int, count: int) -> AtlasRecord | BadRow:
        try:
            image, _ = decode_dicom(each.path.read_bytes())
        except OSError:
            return BadRow(place, "the file cannot be read")
        except MirageError as error:
            return BadRow(place, f"the pixels cannot be decoded ({error.code})")
        data = encode_png(image)
        labels = {**each.labels, "licence": (self._licence.lower(),)}
        return AtlasRecord(
            id=f"dicom-{key[:16]}-{each.instance[:12]}",
            caption=_caption(each, place, count),
            labels=labels,
            original_labels={"series": key[:16], "slice": f"{place} of {count}"},
            licence=self._licence,
            source=self._source,
            attribution="",
            sha256=hashlib.sha256(data).hexdigest(),
            image_bytes=data,
        )


def dicom_files(path: Path) -> Iterator[Path]:
    """Regular files below a path, by name; links and special files are not followed, DICOMDIR is left out."""
    if path.is_file() and not path.is_symlink():
        yield path
        return
    for folder, folders, names in os.walk(path, followlinks=False):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            if name.upper() != "DICOMDIR" and not name.startswith(".") and not file.is_symlink() and file.is_file():
                yield file


def is_dicom(path: Path) -> bool:
    """True for a file with DICOM's preamble."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _look(path: Path) -> tuple[str, _Slice] | str:
    """Digest of the series with the slice, or why the file gives none."""
    try:
        if path.stat().st_size > IMAGE_BYTES:
            return "the file is too large"
        if not is_dicom(path):
            return "the file is no DICOM"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(io.BytesIO(path.read_bytes()), specific_tags=list(_TAGS), stop_before_pixels=False)
            whole = pydicom.dcmread(path, stop_before_pixels=False, defer_size=1024, specific_tags=["PixelData"])
    except (InvalidDicomError, OSError):
        return "the file is no DICOM"
    # pydicom raises nearly anything on a damaged file, and its words may quote a header.
    except Exception:
        return "the DICOM file is damaged"
    try:
        return _described(path, header, has_pixels="PixelData" in whole)
    except Exception:
        return "the DICOM headers are damaged"


def _described(path: Path, header: pydicom.Dataset, *, has_pixels: bool) -> tuple[str, _Slice] | str:
    modality = str(header.get("Modality", "")).upper()
    if modality in _NO_PICTURE or "1.2.840.10008.5.1.4.1.1.104" in str(header.get("SOPClassUID", "")):
        return "the DICOM file holds a document or a plan and no picture"
    if not has_pixels:
        return "the DICOM file has no pixels"
    if str(header.get("BurnedInAnnotation", "")).upper() == "YES":
        return "the picture has annotations burned in, which may name a patient"
    labels: Labels = {"modality": (_MODALITIES.get(modality, "other"),)}
    part = _plain_words(str(header.get("BodyPartExamined", "")))
    if part:
        labels["body_part"] = (part,)
    plane = _plane(header)
    if plane:
        labels["plane"] = (plane,)
    side = _SIDES.get(str(header.get("ImageLaterality") or header.get("Laterality") or "").upper())
    if side:
        labels["side"] = (side,)
    if modality == "MR" and (sequence := _sequence(header)):
        labels["sequence"] = (sequence,)
    instance = _digest(str(header.get("SOPInstanceUID", "")) or str(path))
    key = _digest(str(header.get("SeriesInstanceUID", "")) or str(path))
    frames = max(1, int(header.get("NumberOfFrames") or 1))
    return key, _Slice(path, int(header.get("InstanceNumber") or 0), instance, labels, frames)


def _plain_words(text: str) -> str:
    """BodyPartExamined is a coded word (PS3.16 annex L); anything that is not letters is not one and is not kept."""
    words = text.strip().lower()
    return words if words.replace(" ", "").replace("_", "").isalpha() and len(words) <= 16 else ""


def _plane(header: pydicom.Dataset) -> str:
    view = _VIEWS.get(str(header.get("ViewPosition", "")).upper(), "")
    cosines = header.get("ImageOrientationPatient")
    if view or cosines is None or len(cosines) != 6:
        return view
    row, column = [float(v) for v in cosines[:3]], [float(v) for v in cosines[3:]]
    normal = [
        abs(row[1] * column[2] - row[2] * column[1]),
        abs(row[2] * column[0] - row[0] * column[2]),
        abs(row[0] * column[1] - row[1] * column[0]),
    ]
    largest = max(normal)
    if largest < 0.8:
        return "oblique"
    return ("sagittal", "coronal", "axial")[normal.index(largest)]


def _sequence(header: pydicom.Dataset) -> str:
    """t1, t2 or flair by echo, repetition and inversion times in ms (conventional spin echo ranges); empty in between."""
    repetition, echo, inversion = (
        float(header.get(name) or 0) for name in ("RepetitionTime", "EchoTime", "InversionTime")
    )
    if inversion > 1500 and echo > 60:
        return "flair"
    if repetition > 2000 and echo > 60:
        return "t2"
    return "t1" if 0 < repetition < 1000 and 0 < echo < 30 else ""


def _caption(each: _Slice, place: int, count: int) -> str:
    """`Axial CT of the chest, section 12 of 40.`: nothing but coded headers."""
    labels = each.labels
    plane = labels.get("plane", ("",))[0]
    part = labels.get("body_part", ("",))[0].replace("_", " ")
    sequence = labels.get("sequence", ("",))[0].upper()
    side = labels.get("side", ("",))[0]
    words = " ".join(filter(None, (plane, sequence, _WORDS[labels["modality"][0]])))
    of = f" of the {side + ' ' if side else ''}{part}" if part else ""
    where = (
        f", section {place} of {count}"
        if count > 1
        else (f", middle of {each.frames} frames" if each.frames > 1 else "")
    )
    return f"{words[0].upper()}{words[1:]}{of}{where}."


def _spread(slices: list[_Slice], count: int) -> list[tuple[int, _Slice]]:
    """Up to `count` of the slices with their places, in the middle of equal parts."""
    count = min(count, len(slices))
    places = [int((i + 0.5) * len(slices) / count) for i in range(count)]
    return [(place + 1, slices[place]) for place in places]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
