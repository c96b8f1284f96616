"""What callers get as JSON, and how it is made of messages. The types are the schemas of /openapi.json."""

import binascii
import json
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Literal, NotRequired, cast

from typing_extensions import TypedDict

from mirage.v1 import common_pb2 as pb
from mirage.v1 import encoder_pb2, retriever_pb2
from mirage_core.errors import Code

Labels = dict[str, list[str]]


class TermDocument(TypedDict):
    """What one term contributed; the shares of a query add up to 1."""

    label: str
    weight: float
    share: float
    tokens: int
    truncated: bool


class ValueGuessDocument(TypedDict):
    """A value that an image may carry, with its calibrated probability."""

    value: str
    score: float


class FacetGuessDocument(TypedDict):
    """Guesses for one facet, best first; sure where the best is likely enough to narrow a search with."""

    facet: str
    values: list[ValueGuessDocument]
    sure: bool


class GuessDocument(TypedDict):
    """What an image seems to be; medical_score is the calibrated probability that it is a medical image."""

    kind: Literal["medical", "unsure", "not_medical", "unknown"]
    medical_score: float
    facets: list[FacetGuessDocument]


class QueryDocument(TypedDict):
    """How the query was understood; shift is the cosine between the query and its first term."""

    images: NotRequired[list[GuessDocument]]

    tokens: int
    truncated: bool
    shift: float
    terms: list[TermDocument]


class TimingsDocument(TypedDict):
    """Milliseconds: waiting, running the model, searching, and all of it as the gateway saw it."""

    queue_ms: float
    inference_ms: float
    search_ms: float
    total_ms: float
    cached: bool


class RecordDocument(TypedDict):
    """One atlas record."""

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
    flags: int


class ResultDocument(TypedDict):
    """One record found; score is the cosine, with fused vectors the reciprocal-rank score beside the cosine."""

    id: str
    score: float
    cosine: float
    caption: str
    labels: Labels
    licence: str
    source: str
    attribution: str
    image_url: str
    thumbnail_url: str
    image_type: str
    width: int
    height: int
    flags: int


class SearchDocument(TypedDict):
    """The answer to a search; match is null where no thresholds are known for the model and kind of query."""

    results: list[ResultDocument]
    match: Literal["good", "weak", "none"] | None
    query: QueryDocument
    timings: TimingsDocument
    fingerprint: str
    next_page_token: NotRequired[str]


class CompareDocument(TypedDict):
    """Two answers; shift is the cosine of the two queries."""

    base: SearchDocument
    shifted: SearchDocument
    shift: float


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
    """What became of one record."""

    id: str
    state: Literal["created", "updated", "unchanged", "rejected"]
    error: NotRequired[OutcomeErrorDocument]


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


class ClassifyDocument(TypedDict):
    """What an image seems to be."""

    guess: GuessDocument
    timings: TimingsDocument


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


class CollectionInfoDocument(TypedDict):
    """One collection; searches run on the active one."""

    name: str
    active: bool
    records: int
    indexed: int
    dimension: int
    fingerprint: str


class CollectionsDocument(TypedDict):
    """The collections, by name."""

    collections: list[CollectionInfoDocument]


class ActivatedDocument(TypedDict):
    """The collection that is searched now, and the name of the one before."""

    collection: CollectionInfoDocument
    previous: str


class RemovedCollectionDocument(TypedDict):
    """How many records were in the collection that is gone."""

    records: int


class CommonQueriesDocument(TypedDict):
    """The operator's list of queries that are answered from a cache."""

    queries: list[str]


class ModelDocument(TypedDict):
    """A model in use; manifest is its bundle's, whole."""

    name: str
    task: str
    fingerprint: str
    source: str
    licence: str
    dimension: int
    context_length: int
    image_size: int
    engine: str
    precision: str
    manifest: dict[str, Any]


class ModelsDocument(TypedDict):
    """The models, one a task."""

    models: list[ModelDocument]


class CollectionDocument(TypedDict):
    """The collection; revision changes at every write."""

    name: str
    engine: str
    records: int
    indexed: int
    dimension: int
    fingerprint: str
    revision: str


