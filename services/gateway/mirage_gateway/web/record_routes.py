"""Records: read, store, remove, flag."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from mirage_core import context
from mirage_core.errors import Code
from mirage_gateway.access import check_may_write
from mirage_gateway.compose import Composer
from mirage_gateway.web.body import Intake
from mirage_gateway.web.documents import (
    DeleteDocument,
    FlagDocument,
    RecordDocument,
    UpsertDocument,
    flag_document,
    record_document,
    upsert_document,
)
from mirage_gateway.web.operations import ID, Operation, check_parameters, json_response
from mirage_gateway.web.queries import FlagBody, RecordBody
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


class RecordRoutes:
    """Single records, and storing them."""

    def __init__(self, composer: Composer, intake: Intake, *, keyed: bool) -> None:
        self._composer = composer
        self._intake = intake
        self._keyed = keyed

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "GET",
                "/v1/records/{id}",
                "Read one record",
                self._get,
                reply=RecordDocument,
                parameters=(ID,),
                errors=(Code.ID_INVALID, Code.RECORD_NOT_FOUND),
            ),
            Operation(
                "POST",
                "/v1/records",
                "Store 1 to 64 records; one that is refused does not keep the others out. Idempotent",
                self._upsert,
                content=_UPLOAD,
                reply=UpsertDocument,
                errors=(
                    Code.API_KEY_REQUIRED,
                    Code.TOO_MANY_ITEMS,
                    Code.MODEL_NOT_READY,
                    Code.FINGERPRINT_MISMATCH,
                    Code.STORAGE_FULL,
                ),
            ),
            Operation(
                "DELETE",
                "/v1/records/{id}",
                "Remove one record; an unknown one is no error",
                self._delete,
                reply=DeleteDocument,
                parameters=(ID,),
                errors=(Code.API_KEY_REQUIRED, Code.ID_INVALID),
            ),
            Operation(
                "POST",
                "/v1/records/{id}/flags",
                "Mark a record as wrong in some way",
                self._flag,
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
        check_may_write(context.client.get(), keyed=self._keyed)
        upload = Upload(request)
        try:
            outcomes = await self._composer.upsert(upload.parts())
        except asyncio.CancelledError:
            if upload.failure:
                raise upload.failure from None
            raise
        return json_response(upsert_document(outcomes))

    async def _delete(self, request: Request) -> Response:
        check_may_write(context.client.get(), keyed=self._keyed)
        deleted = await self._composer.delete([request.path_params["id"]])
        document: DeleteDocument = {"deleted": deleted}
        return json_response(document)

    async def _flag(self, request: Request) -> Response:
        body = await self._intake.json(request, FlagBody)
        flag = await self._composer.flag(request.path_params["id"], reason=body.reason, comment=body.comment)
        return json_response(flag_document(flag))
