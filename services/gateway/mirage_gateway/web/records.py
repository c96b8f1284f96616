"""Records, their images' addresses, facets and flags, and what became of an upsert, as JSON: the schemas of /openapi.json."""

import asyncio
import binascii
from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Literal, NotRequired, cast

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic_core import to_json
from typing_extensions import TypedDict

from mirage_core.errors import Code
from mirage_gateway.web.queries import FLAG_REASONS
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import facet_pb2, flag_pb2, record_pb2, vector_pb2

Labels = dict[str, list[str]]
_CHUNK_BYTES = 64 * 2**10


class WindowDocument(TypedDict):
    """A range of values that is shown from black to white, in the unit of the values."""

    name: str
    center: float
    width: float


class PixelsDocument(TypedDict):
    """What the values of the 16-bit image mean: value = stored * slope + intercept. The 8-bit image is in the first window."""

    bits: int
    slope: float
    intercept: float
    unit: str
    windows: list[WindowDocument]


class RecordDocument(TypedDict):
    """One atlas record.

    `image_sha256` is of the image that is served, `original_sha256` of the file that came in; `pixels` is null if that had at
    most 8 bits.
    """

    id: str
    caption: str
    labels: Labels
    original_labels: dict[str, str]
    licence: str
    source: str
    attribution: str
    image_url: str
    thumbnail_url: str
    image_sha256: str
    image_type: str
    width: int
    height: int
    original_sha256: str
    pixels: PixelsDocument | None
    flags: int


class FacetValueDocument(TypedDict):
    """A value and how many records carry it."""

    value: str
    count: int


class FacetDocument(TypedDict):
    """A facet; its most frequent value first."""

    name: str
    values: list[FacetValueDocument]


class FacetsDocument(TypedDict):
    """The facets."""

    facets: list[FacetDocument]


class OutcomeErrorDocument(TypedDict):
    """Why a record was not stored."""

    code: Code
    message: str
    metadata: dict[str, str]


class OutcomeDocument(TypedDict):
    """What became of one record. `left_out` names original labels about a person, which were not stored."""

    id: str
    state: Literal["created", "updated", "unchanged", "rejected"]
    error: NotRequired[OutcomeErrorDocument]
    left_out: NotRequired[list[str]]


class UpsertDocument(TypedDict):
    """One outcome a record, in the order sent."""

    outcomes: list[OutcomeDocument]


class DeleteDocument(TypedDict):
    """How many records were there and are gone."""

    deleted: int


class FlagDocument(TypedDict):
    """A reader's mark; create_time is RFC 3339 in UTC."""

    id: str
    record_id: str
    reason: str
    comment: str
    create_time: str


class FlagsDocument(TypedDict):
    """Marks, newest first."""

    flags: list[FlagDocument]


class StoredRecordDocument(RecordDocument):
    """A record, with its vectors as little-endian float32 in base64 where they were asked for."""

    image_vector: NotRequired[str]
    caption_vector: NotRequired[str]


class RecordsDocument(TypedDict):
    """A page of all records."""

    records: list[StoredRecordDocument]
    fingerprint: str
    next_page_token: NotRequired[str]


class PresenceDocument(TypedDict):
    """What is stored under a key: the record, null where there is none, and ids of others with the same image."""

    id: str
    record: RecordDocument | None
    same_image_ids: list[str]


class LookupDocument(TypedDict):
    """In the order of the keys."""

    records: list[PresenceDocument]


_STATES: dict[int, Literal["created", "updated", "unchanged", "rejected"]] = {
    record_pb2.UPSERT_STATE_CREATED: "created",
    record_pb2.UPSERT_STATE_UPDATED: "updated",
    record_pb2.UPSERT_STATE_UNCHANGED: "unchanged",
    record_pb2.UPSERT_STATE_REJECTED: "rejected",
}


def record_document(record: record_pb2.Record) -> RecordDocument:
    """One record."""
    image_url, thumbnail_url = image_urls(record)
    return {
        "id": record.id,
        "caption": record.caption,
        "labels": labels_of(record),
        "original_labels": dict(sorted(record.original_labels.items())),
        "licence": record.licence,
        "source": record.source,
        "attribution": record.attribution,
        "image_url": image_url,
        "thumbnail_url": thumbnail_url,
        "image_sha256": record.image_sha256,
        "image_type": record.image_type,
        "width": record.width,
        "height": record.height,
        "original_sha256": record.original_sha256,
        "pixels": _pixels(record.pixels) if record.HasField("pixels") else None,
        "flags": record.flags,
    }


