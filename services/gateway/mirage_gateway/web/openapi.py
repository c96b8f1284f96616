"""The OpenAPI description, made from the operations that are served."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from mirage_api.records import RecordUpload
from mirage_api.system import Problem
from mirage_core.errors import CATALOGUE, Code
from mirage_core.settings import Role
from mirage_gateway.access import PERMISSIONS
from mirage_gateway.web import problems
from mirage_gateway.web.operations import Operation

_REFERENCE = "#/components/schemas/{model}"
# Errors of every operation, of every one behind a key, and of every one that calls another service.
_COMMON = (Code.METHOD_NOT_ALLOWED, Code.REQUEST_MALFORMED, Code.QUEUE_FULL, Code.INTERNAL)
_KEYED = (Code.API_KEY_MISSING, Code.API_KEY_INVALID, Code.ROLE_REQUIRED, Code.RATE_LIMITED)
_REMOTE = (Code.DEPENDENCY_UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_BODY = (Code.REQUEST_TOO_LARGE, Code.MEDIA_TYPE_UNSUPPORTED)


def describe(operations: Iterable[Operation], *, version: str) -> dict[str, Any]:
    """Returns the document, OpenAPI 3.1."""
    operations = tuple(operations)
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {
        (RecordUpload, "validation"): None,
        (Problem, "serialization"): None,
    }
    for each in operations:
        models |= {(each.body, "validation"): None} if each.body else {}
        models |= {(model, "serialization"): None for model in (each.reply, *each.events.values()) if model}
    _, schemas = models_json_schema(list(models), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for each in operations:
        paths[each.path][each.method.lower()] = _operation(each)
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
            "schemas": dict(sorted(schemas["$defs"].items())),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    words = operation.path.replace("{", "").replace("}", "").replace(".", "/").split("/")
    document: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": "_".join([operation.method.lower(), *filter(None, words)]),
        "responses": {str(operation.status): _success(operation), **_failures(operation)},
        # An empty requirement means a server without keys.
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
        document["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(operation.body)}},
        }
    elif operation.content:
        document["requestBody"] = {"required": True, "content": operation.content}
    headers = {each.name for each in operation.parameters}
    if "if-none-match" in headers:
        document["responses"]["304"] = {"description": "The caller's copy is current."}
    if "last-event-id" in headers:
        document["responses"]["204"] = {"description": "The caller has had the last event."}
    return document


def _success(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {media_type: {} for media_type in operation.media_types}
    if operation.reply:
        content["application/json"] = {"schema": _schema(operation.reply)}
    if operation.events:
        content["text/event-stream"] = {
            "schema": {"type": "string", "description": "Server-sent events; the data of each is JSON as in x-events."},
            "x-events": {name: _schema(event) for name, event in operation.events.items()},
        }
    headers = {"X-Request-ID": _header("Of the log lines.")}
    if operation.status == 202:
        headers["Location"] = _header("Where to read the state.")
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
    document: dict[str, Any] = {
        "description": "; ".join(f"{code}: {CATALOGUE[code].title}" for code in sorted(codes)),
        "content": {problems.MEDIA_TYPE: {"schema": {"allOf": [_schema(Problem), narrowed]}}},
    }
    if status in (429, 503, 507):
        document["headers"] = {"Retry-After": _header("Seconds after which trying again makes sense.", "integer")}
    return document


def _schema(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}
