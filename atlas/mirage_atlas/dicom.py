"""A folder of DICOM files: series by series, the pixels alone, described by technical headers from a short list.

Nothing of a patient, a person, a place or a date is read, kept or logged: only the tags in `_TAGS`, of which free texts are not
one. Identifiers of series and instances distinguish files while reading, and leave as digests. What is stored is a picture of the
pixels, never the file. Pixels may still show a name: a file that says so (BurnedInAnnotation) is left out.

A file's name may be a patient's, too. So complaints call files by their number: the place among all files of the folder in the
order of their names. This shows the 17th: `cd FOLDER; find . -not -path '*/.*' ! -type d | LC_ALL=C sort | sed -n 17p`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from mirage_atlas.dicom_segments import Segmentations
from mirage_atlas.facets import facet_values
from mirage_atlas.folder import Folder, RowError, is_hidden
from mirage_atlas.records import AtlasRecord, BadRow, Labels, LeftOut
from mirage_core.dicom.elements import Elements, Frame, read
from mirage_core.dicom.layout import looks_like_dicom
from mirage_core.dicom.stated import MODALITIES, VIEWS
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import clean_image
from mirage_core.synthetic import is_marked

logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "BodyPartExamined", "ViewPosition", "Laterality",
    "ImageLaterality", "ImageOrientationPatient", "ImagePositionPatient", "InstanceNumber", "NumberOfFrames", "Rows", "Columns",
    "BurnedInAnnotation", "RecognizableVisualFeatures", "RepetitionTime", "EchoTime", "InversionTime", "AnatomicRegionSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_WORDS = {"x-ray": "X-ray", "ct": "CT", "mr": "MRI", "us": "Ultrasound", "nm": "Nuclear medicine", "fundus": "Fundus photograph",
          "histology": "Histology", "other": "Image"}  # fmt: skip
_NO_PICTURE = frozenset({"PR", "KO", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "DOC", "ECG", "AU", "PLAN"})
_SIDES = {"L": "left", "R": "right", "B": "bilateral"}
_SHOWS_PERSON = ("BurnedInAnnotation", "RecognizableVisualFeatures")
_START_BYTES = 2**20
_SIGNATURE_BYTES = 512
_OTHER_KINDS = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
    b"%PDF",
    b"PK\3\4",
    b"\x1f\x8b",
    b"MZ",
    b"\x7fELF",
    b"BM",
)
_BODY_PARTS = frozenset(
    [
        "abdomen",
        "abdomenpelvis",
        "acjoint",
        "adrenal",
        "ankle",
        "anus",
        "aorta",
        "aorticarch",
        "arm",
        "artery",
        "axilla",
        "back",
        "bileduct",
        "bladder",
        "bone",
        "brain",
        "breast",
        "bronchus",
        "buttock",
        "calcaneus",
        "calf",
        "carotid",
        "cerebellum",
        "cerebrum",
        "cerebralart",
        "cervicalspine",
        "chest",
        "chestabdomen",
        "chestabdpelvis",
        "circleofwillis",
        "clavicle",
        "coccyx",
        "colon",
        "cornea",
        "coronaryartery",
        "cspine",
        "ctspine",
        "duodenum",
        "ear",
        "elbow",
        "esophagus",
        "extremity",
        "eye",
        "eyelid",
        "face",
        "femur",
        "fibula",
        "finger",
        "foot",
        "forearm",
        "gallbladder",
        "hand",
        "head",
        "headneck",
        "heart",
        "hip",
        "humerus",
        "iac",
        "ileum",
        "ilium",
        "jaw",
        "jejunum",
        "kidney",
        "knee",
        "larynx",
        "leg",
        "liver",
        "lowerextremity",
        "lowerleg",
        "lspine",
        "lssspine",
        "lsspine",
        "lumbarspine",
        "lung",
        "mandible",
        "maxilla",
        "mediastinum",
        "mouth",
        "muscle",
        "neck",
        "neckchest",
        "neckchestabdomen",
        "neckchestabdpelv",
        "nose",
        "orbit",
        "ovary",
        "pancreas",
        "pancreaticduct",
        "parotid",
        "patella",
        "pelvis",
        "penis",
        "pharynx",
        "prostate",
        "radius",
        "radiusulna",
        "rectum",
        "retina",
        "rib",
        "ribs",
        "sacrum",
        "scalp",
        "scapula",
        "scrotum",
        "shoulder",
        "sijoint",
        "sinus",
        "sinuses",
        "skin",
        "skull",
        "spine",
        "spleen",
        "sspine",
        "sternum",
        "stomach",
        "testis",
        "thigh",
        "thoracicspine",
        "thorax",
        "thumb",
        "thymus",
        "thyroid",
        "tibia",
        "tibiafibula",
        "tlspine",
        "tmj",
        "tmjoint",
        "toe",
        "tongue",
        "tooth",
        "trachea",
        "tspine",
        "ulna",
        "upperarm",
        "upperextremity",
        "ureter",
        "urethra",
        "uterus",
        "vagina",
        "vein",
        "vulva",
        "wholebody",
        "wrist",
        "zygoma",
    ]
)
"""Defined terms of Body Part Examined (PS3.16 annex L) and usual ones; any other word could be somebody's name."""
PER_SERIES = 1
SOURCE = "DICOM files of the operator"
_FORMER_MAX = 1_000
_Vector = tuple[float, float, float]