_MATCHES: dict[int, Literal["good", "weak", "none"]] = {
    pb.MATCH_GOOD: "good",
    pb.MATCH_WEAK: "weak",
    pb.MATCH_NONE: "none",
}
_KINDS: dict[int, Literal["medical", "unsure", "not_medical"]] = {
    pb.IMAGE_KIND_MEDICAL: "medical",
    pb.IMAGE_KIND_UNSURE: "unsure",
    pb.IMAGE_KIND_NOT_MEDICAL: "not_medical",
}
_STATES: dict[int, Literal["created", "updated", "unchanged", "rejected"]] = {
    pb.UPSERT_STATE_CREATED: "created",
    pb.UPSERT_STATE_UPDATED: "updated",
    pb.UPSERT_STATE_UNCHANGED: "unchanged",
    pb.UPSERT_STATE_REJECTED: "rejected",
}


def search_document(reply: pb.SearchReply) -> SearchDocument:
    """The answer to a search."""
    report = reply.query
    document: SearchDocument = {
        "results": [result_document(result) for result in reply.results],
        "match": _MATCHES.get(reply.match),
        "query": {
            "tokens": report.tokens,
            "truncated": report.truncated,
            "shift": rounded(report.shift),
            "terms": [_term(term) for term in report.terms],
        },
        "timings": timings_document(reply.timings),
        "fingerprint": reply.fingerprint,
    }
    if report.images:
        document["query"]["images"] = [guess_document(guess) for guess in report.images]
    if reply.next_page_token:
        document["next_page_token"] = reply.next_page_token
    return document


def compare_document(both: retriever_pb2.RetrieverServiceCompareResponse) -> CompareDocument:
    """The answer to a comparison."""
    return {
        "base": search_document(both.base),
        "shifted": search_document(both.shifted),
        "shift": rounded(both.shift),
    }


def record_document(record: pb.Record) -> RecordDocument:
    """One record."""
    image_url, thumbnail_url = image_urls(record)
    return {
        "id": record.id,
        "caption": record.caption,
        "labels": _labels(record),
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
        "flags": record.flags,
    }


def facets_document(facets: Sequence[pb.Facet]) -> FacetsDocument:
    """The facets with their counts."""
    return {
        "facets": [
            {"name": facet.name, "values": [{"value": each.value, "count": each.count} for each in facet.values]}
            for facet in facets
        ]
    }


def upsert_document(outcomes: Sequence[pb.UpsertOutcome]) -> UpsertDocument:
    """What became of the records of one upsert."""
    return {"outcomes": [_outcome(outcome) for outcome in outcomes]}


def flag_document(flag: pb.Flag) -> FlagDocument:
    """A mark."""
    return {
        "id": flag.id,
        "record_id": flag.record_id,
        "reason": flag.reason,
        "comment": flag.comment,
        "create_time": flag.create_time,
    }


def models_document(models: Sequence[pb.Model]) -> ModelsDocument:
    """The models, with their manifests."""
    return {
        "models": [
            {
                "name": model.name,
                "task": model.task,
                "fingerprint": model.fingerprint,
                "source": model.source,
                "licence": model.licence,
                "dimension": model.dimension,
                "context_length": model.context_length,
                "image_size": model.image_size,
                "engine": model.engine,
                "precision": model.precision,
                "manifest": _manifest(model.manifest_json),
            }
            for model in models
        ]
    }


def collection_document(found: retriever_pb2.RetrieverServiceGetCollectionResponse) -> CollectionDocument:
    """The collection."""
    return {
        "name": found.name,
        "engine": found.engine,
        "records": found.records,
        "indexed": found.indexed,
        "dimension": found.dimension,
        "fingerprint": found.fingerprint,
        "revision": found.revision,
    }


def classify_document(found: encoder_pb2.EncoderServiceClassifyImageResponse) -> ClassifyDocument:
    """What an image seems to be."""
    return {"guess": guess_document(found.guess), "timings": timings_document(found.timings)}


