"""Records: read, store, remove, flag."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.web.body import Intake
from mirage_gateway.web.operations import (
    COLLECTION,
    ID,
    Operation,
    Parameter,
    boolean,
    check_parameters,
    integer,
    json_response,
)
from mirage_gateway.web.queries import FlagBody, LookupBody, RecordBody
from mirage_gateway.web.records import (
    DeleteDocument,
    FlagDocument,
    FlagsDocument,
    LookupDocument,
    RecordDocument,
    RecordsDocument,
    UpsertDocument,
    flag_document,
    flags_document,
    lookup_document,
    record_document,
    records_chunks,
    upsert_document,
)
from mirage_gateway.web.uploads import MEDIA_TYPE, RECORDS_MAX, Upload

_UPLOAD = {
    MEDIA_TYPE: {
        "schema": {
            "type": "object",
            "required": ["record", "image"],
            "properties": {
                "record": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": RECORDS_MAX,
                    "items": {"$ref": f"#/components/schemas/{RecordBody.__name__}"},
                },
                "image": {"type": "array", "maxItems": RECORDS_MAX, "items": {"contentMediaType": "image/*"}},
            },
            "description": "For each record a part named `record` (JSON) and right after it one named `image` (the file).",
        },
        "encoding": {
            "record": {"contentType": "application/json"},
            "image": {"contentType": "application/octet-stream"},
        },
    }
}

_PAGE = 100
_PAGE_MAX = 1000
# Of a record on a page, as a message: with a caption of ordinary length, and with two vectors of 1,024 components.
_RECORD_BYTES = 4 * 2**10
_VECTORS_BYTES = _RECORD_BYTES + 2 * 4 * 1024


class RecordRoutes:
    """Single records, and storing them."""

    def __init__(self, composer: Composer, intake: Intake) -> None:
        self._composer = composer
        self._intake = intake

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "GET",
                "/v1/records/{id}",
                "Read one record",
                self._get,
                action=Action.READ_RECORDS,
                reply=RecordDocument,
                parameters=(ID,),
                errors=(Code.ID_INVALID, Code.RECORD_NOT_FOUND),
            ),
            Operation(
                "GET",
                "/v1/records",
                "Walk over all records, with their vectors if wanted",
                self._list,
                action=Action.READ_RECORDS,
                reply=RecordsDocument,
                parameters=(
                    Parameter(
                        "limit", "Records a page.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
                    ),
                    Parameter("page_token", "next_page_token of the reply before."),
                    Parameter("vectors", "true for the vectors too.", {"type": "boolean", "default": False}),
                    COLLECTION,
                ),
                errors=(Code.K_OUT_OF_RANGE, Code.PAGE_TOKEN_INVALID, Code.COLLECTION_NOT_FOUND),
            ),
            Operation(
                "POST",
                "/v1/records/lookup",
                "Tell which of up to 1,000 records are stored, and which others show the same image",
                self._look_up,
                action=Action.READ_RECORDS,
                body=LookupBody,
                reply=LookupDocument,
                errors=(Code.TOO_MANY_ITEMS, Code.ID_INVALID, Code.COLLECTION_NOT_FOUND),
            ),
            Operation(
                "GET",
                "/v1/flags",
                "List the marks that readers made, newest first",
                self._flags,
                action=Action.LIST_FLAGS,
                reply=FlagsDocument,
                parameters=(
                    Parameter("record_id", "Of this record only."),
                    Parameter("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
                ),
                errors=(Code.K_OUT_OF_RANGE, Code.ID_INVALID),
            ),
            Operation(
                "POST",
                "/v1/records",
                "Store 1 to 64 records; one that is refused does not keep the others out. Idempotent",
                self._upsert,
                action=Action.WRITE_RECORDS,
                content=_UPLOAD,
                parameters=(COLLECTION,),
                reply=UpsertDocument,
                errors=(
                    Code.TOO_MANY_ITEMS,
                    Code.MODEL_NOT_READY,
                    Code.FINGERPRINT_MISMATCH,
                    Code.STORAGE_FULL,
                    Code.COLLECTION_NOT_FOUND,
                ),
            ),
            Operation(
                "DELETE",
                "/v1/records/{id}",
                "Remove one record; an unknown one is no error",
                self._delete,
                action=Action.WRITE_RECORDS,
                reply=DeleteDocument,
                parameters=(ID,),
                errors=(Code.ID_INVALID,),
            ),
            Operation(
                "POST",
                "/v1/records/{id}/flags",
                "Mark a record as wrong in some way",
                self._flag,
                action=Action.FLAG,
                body=FlagBody,
                reply=FlagDocument,
                parameters=(ID,),
                errors=(Code.ID_INVALID, Code.RECORD_NOT_FOUND, Code.FLAG_INVALID),
            ),
        )

    async def _get(self, request: Request) -> Response:
        check_parameters(request)
        return json_response(record_document(await self._composer.record(request.path_params["id"])))

    async def _upsert(self, request: Request) -> Response:
        check_parameters(request, "collection")
        upload = Upload(request, self._intake)
        try:
            outcomes = await self._composer.upsert(
                upload.parts(), collection=request.query_params.get("collection", "")
            )
        except asyncio.CancelledError:
            if upload.failure:
                raise upload.failure from None
            raise
        return json_response(upsert_document(outcomes))

    async def _delete(self, request: Request) -> Response:
        deleted = await self._composer.delete([request.path_params["id"]])
        document: DeleteDocument = {"deleted": deleted}
        return json_response(document)

    async def _flag(self, request: Request) -> Response:
        body = await self._intake.json(request, FlagBody)
        flag = await self._composer.flag(request.path_params["id"], reason=body.to_reason(), comment=body.comment)
        return json_response(flag_document(flag))

    async def _list(self, request: Request) -> Response:
        check_parameters(request, "limit", "page_token", "vectors", "collection")
        limit = _limit(request)
        vectors = boolean(request, "vectors")
        records = min(max(limit or _PAGE, 1), _PAGE_MAX)
        share = await self._intake.reserve(request.scope, records * (_VECTORS_BYTES if vectors else _RECORD_BYTES))
        found = await self._composer.records(
            page_size=limit,
            page_token=request.query_params.get("page_token", ""),
            vectors=vectors,
            collection=request.query_params.get("collection", ""),
        )
        share.become(min(found.ByteSize(), share.amount))
        return StreamingResponse(
            records_chunks(found), headers={"cache-control": "no-store"}, media_type="application/json"
        )

    async def _look_up(self, request: Request) -> Response:
        body = await self._intake.json(request, LookupBody)
        found = await self._composer.look_up(body.to_keys(), collection=body.collection)
        return json_response(lookup_document(found))

    async def _flags(self, request: Request) -> Response:
        check_parameters(request, "record_id", "limit")
        found = await self._composer.flags(
            record_id=request.query_params.get("record_id", ""), page_size=_limit(request)
        )
        return json_response(flags_document(found.flags))


def _limit(request: Request) -> int | None:
    limit = integer(request, "limit")
    if limit is not None and not 1 <= limit <= _PAGE_MAX:
        raise MirageError(Code.K_OUT_OF_RANGE, field="limit", min=1, max=_PAGE_MAX, given=limit)
    return limit
