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
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mirage_atlas.dicom_labels import caption_of, labels_of
from mirage_atlas.dicom_segments import Segmentations
from mirage_atlas.dicom_stacks import Slice, largest_stack, middle_of, plane_of, spread
from mirage_atlas.facets import facet_values
from mirage_atlas.folder import Folder, RowError, is_hidden
from mirage_atlas.records import AtlasRecord, BadRow, LeftOut
from mirage_core.dicom.elements import Elements, Frame, read
from mirage_core.dicom.layout import looks_like_dicom
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
_NO_PICTURE = frozenset({"PR", "KO", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "DOC", "ECG", "AU", "PLAN"})
_SHOWS_PERSON = ("BurnedInAnnotation", "RecognizableVisualFeatures")
_START_BYTES = 2**20
_SIGNATURE_BYTES = 512
_OTHER_KINDS = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"%PDF", b"PK\3\4", b"\x1f\x8b", b"MZ", b"\x7fELF", b"BM",
)  # fmt: skip
PER_SERIES = 1
SOURCE = "DICOM files of the operator"
_FORMER_MAX = 1_000


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
        series: dict[str, list[Slice]] = {}
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
            stack = largest_stack(slices)
            for part, (place, each) in enumerate(spread(stack, self._per_series), start=1):
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

    def _record(self, identity: str, key: str, each: Slice, place: int, count: int) -> AtlasRecord | BadRow:
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
            caption=caption_of(each, place, count),
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


def _look(path: Path, number: int) -> tuple[str, Slice]:
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


def _described(path: Path, number: int, header: Elements, *, has_pixels: bool) -> tuple[str, Slice]:
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
    frame, section = middle_of([plane_of(one) for one in each]) if len(each) > 1 else (frames // 2, (0, 0))
    shown = each[frame] if len(each) > 1 else each[0]
    return _digest(header.word("SeriesInstanceUID") or str(path)), Slice(
        path=path,
        file=number,
        number=header.whole("InstanceNumber") or 0,
        instance=_digest(header.word("SOPInstanceUID") or str(path)),
        size=(header.whole("Rows") or 0, header.whole("Columns") or 0),
        plane=plane_of(shown),
        labels=labels_of(modality, shown),
        frames=frames,
        frame=frame,
        section=section,
    )


def _name(number: int) -> str:
    return f"file {number}"


def _plain(error: MirageError) -> str:
    """The catalogue's text as part of a sentence."""
    text = error.message.rstrip(".")
    return text[:1].lower() + text[1:]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