def guess_document(guess: pb.ImageGuess) -> GuessDocument:
    """What an image seems to be."""
    return {
        "kind": _KINDS.get(guess.kind, "unknown"),
        "medical_score": rounded(guess.medical_score),
        "facets": [
            {
                "facet": facet.facet,
                "values": [{"value": each.value, "score": rounded(each.score)} for each in facet.values],
                "sure": facet.sure,
            }
            for facet in guess.facets
        ],
    }


def flags_document(flags: Sequence[pb.Flag]) -> FlagsDocument:
    """Marks."""
    return {"flags": [flag_document(flag) for flag in flags]}


def records_document(found: retriever_pb2.RetrieverServiceListRecordsResponse) -> RecordsDocument:
    """A page of records."""
    document: RecordsDocument = {
        "records": [_stored(each) for each in found.records],
        "fingerprint": found.fingerprint,
    }
    if found.next_page_token:
        document["next_page_token"] = found.next_page_token
    return document


def _stored(stored: pb.StoredRecord) -> StoredRecordDocument:
    document = cast("StoredRecordDocument", record_document(stored.record))
    if stored.HasField("image_vector"):
        document["image_vector"] = _packed(stored.image_vector)
    if stored.HasField("caption_vector"):
        document["caption_vector"] = _packed(stored.caption_vector)
    return document


def _packed(vector: pb.Vector) -> str:
    values = array("f", vector.values)
    if sys.byteorder == "big":
        values.byteswap()
    return binascii.b2a_base64(values.tobytes(), newline=False).decode()


def lookup_document(found: Sequence[pb.RecordPresence]) -> LookupDocument:
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


def collection_info_document(found: pb.CollectionInfo) -> CollectionInfoDocument:
    """One collection."""
    return {
        "name": found.name,
        "active": found.active,
        "records": found.records,
        "indexed": found.indexed,
        "dimension": found.dimension,
        "fingerprint": found.fingerprint,
    }


def _manifest(text: str) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def image_version(record: pb.Record) -> str:
    """Changes with the image: what makes its address one that may be cached for ever."""
    return record.image_sha256[:16]


def image_urls(record: pb.Record) -> tuple[str, str]:
    """The addresses of a record's image and thumbnail. Ids hold no character that a path would need escaped."""
    version = f"?v={image_version(record)}" if record.image_sha256 else ""
    return f"/v1/images/{record.id}{version}", f"/v1/images/{record.id}/thumbnail{version}"


def result_document(result: pb.Result) -> ResultDocument:
    """One record found."""
    record = result.record
    image_url, thumbnail_url = image_urls(record)
    return {
        "id": record.id,
        "score": rounded(result.score),
        "cosine": rounded(result.cosine),
        "caption": record.caption,
        "labels": _labels(record),
        "licence": record.licence,
        "source": record.source,
        "attribution": record.attribution,
        "image_url": image_url,
        "thumbnail_url": thumbnail_url,
        "image_type": record.image_type,
        "width": record.width,
        "height": record.height,
        "flags": record.flags,
    }


def _outcome(outcome: pb.UpsertOutcome) -> OutcomeDocument:
    document: OutcomeDocument = {"id": outcome.id, "state": _STATES[outcome.state]}
    if outcome.HasField("error"):
        error = outcome.error
        code = Code(error.code) if error.code in Code.__members__ else Code.INTERNAL
        document["error"] = {"code": code, "message": error.message, "metadata": dict(error.metadata)}
    return document


def _term(term: pb.TermShare) -> TermDocument:
    return {
        "label": term.label,
        "weight": rounded(term.weight),
        "share": rounded(term.share),
        "tokens": term.tokens,
        "truncated": term.truncated,
    }


def timings_document(timings: pb.Timings) -> TimingsDocument:
    """Time spent."""
    return {
        "queue_ms": round(timings.queue_ms, 3),
        "inference_ms": round(timings.inference_ms, 3),
        "search_ms": round(timings.search_ms, 3),
        "total_ms": round(timings.total_ms, 3),
        "cached": timings.cached,
    }


def _labels(record: pb.Record) -> Labels:
    # A map of a message has no order; the same record always reads the same.
    return {name: list(record.labels[name].values) for name in sorted(record.labels)}


def rounded(value: float) -> float:
    """A float32 without the digits that a double shows beyond its seven: they are noise."""
    return round(value, 6)
