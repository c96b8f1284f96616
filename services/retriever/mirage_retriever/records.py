"""A record of the atlas: what it must hold, and the JSON that engines keep of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from mirage_core import limits, people
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import PixelInfo
from mirage_core.regions import Region
from mirage_retriever.facets import check_facets

_LABELS_MAX = 64
_LABEL_CHARS = 1_000
_NAME_CHARS = 64
_LINE_CHARS = 2_000
_TITLE_CHARS = 500
_KEYWORDS_MAX = 64
_KEYWORD_CHARS = 200
CASE_CHARS = 128
_POSITION_MAX = 100_000
# Fields that records of older versions do not have; the JSON leaves out empty ones.
_TEXTS = ("title", "findings", "history", "impression")
_LATER = (*_TEXTS, "keywords", "case_id", "position", "regions", "regions_sha256", "original_regions_sha256", "added")
# With fewer bits, the 8-bit image shows everything.
_PIXEL_BITS_MIN = 9
# Values of `synthetic` that mean a generator made the image; a template rendering is not generated.
_GENERATED = frozenset({"generated", "diffusion", "ai-generated"})


@dataclass(frozen=True)
class Record:
    """One record, without its image; fields as in protos/mirage/v1/record.proto. The retriever sets `image_sha256`
    and all fields after it, but for the texts. `pixels_sha256` names the file of the 16-bit copy, `regions_sha256` that of
    the label map.

    Records of older versions lack `original_sha256`: what was stored then was the file that came in.
    """

    id: str
    caption: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    original_labels: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    attribution: str = ""
    image_sha256: str = ""
    image_type: str = ""
    width: int = 0
    height: int = 0
    original_sha256: str = ""
    pixels_sha256: str = ""
    pixels: PixelInfo | None = None
    # Texts of the dataset besides the caption; `position` is the image's place in its case, from 1, 0 if unknown.
    title: str = ""
    findings: str = ""
    history: str = ""
    impression: str = ""
    keywords: tuple[str, ...] = ()
    case_id: str = ""
    position: int = 0
    regions: tuple[Region, ...] = ()
    regions_sha256: str = ""
    original_regions_sha256: str = ""
    # When it was first stored, in microseconds since 1970; 0 in records of older versions.
    added: int = 0

    def to_json(self) -> str:
        """The same record always gives the same text."""
        fields = {name: value for name, value in asdict(self).items() if value or name not in _LATER}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """The record behind `to_json`."""
        fields = json.loads(text)
        fields["labels"] = {name: tuple(values) for name, values in fields["labels"].items()}
        fields["keywords"] = tuple(fields.get("keywords", ()))
        fields["regions"] = tuple(map(Region.from_json, fields.get("regions", ())))
        if fields.get("pixels") is not None:
            fields["pixels"] = PixelInfo.from_json(fields["pixels"])
        return cls(**fields)

    @property
    def came_from(self) -> str:
        """SHA-256 of the file that came in."""
        return self.original_sha256 or self.image_sha256

    def facets(self) -> dict[str, tuple[str, ...]]:
        """Returns the values to filter by: the labels, and the licence if no label names it."""
        facets = dict(self.labels)
        if self.licence and "licence" not in facets:
            facets["licence"] = (limits.facet_value(self.licence),)
        return facets


class _OfCase(BaseModel):
    case_id: str = ""


def case_of(text: str) -> str:
    """Returns the case of the record behind `to_json`; many times cheaper than the whole record."""
    return _OfCase.model_validate_json(text).case_id


def without_people(record: Record) -> tuple[Record, tuple[str, ...]]:
    """The record without original labels that are about a person, and the names of those, cut to 64 characters."""
    kept, left = people.without_people(record.original_labels)
    return (replace(record, original_labels=kept) if left else record), tuple(name[:_NAME_CHARS] for name in left)


def check_record(record: Record) -> Record:
    """The record with its facets in order; raises ID_INVALID, CAPTION_TOO_LONG, FACET_*, SYNTHETIC_REFUSED, RECORD_INVALID."""
    limits.check_id(record.id)
    if not record.caption.strip():
        raise MirageError(Code.RECORD_INVALID, field="caption")
    if len(record.caption) > limits.CAPTION_CHARS:
        raise MirageError(Code.CAPTION_TOO_LONG, max=limits.CAPTION_CHARS, given=len(record.caption))
    for name in ("licence", "source"):
        if not getattr(record, name).strip():
            raise MirageError(Code.RECORD_INVALID, field=name)
    for name in ("licence", "source", "attribution"):
        if len(getattr(record, name)) > _LINE_CHARS:
            raise MirageError(Code.RECORD_INVALID, field=name)
    _check_texts(record)
    if len(record.original_labels) > _LABELS_MAX or any(
        len(name) > _LABEL_CHARS or len(value) > _LABEL_CHARS for name, value in record.original_labels.items()
    ):
        raise MirageError(Code.RECORD_INVALID, field="original_labels")
    labels = check_facets(record.labels)
    if _GENERATED.intersection(labels.get("synthetic", ())):
        raise MirageError(Code.SYNTHETIC_REFUSED)
    return replace(record, labels=labels)


def _check_texts(record: Record) -> None:
    """Raises RECORD_INVALID for a text that is too long, and for a case that is not one line."""
    wrong = {
        "title": len(record.title) > _TITLE_CHARS,
        **{name: len(getattr(record, name)) > limits.CAPTION_CHARS for name in _TEXTS[1:]},
        "keywords": len(record.keywords) > _KEYWORDS_MAX
        or any(not keyword.strip() or len(keyword) > _KEYWORD_CHARS for keyword in record.keywords),
        "case_id": len(record.case_id) > CASE_CHARS or not record.case_id.isprintable(),
        "position": not 0 <= record.position <= _POSITION_MAX,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise MirageError(Code.RECORD_INVALID, field=name)


def check_pixels(value: Mapping[str, Any]) -> PixelInfo:
    """The meaning of a 16-bit image's numbers, as a caller gave it; raises PIXELS_INVALID."""
    pixels = PixelInfo.from_json(value)
    if pixels.bits < _PIXEL_BITS_MIN:
        raise MirageError(Code.PIXELS_INVALID, field="bits")
    return pixels
