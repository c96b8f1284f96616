"""The items that every reader yields: a captioned, licensed image, or the reason why a row was refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mirage_core.imaging import PixelInfo
from mirage_core.regions import RegionMap

Labels = dict[str, tuple[str, ...]]

FACETS = ("modality", "plane", "body_part", "structure", "sequence", "finding", "side", "licence", "synthetic")
"""The one vocabulary of facet names; what does not fit into it stays in `original_labels`."""


class DatasetError(ValueError):
    """A dataset that cannot be read as a whole; the message names the fault, never the dataset's content."""


@dataclass(frozen=True)
class AtlasRecord:
    """An image with what is known about it.

    `labels` are facets (names of `FACETS`, lower-case values), `original_labels` the source's own words. Exactly one of
    `image_path` and `image_bytes` is set; `sha256` is the hex digest of the image file's bytes, empty if the source has none.
    `made_from` is that of the file that the image was made from, if that is another one: by it copies are recognised.
    `pixels` says what the numbers of a 16-bit PNG mean, `regions` which structures the image shows where. The texts from `title`
    on are those of case_texts.py. `file` and `line` say where the record is in the dataset.
    `made_id` is True for an id that was made of names of the folder and the file, because the dataset has none: another dataset
    may share it by accident. `former_ids` are those that earlier versions made for the record.
    """

    id: str
    caption: str
    labels: Labels
    original_labels: dict[str, str]
    licence: str
    source: str
    attribution: str
    sha256: str
    image_path: Path | None = None
    image_bytes: bytes | None = field(default=None, repr=False)
    made_from: str = ""
    pixels: PixelInfo | None = None
    regions: RegionMap | None = None
    title: str = ""
    findings: str = ""
    history: str = ""
    impression: str = ""
    keywords: tuple[str, ...] = ()
    case_id: str = ""
    position: int = 0
    file: str = ""
    line: int = 0
    made_id: bool = False
    former_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.image_path is None) == (self.image_bytes is None):
            raise ValueError("a record has either an image path or image bytes")

    def read_image(self) -> bytes:
        """The image file's bytes; raises OSError when the file cannot be read."""
        return self.image_path.read_bytes() if self.image_path is not None else self.image_bytes or b""


@dataclass(frozen=True)
class BadRow:
    """A row that was refused: its place and a reason that quotes nothing of the row's content.

    `file` is a name relative to the dataset, `line` the row's line or number in it, 0 if the file as a whole gave none; `code` is
    that of the error catalogue if it has one for the reason.
    """

    line: int
    reason: str
    file: str = ""
    code: str = "BAD_ROW"


@dataclass
class LeftOut:
    """Columns and files of a dataset that its records do not show: filled while the dataset is read.

    `people` are names of columns and labels about a person, `beyond` those that are more than a record may have; `others` are
    files of other kinds that are next to the images; `placeholders` are the places of captions that say nothing, `overlaps`
    those of images on which segments overlap, where the smaller one is kept.
    """

    people: dict[str, None] = field(default_factory=dict)
    beyond: dict[str, None] = field(default_factory=dict)
    others: dict[str, None] = field(default_factory=dict)
    placeholders: dict[str, None] = field(default_factory=dict)
    overlaps: dict[str, None] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Notes a name that is about a person."""
        self._note(self.people, name)

    def add_beyond(self, name: str) -> None:
        """Notes a name that found no room."""
        self._note(self.beyond, name)

    def add_other(self, name: str) -> None:
        """Notes a file of another kind."""
        self._note(self.others, name)

    def add_placeholder(self, where: str) -> None:
        """Notes the place of a caption that says nothing."""
        self._note(self.placeholders, where)

    def add_overlap(self, where: str) -> None:
        """Notes the place of an image on which segments overlap."""
        self._note(self.overlaps, where)

    @staticmethod
    def _note(names: dict[str, None], name: str) -> None:
        if len(names) < _NAMES:
            names.setdefault(name[:_NAME_CHARACTERS])


# A hostile dataset may have another key in each row.
_NAMES = 1_000
_NAME_CHARACTERS = 100
