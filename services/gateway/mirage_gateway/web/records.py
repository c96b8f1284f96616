"""Records: read, stored, removed, flagged, looked up, and walked over."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, get_args

from pydantic import Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mirage_api import limits
from mirage_api.records import (
    Case,
    DeleteReply,
    Flag,
    FlagReason,
    FlagRequest,
    FlagsReply,
    LookupReply,
    LookupRequest,
    Record,
    RecordsReply,
    RecordUpload,
    Shown,
    StoredRecord,
    UpsertError,
    UpsertReply,
)
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer, string_lists
from mirage_gateway.convert import derived, number_of, to_message, to_model
from mirage_gateway.web.body import Intake
from mirage_gateway.web.operations import (
    CollectionName,
    Filter,
    NotFilter,
    PageToken,
    RecordId,
    json_of,
    operation,
)
from mirage_gateway.web.uploads import MEDIA_TYPE, Upload
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import flag_pb2, problem_pb2, query_pb2, record_pb2

_UPLOAD = {
    MEDIA_TYPE: {
        "schema": {
            "type": "object",
            "required": ["record", "image"],
            "properties": {
                "record": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": limits.UPLOAD_RECORDS_MAX,
                    "items": {"$ref": f"#/components/schemas/{RecordUpload.__name__}"},
                },
                "image": {
                    "type": "array",
                    "maxItems": limits.UPLOAD_RECORDS_MAX,
                    "items": {"contentMediaType": "image/*"},
                },
            },
            "description": "For each record a part named `record` (JSON) and right after it one named `image` (the file).",
        },
        "encoding": {
            "record": {"contentType": "application/json"},
            "image": {"contentType": "application/octet-stream"},
        },
    }
}
# Of a record on a page, as a message: with a caption of ordinary length, and with two vectors of 1,024 components.
_RECORD_BYTES = 4 * 2**10
_VECTORS_BYTES = _RECORD_BYTES + 2 * 4 * 1024
_CHUNK_BYTES = 64 * 2**10


class RecordRoutes:
    """Single records, and storing them."""

    def __init__(self, composer: Composer, intake: Intake) -> None:
        self._composer = composer
        self._intake = intake

    @operation(
        "GET",
        "/v1/records/{id}",
        Action.READ_RECORDS,
        errors=(Code.ID_INVALID, Code.RECORD_NOT_FOUND, Code.COLLECTION_NOT_FOUND),
    )
    async def record(self, id: RecordId, collection: CollectionName = "") -> Record:
        """Read one record."""
        return to_model(Record, await self._composer.record(id, collection))

    @operation(
        "GET",
        "/v1/cases/{id}",
        Action.READ_RECORDS,
        slashes=True,
        errors=(Code.CASE_NOT_FOUND, Code.COLLECTION_NOT_FOUND),
    )
    async def case(
        self,
        id: Annotated[str, Field(description="The id of a case.")],
        collection: CollectionName = "",
    ) -> Case:
        """Read a case: its records in the order of their positions."""
        asked = retriever_pb2.GetCaseRequest(id=id, collection=collection)
        return to_model(Case, (await self._composer.forward(asked)).case)

    @operation(
        "GET",
        "/v1/records",
        Action.READ_RECORDS,
        reply=RecordsReply,
        errors=(
            Code.K_OUT_OF_RANGE,
            Code.PAGE_TOKEN_INVALID,
            Code.COLLECTION_NOT_FOUND,
            Code.FACET_UNKNOWN,
            Code.FACET_VALUE_INVALID,
            Code.OPTION_OUT_OF_RANGE,
        ),
    )
    async def records(
        self,
        request: Request,
        limit: Annotated[int, Field(description="Records on a page.", ge=1, le=limits.IDS_MAX)] = 100,
        page_token: PageToken = "",
        vectors: Annotated[bool, Field(description="true for the vectors too; not with an order.")] = False,
        where: Filter = {},
        not_: NotFilter = {},
        order: Annotated[
            str,
            Field(
                description="newest, case (the images of a case next to each other) or random; if omitted, one that stays the "
                "same but means nothing."
            ),
        ] = "",
        seed: Annotated[
            int | None,
            Field(description="For the order random: the same one gives the same order.", ge=0, le=2**63 - 1),
        ] = None,
        collection: CollectionName = "",
    ) -> Response:
        """List the records that pass a filter, with their vectors if wanted."""
        share = await self._intake.reserve(request.scope, limit * (_VECTORS_BYTES if vectors else _RECORD_BYTES))
        found = await self._composer.forward(
            retriever_pb2.ListRecordsRequest(
                page_size=limit,
                page_token=page_token,
                vectors=vectors,
                where=string_lists(where),
                where_not=string_lists(not_),
                order=_order(order) if order else None,
                seed=seed,
                collection=collection,
            )
        )
        share.become(min(found.ByteSize(), share.amount))
        return StreamingResponse(
            _records_chunks(found), headers={"cache-control": "no-store"}, media_type="application/json"
        )

    @operation(
        "POST",
        "/v1/records/lookup",
        Action.READ_RECORDS,
        errors=(Code.TOO_MANY_ITEMS, Code.ID_INVALID, Code.COLLECTION_NOT_FOUND),
    )
    async def look_up(self, body: LookupRequest) -> LookupReply:
        """Report which of up to 1,000 records are stored, and which others show the same image."""
        asked = to_message(retriever_pb2.LookupRecordsRequest, body)
        return to_model(LookupReply, await self._composer.forward(asked))

    @operation(
        "POST",
        "/v1/records",
        Action.WRITE_RECORDS,
        content=_UPLOAD,
        errors=(
            Code.TOO_MANY_ITEMS,
            Code.MODEL_NOT_READY,
            Code.FINGERPRINT_MISMATCH,
            Code.STORAGE_FULL,
            Code.COLLECTION_NOT_FOUND,
        ),
    )
    async def upsert(self, request: Request, collection: CollectionName = "") -> UpsertReply:
        """Store 1 to 64 records; one that is refused does not keep the others out. Idempotent."""
        upload = Upload(request, self._intake)
        try:
            outcomes = await self._composer.upsert(upload.parts(), collection=collection)
        except asyncio.CancelledError:
            if upload.failure:
                raise upload.failure from None
            raise
        return to_model(UpsertReply, retriever_pb2.UpsertRecordsResponse(outcomes=outcomes))

    @operation("DELETE", "/v1/records/{id}", Action.WRITE_RECORDS, errors=(Code.ID_INVALID, Code.COLLECTION_NOT_FOUND))
    async def delete(self, id: RecordId, collection: CollectionName = "") -> DeleteReply:
        """Remove one record; an unknown one is not an error."""
        asked = retriever_pb2.DeleteRecordsRequest(ids=[id], collection=collection)
        return to_model(DeleteReply, await self._composer.forward(asked))

    @operation(
        "POST",
        "/v1/records/{id}/flags",
        Action.FLAG,
        errors=(Code.ID_INVALID, Code.RECORD_NOT_FOUND, Code.FLAG_INVALID, Code.COLLECTION_NOT_FOUND),
    )
    async def flag(
        self,
        id: RecordId,
        body: FlagRequest,
        collection: CollectionName = "",
    ) -> Flag:
        """Report that something is wrong with a record."""
        if number_of(flag_pb2.FlagReason.DESCRIPTOR, body.reason) is None:
            raise MirageError(Code.FLAG_INVALID, field="reason", known=", ".join(get_args(FlagReason)))
        asked = to_message(retriever_pb2.FlagRecordRequest, body)
        asked.record_id, asked.collection = id, collection
        return to_model(Flag, (await self._composer.forward(asked)).flag)

    @operation(
        "GET",
        "/v1/flags",
        Action.LIST_FLAGS,
        errors=(Code.K_OUT_OF_RANGE, Code.ID_INVALID, Code.PAGE_TOKEN_INVALID),
    )
    async def flags(
        self,
        record_id: Annotated[str, Field(description="Of this record only.")] = "",
        limit: Annotated[int, Field(description="How many.", ge=1, le=1000)] = 100,
        page_token: PageToken = "",
    ) -> FlagsReply:
        """List the flags that readers raised, newest first."""
        asked = retriever_pb2.ListFlagsRequest(record_id=record_id, page_size=limit, page_token=page_token)
        return to_model(FlagsReply, await self._composer.forward(asked))


def _order(word: str) -> "query_pb2.RecordOrder.ValueType":
    number = number_of(query_pb2.RecordOrder.DESCRIPTOR, word) if word == word.lower() else None
    if number is None:
        raise MirageError(Code.REQUEST_MALFORMED, field="order: newest, case or random")
    return query_pb2.RecordOrder.ValueType(number)


async def _records_chunks(found: retriever_pb2.ListRecordsResponse) -> AsyncIterator[bytes]:
    """Yields a RecordsReply in JSON, a few records at a time: with vectors a page has many megabytes."""
    chunk = bytearray(b'{"records":[')
    for index, stored in enumerate(found.records):
        if len(chunk) > _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
            # Others get their turn, whether the reader of this is fast or slow.
            await asyncio.sleep(0)
        chunk += (b"," if index else b"") + json_of(to_model(StoredRecord, stored))
    rest: dict[str, str | int] = {"fingerprint": found.fingerprint, "total": found.total}
    if found.next_page_token:
        rest["next_page_token"] = found.next_page_token
    yield bytes(chunk) + b"]," + to_json(rest)[1:]


def image_version(record: record_pb2.Record) -> str:
    """Returns what changes with the image: with it an address may be cached for ever."""
    return record.image_sha256[:16]


@derived(Shown, "image_url")
def _image_url(message: record_pb2.Record | query_pb2.Result | record_pb2.StoredRecord) -> str:
    return _address(message, "")


@derived(Shown, "thumbnail_url")
def _thumbnail_url(message: record_pb2.Record | query_pb2.Result | record_pb2.StoredRecord) -> str:
    return _address(message, "/thumbnail")


def _address(message: record_pb2.Record | query_pb2.Result | record_pb2.StoredRecord, path: str) -> str:
    # Ids and names have no character that an address would need escaped.
    record = message if isinstance(message, record_pb2.Record) else message.record
    given = {"v": image_version(record), "collection": record.collection}
    query = "&".join(f"{name}={value}" for name, value in given.items() if value)
    return f"/v1/images/{record.id}{path}{'?' if query else ''}{query}"


@derived(UpsertError, "code")
def known_code(problem: problem_pb2.Problem) -> str:
    """Returns a problem's code, INTERNAL for one that the catalogue does not have."""
    return problem.code if problem.code in Code.__members__ else Code.INTERNAL
