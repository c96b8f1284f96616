"""The gateway's replies as immutable values. `raw` is the received JSON."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mirage.fields import Fields


def _raw() -> Any:
    return field(repr=False, compare=False, default_factory=dict)


@dataclass(frozen=True)
class TermShare:
    """The contribution of one term: the shares of a query add up to 1."""

    label: str
    weight: float
    share: float
    tokens: int = 0
    truncated: bool = False

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            fields.text("label"),
            fields.number_or("weight", 1.0),
            fields.number_or("share"),
            fields.integer_or("tokens"),
            fields.truth("truncated"),
        )


@dataclass(frozen=True)
class QueryReport:
    """The query as the server read it. `shift` is the cosine between the query and its first term."""

    tokens: int
    truncated: bool
    shift: float
    terms: tuple[TermShare, ...]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        terms = tuple(map(TermShare.parse, fields.children("terms")))
        return cls(fields.integer_or("tokens"), fields.truth("truncated"), fields.number_or("shift", 1.0), terms)


@dataclass(frozen=True)
class Window:
    """A range of values that is shown from black to white; `center` and `width` are in the unit of the values."""

    name: str
    center: float
    width: float


@dataclass(frozen=True)
class Pixels:
    """Meaning of the values of a 16-bit greyscale image: value = stored * slope + intercept, in `unit`.

    The stored values use `bits` (9 to 16). The 8-bit image uses the first window.
    """

    bits: int
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""
    windows: tuple[Window, ...] = ()

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            fields.integer_or("bits"),
            fields.number("slope"),
            fields.number("intercept"),
            fields.text_or("unit"),
            tuple(
                Window(each.text_or("name"), each.number("center"), each.number("width"))
                for each in fields.children("windows")
            ),
        )


@dataclass(frozen=True)
class Record:
    """One atlas record, without its image. `original_sha256` is of the file that came in, which is not kept."""

    id: str
    caption: str
    labels: Mapping[str, tuple[str, ...]]
    licence: str
    source: str
    attribution: str = ""
    original_labels: Mapping[str, str] = field(default_factory=dict)
    image_sha256: str = ""
    image_url: str = ""
    thumbnail_url: str = ""
    flags: int = 0
    original_sha256: str = ""
    pixels: Pixels | None = None
    raw: Mapping[str, Any] = _raw()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "record")
        return cls(
            id=fields.text("id"),
            caption=fields.text_or("caption"),
            labels=fields.labels("labels"),
            licence=fields.text_or("licence"),
            source=fields.text_or("source"),
            attribution=fields.text_or("attribution"),
            original_labels=fields.texts("original_labels"),
            image_sha256=fields.text_or("image_sha256"),
            image_url=fields.text_or("image_url"),
            thumbnail_url=fields.text_or("thumbnail_url"),
            flags=fields.integer_or("flags"),
            original_sha256=fields.text_or("original_sha256"),
            pixels=Pixels.parse(fields.child("pixels")) if value.get("pixels") is not None else None,
            raw=value,
        )


@dataclass(frozen=True)
class SearchResult:
    """One record found. Results are ordered by `score`; `cosine` differs from it in the fused space."""

    id: str
    score: float
    caption: str
    labels: Mapping[str, tuple[str, ...]]
    licence: str
    source: str
    image_url: str
    thumbnail_url: str
    cosine: float | None = None

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            id=fields.text("id"),
            score=fields.number("score"),
            caption=fields.text_or("caption"),
            labels=fields.labels("labels"),
            licence=fields.text_or("licence"),
            source=fields.text_or("source"),
            image_url=fields.text_or("image_url"),
            thumbnail_url=fields.text_or("thumbnail_url"),
            cosine=fields.optional_number("cosine"),
        )


@dataclass(frozen=True)
class SearchReply:
    """Results, best first. `match` is "good", "weak" or "none", or empty without thresholds; timings are in ms."""

    results: tuple[SearchResult, ...]
    match: str
    query: QueryReport
    timings: Mapping[str, float]
    next_page_token: str = ""
    raw: Mapping[str, Any] = _raw()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "search reply")
        return cls(
            results=tuple(map(SearchResult.parse, fields.children("results"))),
            match=fields.text_or("match"),
            query=QueryReport.parse(fields.child("query")),
            timings=fields.numbers("timings"),
            next_page_token=fields.text_or("next_page_token"),
            raw=value,
        )


@dataclass(frozen=True)
class Comparison:
    """A base query and a shifted one side by side; `shift` is the cosine of the two."""

    base: SearchReply
    shifted: SearchReply
    shift: float
    raw: Mapping[str, Any] = _raw()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "comparison")
        base, shifted = (SearchReply.parse(value.get(side) or {}) for side in ("base", "shifted"))
        return cls(base, shifted, fields.number("shift"), value)


@dataclass(frozen=True)
class Facet:
    """A facet and how many records carry each of its values, most frequent first."""

    name: str
    values: tuple[tuple[str, int], ...]

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        values = tuple((one.text("value"), one.integer_or("count")) for one in fields.children("values"))
        return cls(fields.text("name"), values)


@dataclass(frozen=True)
class Image:
    """An image file."""

    media_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class UpsertOutcome:
    """The outcome of one record: "created", "updated", "unchanged" or "rejected", the last with code and message.

    `left_out` names original labels about a person, which the server did not store.
    """

    id: str
    state: str
    code: str = ""
    message: str = ""
    left_out: tuple[str, ...] = ()

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        state = fields.text("state").lower()
        if state != "rejected":
            return cls(fields.text_or("id"), state, left_out=fields.strings("left_out"))
        error = fields.child("error")
        return cls(fields.text_or("id"), state, error.text("code"), error.text_or("message"))


@dataclass(frozen=True)
class Flag:
    """A reader's mark on a record."""

    id: str
    record_id: str
    reason: str
    comment: str
    create_time: str

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "flag")
        return cls(
            fields.text("id"),
            fields.text("record_id"),
            fields.text("reason"),
            fields.text_or("comment"),
            fields.text_or("create_time"),
        )


