"""One HTTP operation: what is served, checked and documented from the same lines."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from mirage_core.errors import Code, MirageError
from mirage_gateway.access import PERMISSIONS, Action

_FILTER_VALUES = 512
_FILTER_CHARS = 1_000

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the path or the query, with its JSON schema."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    within: str = "query"


@dataclass(frozen=True)
class Operation:
    """A method at a path. `action` decides who may call it (mirage_gateway.access).

    `status` is that of success. `body` is the model of a JSON body; `content` the OpenAPI content of another kind of body.
    `reply` is the type of a JSON answer; `media_types` are those of another answer; `events` are the types of a stream's
    events, by name. `errors` are the codes that it can end with beside the common ones.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    action: Action
    status: int = 200
    body: type[BaseModel] | None = None
    content: Mapping[str, Any] | None = None
    reply: Any = None
    media_types: tuple[str, ...] = ()
    events: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[Code, ...] = ()

    @property
    def open(self) -> bool:
        """True if it never needs a key."""
        return PERMISSIONS[self.action].open


ID = Parameter(
    "id", "The id of a record.", {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"}, "path"
)
WHERE = Parameter(
    "where",
    "facet=value; repeat it for several values of a facet (or) and for several facets (and).",
    {"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.+$"}},
)
COLLECTION = Parameter("collection", "The name of a collection; the active one where absent.")


def json_response(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, which nobody may cache."""
    return Response(to_json(document), status, {"cache-control": "no-store", **(headers or {})}, "application/json")


def check_parameters(request: Request, *known: str) -> None:
    """Raises REQUEST_MALFORMED for a query parameter that is not known, and for one given twice (`where` aside)."""
    for name in request.query_params:
        if name not in known or (name != "where" and len(request.query_params.getlist(name)) > 1):
            raise MirageError(Code.REQUEST_MALFORMED, field=name[:100])


def integer(request: Request, name: str) -> int | None:
    """A whole number of the query, None where absent; raises REQUEST_MALFORMED."""
    given = request.query_params.get(name)
    if given is None:
        return None
    digits = given.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise MirageError(Code.REQUEST_MALFORMED, field=name)
    return int(given)


def boolean(request: Request, name: str) -> bool:
    """A yes or no of the query, no where absent; raises REQUEST_MALFORMED."""
    given = request.query_params.get(name, "false")
    if given not in ("true", "false"):
        raise MirageError(Code.REQUEST_MALFORMED, field=name)
    return given == "true"


def where(request: Request) -> dict[str, list[str]]:
    """The filter of the query, `where=facet=value`; raises REQUEST_MALFORMED or TOO_MANY_ITEMS."""
    found: dict[str, list[str]] = {}
    given_all = request.query_params.getlist("where")
    if len(given_all) > _FILTER_VALUES:
        raise MirageError(Code.TOO_MANY_ITEMS, field="where", min=0, max=_FILTER_VALUES, given=len(given_all))
    for given in given_all:
        name, equals, value = given.partition("=")
        if not equals or not name or len(given) > _FILTER_CHARS:
            raise MirageError(Code.REQUEST_MALFORMED, field="where")
        found.setdefault(name, []).append(value)
    return found