@dataclass(frozen=True)
class _Plane:
    """Orientation and position of a frame: unit normal and position in mm; None if the file does not say."""

    normal: _Vector | None = None
    position: _Vector | None = None

    def along(self, normal: _Vector) -> float | None:
        """The place along a normal, in mm to two decimals: sections at the same place are the same section."""
        return None if self.position is None else round(_dot(self.position, normal), 2)


@dataclass(frozen=True)
class _Slice:
    """One file of a series: where it is and what its headers say of the frame that is shown.

    `section` is the place of that frame in a stack within the file, and how many sections this has; (0, 0) if it has none.
    """

    path: Path
    file: int
    number: int
    instance: str
    size: tuple[int, int]
    plane: _Plane
    labels: Labels
    frames: int
    frame: int
    section: tuple[int, int] = (0, 0)


class _SegmentationFoundError(Exception):
    """A file that outlines structures on other images."""


class DicomReader:
    """Reads every DICOM file below `path`; of each series the middle one, or `per_series` spread over it evenly.

    Segmentations become the label maps of the images that they name.

    Sections are ordered by their position along the normal of their planes. A series with several stacks (a localizer, say) gives
    the middle of its largest. A file with several frames is one record, of its middle section. The id is that of the series, so a
    series that has grown updates its record. `licence` and `source` are the operator's to state.
    """

    def __init__(
        self,
        path: Path,
        *,
        per_series: int = PER_SERIES,
        licence: str = "not stated",
        source: str = SOURCE,
        follow_links: bool = False,
    ) -> None:
        self._path = path
        self._follow = follow_links
        self._folder = Folder(path, follow_links=follow_links)
        self._per_series = max(1, per_series)
        self._licence = licence
        self._source = source
        self.left_out = LeftOut()

    def read(self) -> Iterator[AtlasRecord | BadRow]:
        """Records by series; DICOM files that give none are named by their number in the order of names.

        Text and other files that never were DICOM do not count as rows: `left_out` has them.
        """
        series: dict[str, list[_Slice]] = {}
        self._segmentations = Segmentations()
        for number, path in dicom_files(self._path, follow_links=self._follow):
            try:
                key, each = _look(self._folder.checked(path), number)
            except _OtherKindError:
                self.left_out.add_other(_name(number))
                continue
            except _SegmentationFoundError:
                if problem := self._take_segmentation(path):
                    yield BadRow(0, problem, _name(number))
                continue
            except RowError as error:
                yield BadRow(0, str(error), _name(number))
                continue
            except MirageError as error:
                yield BadRow(0, _plain(error), _name(number), error.code)
                continue
            series.setdefault(key, []).append(each)
        for key, slices in series.items():
            former = tuple(f"dicom-{key[:16]}-{each.instance[:12]}" for each in slices[:_FORMER_MAX])
            stack = _stack(slices)
            for part, (place, each) in enumerate(_spread(stack, self._per_series), start=1):
                suffix = f"-{part}of{self._per_series}" if self._per_series > 1 else ""
                made = self._record(f"dicom-{key[:16]}{suffix}", key, each, place, len(stack))
                yield replace(made, former_ids=() if suffix else former) if isinstance(made, AtlasRecord) else made

    def _take_segmentation(self, path: Path) -> str:
        """Notes which images it outlines; returns what is wrong with it, or ""."""
        try:
            named = self._segmentations.add(path)
        # As of any other file: pydicom raises nearly anything.
        except Exception:
            return "the segmentation is damaged, or its pixels cannot be read"
        return "" if named else "the segmentation does not name the images that it is about"

    def _record(self, identity: str, key: str, each: _Slice, place: int, count: int) -> AtlasRecord | BadRow:
        name = _name(each.file)
        try:
            data = each.path.read_bytes()
            # Looked for here: what is sent says nothing of it.
            if is_marked(data):
                raise MirageError(Code.SYNTHETIC_REFUSED)
            clean = clean_image(data, frame=each.frame if each.frames > 1 else None)
        except OSError:
            return BadRow(0, "the file cannot be read", name)
        except MirageError as error:
            return BadRow(0, _plain(error), name, error.code)
        try:
            outlined = self._segmentations.label_map(
                each.instance, each.frame + 1, each.size, (clean.width, clean.height)
            )
        except ValueError as error:
            return BadRow(0, str(error), name)
        except Exception:
            return BadRow(0, "the segmentation of the image cannot be read", name)
        regions, overlap = outlined or (None, False)
        if overlap:
            self.left_out.add_overlap(name)
        labels = {**each.labels, "licence": facet_values([self._licence])}
        sent = clean.data if clean.pixels_data is None else clean.pixels_data
        if count == 1 and each.section != (0, 0):
            place, count = each.section
        return AtlasRecord(
            id=identity,
            caption=_caption(each, place, count),
            labels=labels,
            original_labels={"series": key[:16], "slice": f"{place} of {count}"},
            licence=self._licence,
            source=self._source,
            attribution="",
            sha256=hashlib.sha256(sent).hexdigest(),
            image_bytes=sent,
            # Two files may hold the same numbers and mean other ones by them.
            made_from=hashlib.sha256(data).hexdigest(),
            pixels=clean.pixels,
            regions=regions,
            file=name,
        )


