"""Explanations, as a stream of events or in one piece."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.web.body import Intake
from mirage_gateway.web.descriptions import EVENTS, DescriptionDocument, event_document
from mirage_gateway.web.event_stream import MEDIA_TYPE, Events, EventStream, while_connected
from mirage_gateway.web.json_bounds import QUERY
from mirage_gateway.web.operations import Operation, check_parameters, json_response
from mirage_gateway.web.queries import DescribeBody
from mirage_gateway.web.search_routes import QUERY_ERRORS
from mirage_protos.v1 import mirage_service_pb2

_Messages = AsyncGenerator[mirage_service_pb2.DescribeResponse]


class DescribeRoutes:
    """Explaining what a query finds."""

    def __init__(self, composer: Composer, intake: Intake) -> None:
        self._composer = composer
        self._intake = intake

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        return (
            Operation(
                "POST",
                "/v1/describe",
                "Explain what a query finds, with sources: events, or with `Accept: application/json` one document",
                self._describe,
                action=Action.DESCRIBE,
                body=DescribeBody,
                reply=DescriptionDocument,
                events=EVENTS,
                errors=(*QUERY_ERRORS, Code.OPTION_OUT_OF_RANGE),
            ),
        )

    async def _describe(self, request: Request) -> Response:
        check_parameters(request)
        asked = (await self._intake.json(request, DescribeBody, QUERY)).to_request()
        messages = self._composer.describe(asked.query, asked.options)
        del asked
        if _wants_json(request.headers.get("accept", "")):
            return json_response(await while_connected(request.receive, _whole(messages)))
        try:
            first = await anext(messages)
        except BaseException:
            await messages.aclose()
            raise
        return EventStream(_events(first, messages))


async def _events(first: mirage_service_pb2.DescribeResponse, messages: _Messages) -> Events:
    async with aclosing(messages):
        yield event_document(first)
        async for message in messages:
            yield event_document(message)


async def _whole(messages: _Messages) -> DescriptionDocument:
    whole: dict[str, Any] = {"start": None, "ranking": None}
    async with aclosing(messages):
        async for message in messages:
            name, document = event_document(message)
            if name == "done":
                whole |= cast("dict[str, Any]", document)
            elif name in ("retrieval", "start", "ranking"):
                whole[name] = document
    if "text" not in whole:
        raise MirageError(Code.INTERNAL)
    return cast("DescriptionDocument", whole)


def _wants_json(accept: str) -> bool:
    """True where JSON is named and events are not: what says nothing, or takes anything, gets the events."""
    named = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return "application/json" in named and MEDIA_TYPE not in named
