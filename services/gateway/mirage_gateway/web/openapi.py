"""The OpenAPI description, made from the operations that are served."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from mirage_core.errors import CATALOGUE, Code
from mirage_core.settings import Role
from mirage_gateway.access import PERMISSIONS
from mirage_gateway.web import problems
from mirage_gateway.web.operations import Operation
from mirage_gateway.web.problems import ProblemDocument
from mirage_gateway.web.queries import RecordBody

_REFERENCE = "#/components/schemas/{model}"
# What every operation, every one behind a key, and every one that asks another service can end with.
_COMMON = (Code.METHOD_NOT_ALLOWED, Code.REQUEST_MALFORMED, Code.QUEUE_FULL, Code.INTERNAL)
_KEYED = (Code.API_KEY_MISSING, Code.API_KEY_INVALID, Code.ROLE_REQUIRED, Code.RATE_LIMITED)
_REMOTE = (Code.DEPENDENCY_UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_BODY = (Code.REQUEST_TOO_LARGE, Code.MEDIA_TYPE_UNSUPPORTED)


def describe(operations: Iterable[Operation], *, version: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    operations = tuple(operations)
    schemas = _body_schemas(operations)
    replies = {}
    events = [event for each in operations for event in each.events.values()]
    for reply in [*(each.reply for each in operations if each.reply), *events, ProblemDocument]:
        schema = TypeAdapter(reply).json_schema(mode="serialization", ref_template=_REFERENCE)
        schemas |= schema.pop("$defs", {})
        schemas[reply.__name__] = schema
        replies[reply] = {"$ref": _REFERENCE.format(model=reply.__name__)}
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in operations:
        paths[operation.path][operation.method.lower()] = _operation(operation, replies)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MIRAGE",
            "version": version,
            "description": "Search of captioned, licensed medical images, for education. Not for diagnosis.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(paths),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _body_schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    bodies = {RecordBody: None} | {each.body: None for each in operations if each.body}
    _, document = models_json_schema([(body, "validation") for body in bodies], ref_template=_REFERENCE)
    return dict(document["$defs"])


def _operation(operation: Operation, replies: Mapping[Any, Mapping[str, str]]) -> dict[str, Any]:
    words = operation.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    document: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": "_".join([operation.method.lower(), *filter(None, words)]),
        "responses": {str(operation.status): _success(operation, replies), **_failures(operation)},
        # An empty requirement stands for a server without keys.
        "security": [] if operation.open else [{}, {"key": []}],
    }
    if operation.parameters:
        document["parameters"] = [
            {
                "name": each.name,
                "in": each.within,
                "required": each.within == "path",
                "description": each.description,
                "schema": dict(each.schema),
            }
            for each in operation.parameters
        ]
    if operation.body:
        reference = {"$ref": _REFERENCE.format(model=operation.body.__name__)}
        document["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    elif operation.content:
        document["requestBody"] = {"required": True, "content": operation.content}
    if any(each.name == "if-none-match" for each in operation.parameters):
        document["responses"]["304"] = {"description": "The caller's copy is current."}
    if any(each.name == "last-event-id" for each in operation.parameters):
        document["responses"]["204"] = {"description": "The caller has had the last event."}
    return document


def _success(operation: Operation, replies: Mapping[Any, Mapping[str, str]]) -> dict[str, Any]:
    if operation.reply:
        content: dict[str, Any] = {"application/json": {"schema": replies[operation.reply]}}
    else:
        content = {media_type: {} for media_type in operation.media_types}
    if operation.events:
        content["text/event-stream"] = {
            "schema": {"type": "string", "description": "Server-sent events; the data of each is JSON as in x-events."},
            "x-events": {name: dict(replies[event]) for name, event in operation.events.items()},
        }
    headers = {"X-Request-ID": _header("Of the log lines.")}
    if operation.status == 202:
        headers["Location"] = _header("Where to read how far it is.")
    return {"description": operation.summary, "content": content, "headers": headers}


def _failures(operation: Operation) -> dict[str, Any]:
    codes = dict.fromkeys((*operation.errors, *_COMMON))
    if not operation.open:
        codes |= dict.fromkeys(_KEYED)
        if PERMISSIONS[operation.action].role > Role.READ:
            codes[Code.API_KEY_REQUIRED] = None
    if operation.path.startswith("/v1/"):
        codes |= dict.fromkeys(_REMOTE)
    if operation.body or operation.content:
        codes |= dict.fromkeys(_BODY)
    by_status: dict[int, list[Code]] = defaultdict(list)
    for code in codes:
        by_status[CATALOGUE[code].http].append(code)
    return {str(status): _failure(status, found) for status, found in sorted(by_status.items())}


def _failure(status: int, codes: list[Code]) -> dict[str, Any]:
    narrowed = {"properties": {"code": {"enum": sorted(codes)}, "status": {"const": status}}}
    schema = {"allOf": [{"$ref": _REFERENCE.format(model=ProblemDocument.__name__)}, narrowed]}
    document: dict[str, Any] = {
        "description": "; ".join(f"{code}: {CATALOGUE[code].title}" for code in sorted(codes)),
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
    }
    if status in (429, 503, 507):
        document["headers"] = {"Retry-After": _header("Seconds after which trying again makes sense.", "integer")}
    return document


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}