def dicom_files(path: Path, *, follow_links: bool = False) -> Iterator[tuple[int, Path]]:
    """The files below a path with their number in the order of their names; without hidden files and the indexes named DICOMDIR.

    Folders that are links are entered with `follow_links` only; one that cannot be read comes as a file.
    """
    if not path.is_dir():
        yield 1, path
        return
    root = path.resolve()
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        found.append(Path(error.filename))

    for folder, folders, names in os.walk(root, followlinks=follow_links, onerror=unreadable):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in entered:
            # A link that leads back.
            folders.clear()
            continue
        entered.add((here.st_dev, here.st_ino))
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(folder) / name for name in names if not is_hidden(name)]
    found.sort(key=lambda each: os.fsencode(each.relative_to(root)))
    for number, file in enumerate(found, start=1):
        if file.name.upper() != "DICOMDIR":
            yield number, file


def is_dicom(path: Path) -> bool:
    """True for a file that begins as DICOM does, with its preamble or without."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return looks_like_dicom(file.read(_START_BYTES))
    except OSError:
        return False


class _OtherKindError(Exception):
    """A file that never was DICOM, such as a note next to the images."""


def _is_of_other_kind(start: bytes) -> bool:
    """True for text, and for the signatures of pictures, documents, archives and programs."""
    if start.startswith(_OTHER_KINDS):
        return True
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        # Perhaps cut in the middle of a character.
        text = start[: error.start].decode("utf-8") if error.start > len(start) - 4 else ""
    return bool(text) and all(char.isprintable() or char in "\r\n\t\f" for char in text)


def _look(path: Path, number: int) -> tuple[str, _Slice]:
    """Digest of the series with the slice; raises RowError that says why the file gives none, MirageError of the catalogue."""
    try:
        data = path.read_bytes()
    except OSError:
        raise RowError("the file cannot be read") from None
    if not looks_like_dicom(data):
        if _is_of_other_kind(data[:_SIGNATURE_BYTES]):
            raise _OtherKindError
        raise RowError("the file is not DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = read(data, _TAGS)
            return _described(path, number, file.elements, has_pixels=bool(file.keyword))
    except (RowError, MirageError, _SegmentationFoundError):
        raise
    # pydicom raises nearly anything on a damaged file, and its words may quote a header.
    except Exception:
        raise RowError("the DICOM file is damaged") from None


def _described(path: Path, number: int, header: Elements, *, has_pixels: bool) -> tuple[str, _Slice]:
    modality = header.word("Modality")
    if modality == "SEG":
        raise _SegmentationFoundError
    if modality in _NO_PICTURE or "1.2.840.10008.5.1.4.1.1.104" in header.word("SOPClassUID"):
        raise RowError("the DICOM file holds a document or a plan and no picture")
    if not has_pixels:
        raise RowError("the DICOM file has no pixels")
    for keyword in _SHOWS_PERSON:
        if any(word.upper().startswith("Y") for word in header.words(keyword)):
            raise MirageError(Code.IMAGE_BURNED_IN, field=keyword)
    frames = max(1, header.whole("NumberOfFrames") or 1)
    own = len(header.items("PerFrameFunctionalGroupsSequence"))
    each = [Frame(header, index) for index in range(frames)] if own == frames > 1 else [Frame(header, 0)]
    frame, section = _middle([_plane_of(one) for one in each]) if len(each) > 1 else (frames // 2, (0, 0))
    shown = each[frame] if len(each) > 1 else each[0]
    return _digest(header.word("SeriesInstanceUID") or str(path)), _Slice(
        path=path,
        file=number,
        number=header.whole("InstanceNumber") or 0,
        instance=_digest(header.word("SOPInstanceUID") or str(path)),
        size=(header.whole("Rows") or 0, header.whole("Columns") or 0),
        plane=_plane_of(shown),
        labels=_labels(modality, shown),
        frames=frames,
        frame=frame,
        section=section,
    )


def _labels(modality: str, frame: Frame) -> Labels:
    labels: Labels = {"modality": (MODALITIES.get(modality, "other"),)}
    part = _body_part(frame)
    if part:
        labels["body_part"] = facet_values([part])
    plane = _plane_name(frame)
    if plane:
        labels["plane"] = (plane,)
    header = frame.elements
    side = frame.either("FrameAnatomySequence", "FrameLaterality").word("FrameLaterality")
    side = _SIDES.get(side or header.word("ImageLaterality") or header.word("Laterality"), "")
    if side:
        labels["side"] = (side,)
    if modality == "MR" and (sequence := _sequence(frame)):
        labels["sequence"] = (sequence,)
    return labels


def _body_part(frame: Frame) -> str:
    """Body Part Examined if it is a defined term, else the standard's words for a coded anatomic region."""
    words = " ".join(frame.elements.words("BodyPartExamined")[:1]).lower()
    if words.replace(" ", "").replace("_", "").replace("-", "") in _BODY_PARTS:
        return words.replace("_", " ")
    for item in frame.either("FrameAnatomySequence", "AnatomicRegionSequence").items("AnatomicRegionSequence"):
        meaning = _region(item.word("CodeValue"), item.word("CodingSchemeDesignator"))
        if meaning:
            return meaning
    return ""


