"""Readings, as a stream of events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.responses import Response

from mirage_api.base import Reply
from mirage_api.readings import EVENTS, ReadRequest
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.convert import to_message, to_model
from mirage_gateway.web.event_stream import Events, EventStream
from mirage_gateway.web.json_bounds import FILE
from mirage_gateway.web.operations import operation
from mirage_gateway.web.search import FACET_ERRORS, IMAGE_ERRORS
from mirage_protos.v1 import mirage_service_pb2, reading_pb2

_Messages = AsyncGenerator[mirage_service_pb2.ReadResponse]


class ReadRoutes:
    """Reading an image step by step."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    @operation(
        "POST",
        "/v1/read",
        Action.READ,
        bounds=FILE,
        events=EVENTS,
        errors=(
            *IMAGE_ERRORS,
            *FACET_ERRORS,
            Code.EMPTY_QUERY,
            Code.TEXT_TOO_LONG,
            Code.ID_INVALID,
            Code.RECORD_NOT_FOUND,
            Code.COLLECTION_NOT_FOUND,
            Code.FINGERPRINT_MISMATCH,
        ),
    )
    async def read(self, body: ReadRequest) -> Response:
        """Read an image step by step: kind, checklist, evidence, reading, label, similar, context. Not for diagnosis."""
        if sum(each is not None for each in (body.image, body.record_id, body.text)) > 1:
            raise MirageError(Code.REQUEST_MALFORMED, field="image, record_id, text")
        messages = self._composer.read(to_message(reading_pb2.ReadQuery, body))
        # Its image is large: nothing here keeps it while it is read.
        del body
        try:
            first = await anext(messages)
        except BaseException:
            await messages.aclose()
            raise
        return EventStream(_events(first, messages))


async def _events(first: mirage_service_pb2.ReadResponse, messages: _Messages) -> Events:
    async with aclosing(messages):
        yield _event(first)
        async for message in messages:
            yield _event(message)


def _event(message: mirage_service_pb2.ReadResponse) -> tuple[str, Reply]:
    name = message.WhichOneof("event")
    if name is None:
        raise MirageError(Code.INTERNAL)
    return name, to_model(EVENTS[name], getattr(message, name))
