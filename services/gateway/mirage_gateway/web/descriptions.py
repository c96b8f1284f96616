"""Descriptions, as a stream of events or in one piece."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mirage_api import limits
from mirage_api.base import Reply
from mirage_api.descriptions import EVENTS, DescribeRequest, Description
from mirage_core.describe_options import check_describe_options
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.convert import to_message, to_model
from mirage_gateway.web.event_stream import MEDIA_TYPE, Events, EventStream, while_connected
from mirage_gateway.web.json_bounds import QUERY
from mirage_gateway.web.operations import json_response, operation
from mirage_gateway.web.search import QUERY_ERRORS, query_message, search_query, shift_messages
from mirage_protos.v1 import description_pb2, mirage_service_pb2, query_pb2

_Messages = AsyncGenerator[mirage_service_pb2.DescribeResponse]


class DescribeRoutes:
    """Describing what a query finds."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer

    @operation(
        "POST",
        "/v1/describe",
        Action.DESCRIBE,
        bounds=QUERY,
        reply=Description,
        events=EVENTS,
        errors=(*QUERY_ERRORS, Code.OPTION_OUT_OF_RANGE),
    )
    async def describe(self, body: DescribeRequest, request: Request) -> Response:
        """Describe what a query finds, or how `a` and `b` differ: events, or with `Accept: application/json` one document."""
        check_describe_options(**body.model_dump(include={"max_tokens", "temperature", "top_p", "seed", "stop"}))
        query, against = describe_queries(body)
        messages = self._composer.describe(query, to_message(description_pb2.DescribeOptions, body), against)
        del body, query, against
        if _wants_json(request.headers.get("accept", "")):
            return json_response(await while_connected(request.receive, _whole(messages)))
        try:
            first = await anext(messages)
        except BaseException:
            await messages.aclose()
            raise
        return EventStream(_events(first, messages))


def describe_queries(body: DescribeRequest) -> tuple[query_pb2.Query, query_pb2.Query | None]:
    """Returns the query, and the other one of a comparison.

    Raises as `query_message`, and REQUEST_MALFORMED for `a` without `b` or next to a query.
    """
    query = query_message(body, limits.CAPTIONS_MAX)
    query.terms.extend(shift_messages(body))
    if body.a is None and body.b is None:
        return query, None
    if body.a is None or body.b is None or query.terms or body.where or body.a.page_token or body.b.page_token:
        raise MirageError(Code.REQUEST_MALFORMED, field="a, b")
    one, other = (search_query(side.model_copy(update={"k": body.k})) for side in (body.a, body.b))
    for each in (one, other):
        each.collection = each.collection or body.collection
    return one, other


async def _events(first: mirage_service_pb2.DescribeResponse, messages: _Messages) -> Events:
    async with aclosing(messages):
        yield _event(first)
        async for message in messages:
            yield _event(message)


async def _whole(messages: _Messages) -> Description:
    whole: dict[str, Any] = {"against": None, "start": None, "ranking": None}
    async with aclosing(messages):
        async for message in messages:
            name, event = _event(message)
            if name == "done":
                whole |= dict(event)
            elif name in ("retrieval", "against", "start", "ranking"):
                whole[name] = event
    if "text" not in whole:
        raise MirageError(Code.INTERNAL)
    return Description.model_construct(**whole)


def _event(message: mirage_service_pb2.DescribeResponse) -> tuple[str, Reply]:
    name = message.WhichOneof("event")
    if name is None:
        raise MirageError(Code.INTERNAL)
    return name, to_model(EVENTS[name], getattr(message, name))


def _wants_json(accept: str) -> bool:
    """True if JSON is named and events are not: what says nothing, or takes anything, gets the events."""
    named = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
    return "application/json" in named and MEDIA_TYPE not in named