@lru_cache(maxsize=256)
def _region(value: str, scheme: str) -> str:
    """The standard's own words for an anatomic region (CID 4), never those of a file; empty for a code that is not in it."""
    from pydicom.sr import codes
    from pydicom.sr.coding import Code as Concept

    if not value or not scheme:
        return ""
    wanted = Concept(value, scheme, "")
    return next(
        (str(each.meaning).lower() for name in dir(codes.cid4) if (each := getattr(codes.cid4, name)) == wanted), ""
    )


def _plane_of(frame: Frame) -> _Plane:
    cosines = _numbers(frame, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _numbers(frame, "PlanePositionSequence", "ImagePositionPatient", 3)
    normal = None
    if cosines:
        (a, b, c), (d, e, f) = cosines[:3], cosines[3:]
        cross = (b * f - c * e, c * d - a * f, a * e - b * d)
        length = math.sqrt(_dot(cross, cross))
        normal = (cross[0] / length, cross[1] / length, cross[2] / length) if length > 0.01 else None
    return _Plane(normal, (position[0], position[1], position[2]) if position else None)


def _numbers(frame: Frame, group: str, keyword: str, count: int) -> list[float]:
    """So many finite numbers; none if there are more or fewer."""
    values = frame.either(group, keyword).numbers(keyword)
    return values if len(values) == count and all(map(math.isfinite, values)) else []


def _plane_name(frame: Frame) -> str:
    view = VIEWS.get(frame.elements.word("ViewPosition"), "")
    normal = _plane_of(frame).normal
    if view or normal is None:
        return view
    sizes = [abs(each) for each in normal]
    largest = max(sizes)
    if largest < 0.8:
        return "oblique"
    return ("sagittal", "coronal", "axial")[sizes.index(largest)]


def _sequence(frame: Frame) -> str:
    """t1, t2 or flair by echo, repetition and inversion times in ms (conventional spin echo ranges); empty in between."""
    timing = frame.either("MRTimingAndRelatedParametersSequence", "RepetitionTime")
    repetition = timing.number("RepetitionTime") or 0
    echo = frame.either("MREchoSequence", "EffectiveEchoTime").number("EffectiveEchoTime")
    echo = echo or frame.elements.number("EchoTime") or 0
    inversion = frame.either("MRModifierSequence", "InversionTimes").number("InversionTimes")
    inversion = inversion or frame.elements.number("InversionTime") or 0
    if inversion > 1500 and echo > 60:
        return "flair"
    if repetition > 2000 and echo > 60:
        return "t2"
    return "t1" if 0 < repetition < 1000 and 0 < echo < 30 else ""


def _stack(slices: list[_Slice]) -> list[_Slice]:
    """The sections of a series in their order: of its largest stack of planes, one for each position.

    Without orientations, or if every plane has its own (radial planes), the order is that of the instance numbers.
    """
    ordered = sorted(slices, key=lambda each: (each.number, each.instance))
    stacks: list[list[_Slice]] = []
    for each in ordered:
        for stack in stacks:
            if _is_parallel(stack[0], each):
                stack.append(each)
                break
        else:
            stacks.append([each])
    largest = max(stacks, key=len)
    return _sections(ordered if len(largest) == 1 else largest)


def _is_parallel(first: _Slice, second: _Slice) -> bool:
    if first.size != second.size or (first.plane.normal is None) != (second.plane.normal is None):
        return False
    if first.plane.normal is None or second.plane.normal is None:
        return True
    return _dot(first.plane.normal, second.plane.normal) > 0.999


def _sections(stack: list[_Slice]) -> list[_Slice]:
    """The slices by position along the normal; of several at one position (echoes, times, directions) the first."""
    normal = stack[0].plane.normal
    places = [each.plane.along(normal) if normal is not None else None for each in stack]
    if any(place is None for place in places) or len(set(places)) == 1:
        return stack
    at: dict[float, _Slice] = {}
    for place, each in zip(places, stack, strict=True):
        if place is not None:
            at.setdefault(place, each)
    return [at[place] for place in sorted(at)]


def _middle(planes: list[_Plane]) -> tuple[int, tuple[int, int]]:
    """The frame in the middle of a file's largest stack, and its place in that and the stack's size: (0, 0) without positions."""
    stacks: dict[int, list[int]] = defaultdict(list)
    first: list[_Vector] = []
    for index, plane in enumerate(planes):
        if plane.normal is None or plane.position is None:
            return len(planes) // 2, (0, 0)
        normal = plane.normal
        number = next((n for n, known in enumerate(first) if _dot(known, normal) > 0.999), len(first))
        if number == len(first):
            first.append(normal)
        stacks[number].append(index)
    number = max(stacks, key=lambda n: len(stacks[n]))
    at: dict[float, int] = {}
    for index in stacks[number]:
        place = planes[index].along(first[number])
        if place is not None:
            at.setdefault(place, index)
    if len(at) == 1:
        return len(planes) // 2, (0, 0)
    places = sorted(at)
    return at[places[len(places) // 2]], (len(places) // 2 + 1, len(places))


def _caption(each: _Slice, place: int, count: int) -> str:
    """`Axial CT of the chest, section 12 of 40.`: nothing but coded headers."""
    labels = each.labels
    plane = labels.get("plane", ("",))[0]
    part = labels.get("body_part", ("",))[0]
    sequence = labels.get("sequence", ("",))[0].upper()
    side = labels.get("side", ("",))[0]
    words = " ".join(filter(None, ("" if part else side, plane, sequence, _WORDS[labels["modality"][0]])))
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


def _name(number: int) -> str:
    return f"file {number}"


def _plain(error: MirageError) -> str:
    """The catalogue's text as part of a sentence."""
    text = error.message.rstrip(".")
    return text[:1].lower() + text[1:]


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
