"""A record of the atlas: what it must hold, and the JSON that engines keep of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mirage_core import limits, people
from mirage_core.errors import Code, MirageError
from mirage_core.imaging import PixelInfo
from mirage_retriever.facets import check_facets

_LABELS_MAX = 64
_LABEL_CHARS = 1_000
_NAME_CHARS = 64
_LINE_CHARS = 2_000
# With fewer bits, the 8-bit image shows everything.
_PIXEL_BITS_MIN = 9
# Values of `synthetic` that mean a generator made the image; a template rendering is not generated.
_GENERATED = frozenset({"generated", "diffusion", "ai-generated"})


@dataclass(frozen=True)
class Record:
    """One record, without its image; fields as in protos/mirage/v1/common.proto. The retriever sets `image_sha256`
    and all fields after it. `pixels_sha256` names the file of the 16-bit copy.

    Records of older versions have no `original_sha256`: what was stored then was the file that came in.
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

    def to_json(self) -> str:
        """The same record always gives the same text."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """The record behind `to_json`."""
        fields = json.loads(text)
        fields["labels"] = {name: tuple(values) for name, values in fields["labels"].items()}
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
    if len(record.original_labels) > _LABELS_MAX or any(
        len(name) > _LABEL_CHARS or len(value) > _LABEL_CHARS for name, value in record.original_labels.items()
    ):
        raise MirageError(Code.RECORD_INVALID, field="original_labels")
    labels = check_facets(record.labels)
    if _GENERATED.intersection(labels.get("synthetic", ())):
        raise MirageError(Code.SYNTHETIC_REFUSED)
    return replace(record, labels=labels)


def check_pixels(value: Mapping[str, Any]) -> PixelInfo:
    """The meaning of a 16-bit image's numbers, as a caller gave it; raises PIXELS_INVALID."""
    pixels = PixelInfo.from_json(value)
    if pixels.bits < _PIXEL_BITS_MIN:
        raise MirageError(Code.PIXELS_INVALID, field="bits")
    return pixels
