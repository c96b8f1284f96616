"""HTTP operations. One declaration is what is served, checked and described:

    @operation("GET", "/v1/facets", Action.READ_RECORDS, errors=FACET_ERRORS)
    async def facets(self, where: Filter = {}, limit: Annotated[int, Field(ge=1, le=100)] = 50) -> FacetsReply:
        \"\"\"List facets and how many records carry each value.\"\"\"

A parameter named `body` is the JSON body, `request` the request itself; those in the path come from the path, the others
from the query. What the function returns is the reply.
"""

import asyncio
import gzip
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import BaseModel, Field, TypeAdapter, WithJsonSchema
from pydantic.fields import FieldInfo
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mirage_api.base import Reply
from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_gateway.access import PERMISSIONS, Action, check_permission
from mirage_gateway.web.body import Intake
from mirage_gateway.web.json_bounds import PLAIN, JsonBounds
from mirage_gateway.web.visitors import Visitors, remember

_FILTER_VALUES = 512
_FILTER_CHARS = 1_000
# Smaller ones take longer to compress than a local network takes to send them.
_COMPRESSED_BYTES = 16_384
_COMPRESSED_HERE_BYTES = 262_144
_WHOLE = re.compile("-?[0-9]{1,20}")
_DECLARED = "__operation__"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class _Header:
    name: str