def _pixels(pixels: record_pb2.Pixels) -> PixelsDocument:
    return {
        "bits": pixels.bits,
        "slope": pixels.slope,
        "intercept": pixels.intercept,
        "unit": pixels.unit,
        "windows": [{"name": window.name, "center": window.center, "width": window.width} for window in pixels.windows],
    }


def facets_document(facets: Sequence[facet_pb2.Facet]) -> FacetsDocument:
    """The facets with their counts."""
    return {
        "facets": [
            {"name": facet.name, "values": [{"value": each.value, "count": each.count} for each in facet.values]}
            for facet in facets
        ]
    }


def upsert_document(outcomes: Sequence[record_pb2.UpsertOutcome]) -> UpsertDocument:
    """What became of the records of one upsert."""
    return {"outcomes": [_outcome(outcome) for outcome in outcomes]}


def _outcome(outcome: record_pb2.UpsertOutcome) -> OutcomeDocument:
    document: OutcomeDocument = {"id": outcome.id, "state": _STATES[outcome.state]}
    if outcome.HasField("error"):
        error = outcome.error
        code = Code(error.code) if error.code in Code.__members__ else Code.INTERNAL
        document["error"] = {"code": code, "message": error.message, "metadata": dict(error.metadata)}
    if outcome.left_out:
        document["left_out"] = list(outcome.left_out)
    return document


def flag_document(flag: flag_pb2.Flag) -> FlagDocument:
    """A mark."""
    return {
        "id": flag.id,
        "record_id": flag.record_id,
        "reason": FLAG_REASONS[flag.reason],
        "comment": flag.comment,
        "create_time": rfc3339(flag.create_time),
    }


def flags_document(flags: Sequence[flag_pb2.Flag]) -> FlagsDocument:
    """Marks."""
    return {"flags": [flag_document(flag) for flag in flags]}


async def records_chunks(found: retriever_pb2.ListRecordsResponse) -> AsyncIterator[bytes]:
    """Yields a RecordsDocument in JSON, a few records at a time: with vectors a page has many megabytes."""
    chunk = bytearray(b'{"records":[')
    for index, stored in enumerate(found.records):
        if len(chunk) > _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
            # Others get their turn, whether the reader of this is fast or slow.
            await asyncio.sleep(0)
        chunk += (b"," if index else b"") + to_json(_stored(stored))
    rest = {"fingerprint": found.fingerprint}
    if found.next_page_token:
        rest["next_page_token"] = found.next_page_token
    yield bytes(chunk) + b"]," + to_json(rest)[1:]


def _stored(stored: record_pb2.StoredRecord) -> StoredRecordDocument:
    document = cast("StoredRecordDocument", record_document(stored.record))
    if stored.HasField("image_vector"):
        document["image_vector"] = _packed(stored.image_vector)
    if stored.HasField("caption_vector"):
        document["caption_vector"] = _packed(stored.caption_vector)
    return document


def _packed(vector: vector_pb2.Vector) -> str:
    return binascii.b2a_base64(vector.float32, newline=False).decode()


def lookup_document(found: Sequence[record_pb2.RecordPresence]) -> LookupDocument:
    """What is stored under some keys."""
    return {
        "records": [
            {
                "id": each.id,
                "record": record_document(each.record) if each.HasField("record") else None,
                "same_image_ids": list(each.same_image_ids),
            }
            for each in found
        ]
    }


def image_version(record: record_pb2.Record) -> str:
    """Changes with the image: what makes its address one that may be cached for ever."""
    return record.image_sha256[:16]


def image_urls(record: record_pb2.Record) -> tuple[str, str]:
    """The addresses of a record's image and thumbnail. Ids hold no character that a path would need escaped."""
    version = f"?v={image_version(record)}" if record.image_sha256 else ""
    return f"/v1/images/{record.id}{version}", f"/v1/images/{record.id}/thumbnail{version}"


def rfc3339(time: Timestamp) -> str:
    """A time in UTC, to the millisecond."""
    return time.ToDatetime(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def labels_of(record: record_pb2.Record) -> Labels:
    """A record's labels, by facet."""
    # A map of a message has no order; the same record always reads the same.
    return {name: list(record.labels[name].values) for name in sorted(record.labels)}