@dataclass(frozen=True)
class Model:
    """A model in use; `task` is "encode", "describe" or "generate"."""

    name: str
    task: str
    fingerprint: str
    engine: str
    precision: str
    dimension: int

    @classmethod
    def parse(cls, fields: Fields) -> Self:
        """From the gateway's JSON."""
        return cls(
            fields.text("name"),
            fields.text_or("task"),
            fields.text_or("fingerprint"),
            fields.text_or("engine"),
            fields.text_or("precision"),
            fields.integer_or("dimension"),
        )


@dataclass(frozen=True)
class Collection:
    """The collection in use. `revision` changes at every write."""

    name: str
    engine: str
    records: int
    indexed: int
    dimension: int
    fingerprint: str
    revision: str

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "collection")
        return cls(
            fields.text_or("name"),
            fields.text_or("engine"),
            fields.integer_or("records"),
            fields.integer_or("indexed"),
            fields.integer_or("dimension"),
            fields.text_or("fingerprint"),
            fields.text_or("revision"),
        )


@dataclass(frozen=True)
class Presence:
    """The record of an id (or None), and the ids of other records with the given image."""

    id: str
    record: Record | None
    same_image_ids: tuple[str, ...]

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "presence")
        record = value.get("record")
        return cls(
            fields.text("id"), None if record is None else Record.parse(record), fields.strings("same_image_ids")
        )


@dataclass(frozen=True)
class StoredRecord:
    """A record, and its vectors (little-endian float32) if they were asked for."""

    record: Record
    image_vector: bytes | None = field(default=None, repr=False)
    caption_vector: bytes | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        image, caption = (
            None if value.get(name) is None else base64.b64decode(Fields(value, "record").text(name))
            for name in ("image_vector", "caption_vector")
        )
        return cls(Record.parse(value), image, caption)


@dataclass(frozen=True)
class RecordPage:
    """A page of all records; `next_page_token` is empty at the end."""

    records: tuple[StoredRecord, ...]
    fingerprint: str
    next_page_token: str

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "records")
        return cls(
            tuple(StoredRecord.parse(each.raw) for each in fields.children("records")),
            fields.text_or("fingerprint"),
            fields.text_or("next_page_token"),
        )


@dataclass(frozen=True)
class CollectionInfo:
    """One of the collections; searches run on the active one."""

    name: str
    active: bool
    records: int
    indexed: int
    dimension: int
    fingerprint: str

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "collection")
        return cls(
            fields.text("name"),
            fields.truth("active"),
            fields.integer_or("records"),
            fields.integer_or("indexed"),
            fields.integer_or("dimension"),
            fields.text_or("fingerprint"),
        )


@dataclass(frozen=True)
class FacetGuess:
    """Possible values of an image with their probabilities, best first; `sure` if the best is reliable."""

    facet: str
    values: tuple[tuple[str, float], ...]
    sure: bool


@dataclass(frozen=True)
class ImageGuess:
    """A guess about an image: "medical", "unsure", "not_medical" or "unknown", with its probability."""

    kind: str
    medical_score: float
    facets: tuple[FacetGuess, ...]
    raw: Mapping[str, Any] = _raw()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the gateway's JSON."""
        fields = Fields(value, "guess")
        facets = tuple(
            FacetGuess(
                each.text("facet"),
                tuple((one.text("value"), one.number("score")) for one in each.children("values")),
                each.truth("sure"),
            )
            for each in fields.children("facets")
        )
        return cls(fields.text("kind"), fields.number_or("medical_score"), facets, value)