Filter = Annotated[
    dict[str, list[str]],
    Field(description="facet=value; repeat it for several values of a facet (or) and for several facets (and)."),
    WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.+$"}}),
]
NotFilter = Annotated[
    dict[str, list[str]],
    Field(description="facet=value that a record must not have; repeat it for more."),
    WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.+$"}}),
]
RecordId = Annotated[str, Field(description="The id of a record.", pattern="^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
PageToken = Annotated[str, Field(description="next_page_token of the reply before, with all else unchanged.")]
CollectionName = Annotated[str, Field(description="The name of a collection; the active one if omitted.")]
IfNoneMatch = Annotated[str, _Header("if-none-match"), Field(description="The ETag of an answer that the caller has.")]
LastEventId = Annotated[
    str, _Header("last-event-id"), Field(description="Sent by a browser that reconnects after the last event.")
]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the path, the query or a header."""

    name: str
    within: str
    kind: type
    description: str
    schema: Mapping[str, Any]
    default: Any
    bounds: tuple[int, int] | None = None
    argument: str = ""

    def read(self, request: Request) -> Any:
        """Returns its value; raises REQUEST_MALFORMED, K_OUT_OF_RANGE or TOO_MANY_ITEMS."""
        if self.within == "path":
            return request.path_params[self.name]
        given = request.headers.get(self.name) if self.within == "header" else request.query_params.get(self.name)
        if given is None:
            return self.default
        if self.kind is dict:
            return _filter(request.query_params.getlist(self.name), self.name)
        if self.kind is bool and given in ("true", "false"):
            return given == "true"
        if self.kind is int and _WHOLE.fullmatch(given):
            number = int(given)
            if self.bounds and not self.bounds[0] <= number <= self.bounds[1]:
                low, high = self.bounds
                raise MirageError(Code.K_OUT_OF_RANGE, field=self.name, min=low, max=high, given=number)
            return number
        if self.kind is not str:
            raise MirageError(Code.REQUEST_MALFORMED, field=self.name)
        return given


@dataclass(frozen=True)
class Operation:
    """A method at a path. `action` decides who may call it (mirage_gateway.access).

    `errors` are the codes that it can end with in addition to the common ones; `media_types` are those of a reply that is not
    JSON; `events` are the models of a stream's events, by name; `content` is the OpenAPI content of a body that is not JSON. With
    `slashes` the parameter at the end of the path may have some.
    """

    method: str
    path: str
    action: Action
    summary: str
    serve: Callable[..., Awaitable[Any]]
    errors: tuple[Code, ...] = ()
    status: int = 200
    reply: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    bounds: JsonBounds = PLAIN
    content: Mapping[str, Any] | None = None
    media_types: tuple[str, ...] = ()
    events: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    takes_request: bool = False
    slashes: bool = False

    @property
    def open(self) -> bool:
        """True if it never needs a key."""
        return PERMISSIONS[self.action].open

    async def handle(self, request: Request, intake: Intake) -> Response:
        """Serves a request of a caller who may do this."""
        values = {each.argument: each.read(request) for each in self.parameters}
        known = {each.name for each in self.parameters if each.within == "query"}
        for name in request.query_params:
            # A filter alone may be repeated.
            repeated = len(request.query_params.getlist(name)) > 1 and name not in ("where", "not")
            # Probes may add what keeps caches away.
            if (name not in known or repeated) and self.action not in (Action.PROBE, Action.READ_METRICS):
                raise MirageError(Code.REQUEST_MALFORMED, field=name[:100])
        if self.takes_request:
            values["request"] = request
        if self.body is not None:
            # Nothing here keeps the body while it is worked on: its images are large.
            found = await self.serve(body=await intake.json(request, self.body, self.bounds), **values)
        else:
            found = await self.serve(**values)
        response = found if isinstance(found, Response) else json_response(found, status=self.status)
        return await _compressed(response, request)


def operation(
    method: str, path: str, action: Action, **more: Any
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """Declares a method of a class as an operation; `more` are fields of `Operation`."""

    def declare(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        setattr(function, _DECLARED, (method, path, action, more))
        return function

    return declare


def operations_of(routes: object) -> Iterator[Operation]:
    """Yields the operations that an object's methods declare, in their order."""
    for name, function in vars(type(routes)).items():
        if not hasattr(function, _DECLARED):
            continue
        method, path, action, more = getattr(function, _DECLARED)
        hints = get_type_hints(function, include_extras=True)
        returned = hints.pop("return")
        summary = (inspect.getdoc(function) or "").rstrip(".")
        found: dict[str, Any] = {"summary": summary, "serve": getattr(routes, name)}
        found["body"] = hints.pop("body", None)
        found["takes_request"] = hints.pop("request", None) is not None
        if isinstance(returned, type) and issubclass(returned, BaseModel):
            found["reply"] = returned
        defaults = inspect.signature(function).parameters
        found["parameters"] = tuple(_parameter(each, hints[each], defaults[each].default, path) for each in hints)
        yield Operation(method, path, action, **{**found, **more})


def routes_of(operations: Sequence[Operation], intake: Intake, visitors: Visitors) -> list[Route]:
    """Returns one route for each path, so that a wrong method is known as such and Allow names all that are right."""
    by_path: dict[str, dict[str, Handler]] = {}
    for each in operations:
        by_path.setdefault(each.path, {})[each.method] = _permitted(each, intake, visitors)
    wide = {each.path for each in operations if each.slashes}
    return [named_route(path, handlers, slashes=path in wide) for path, handlers in by_path.items()]


def named_route(path: str, handlers: Mapping[str, Handler], *, slashes: bool = False) -> Route:
    """Returns a route that reports its path to the edge, for logs and metrics."""

    async def serve(request: Request) -> Response:
        request.scope["mirage.route"] = path
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(f"{path[:-1]}:path}}" if slashes else path, serve, methods=[*handlers])


def json_response(document: Reply, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a JSON answer, which nothing may cache."""
    return Response(json_of(document), status, {"cache-control": "no-store", **(headers or {})}, "application/json")


def json_of(document: Reply) -> bytes:
    """Returns a reply as JSON, without the fields that are not set."""
    return document.__pydantic_serializer__.to_json(document, exclude_unset=True, warnings=False)


async def _compressed(response: Response, request: Request) -> Response:
    """The answer, compressed if it is JSON of some size, not streamed, and the client takes it so."""
    if response.media_type != "application/json" or isinstance(response, StreamingResponse):
        return response
    response.headers["vary"] = "accept-encoding"
    if len(response.body) >= _COMPRESSED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        # The fastest level: a search's reply is a fourth of its size after half a millisecond.
        # A list of megabytes would keep others waiting.
        large = len(response.body) > _COMPRESSED_HERE_BYTES
        packed = partial(gzip.compress, response.body, 1, mtime=0)
        response.body = await asyncio.to_thread(packed) if large else packed()
        response.headers["content-encoding"] = "gzip"
        response.headers["content-length"] = str(len(response.body))
    return response


def _permitted(operation: Operation, intake: Intake, visitors: Visitors) -> Handler:
    async def serve(request: Request) -> Response:
        caller = context.caller.get()
        check_permission(caller, operation.action)
        if operation.open or caller is None or not caller.public:
            return await operation.handle(request, intake)
        cookie = visitors.admit(request, operation.action)
        response = await operation.handle(request, intake)
        if cookie:
            remember(response, request, cookie)
        return response

    return serve


def _parameter(name: str, hint: Any, default: Any, path: str) -> Parameter:
    # The hint is Annotated[kind, ...], maybe with None for what is omitted.
    kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    kind = (
        next((each for each in get_args(kind) if each is not type(None)), kind)
        if get_origin(kind) is not dict
        else dict
    )
    fields = [each for each in marks if isinstance(each, FieldInfo)]
    header = next((each.name for each in marks if isinstance(each, _Header)), None)
    low = next((each.ge for info in fields for each in info.metadata if isinstance(each, Ge)), None)
    high = next((each.le for info in fields for each in info.metadata if isinstance(each, Le)), None)
    schema = TypeAdapter(Annotated[kind, *marks] if marks else kind).json_schema()
    schema.pop("description", None)
    if default not in (None, "", inspect.Parameter.empty) and kind is not dict:
        schema["default"] = default
    return Parameter(
        # A name that is Python's own word has an underscore after it.
        header or name.rstrip("_"),
        "header" if header else "path" if f"{{{name}}}" in path else "query",
        kind,
        next((each.description for each in fields if each.description), ""),
        schema,
        {} if kind is dict else default,
        (low, high) if isinstance(low, int) and isinstance(high, int) else None,
        name,
    )


def _filter(given_all: list[str], name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if len(given_all) > _FILTER_VALUES:
        raise MirageError(Code.TOO_MANY_ITEMS, field=name, min=0, max=_FILTER_VALUES, given=len(given_all))
    for given in given_all:
        facet, equals, value = given.partition("=")
        if not equals or not facet or len(given) > _FILTER_CHARS:
            raise MirageError(Code.REQUEST_MALFORMED, field=name)
        found.setdefault(facet, []).append(value)
    return found
