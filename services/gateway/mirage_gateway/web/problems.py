"""Catalogue errors over HTTP: RFC 9457 problem details."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.responses import Response

from mirage_core import context, limits, telemetry
from mirage_core.errors import Code, MirageError, Status

MEDIA_TYPE = "application/problem+json"
_FIELD_CHARS = 100
_problems = telemetry.counter("http_problems_total", "Errors that callers were told, in streams too.", ("code",))


def problem_document(error: MirageError, **extension: Any) -> dict[str, Any]:
    """The error as a problem document."""
    entry = error.entry
    _problems.labels(error.code).inc()
    document: dict[str, Any] = {
        "type": f"urn:mirage:error:{error.code}",
        "title": entry.title,
        "status": entry.http,
        "detail": error.message,
        "code": error.code,
        "metadata": error.metadata,
        "request_id": context.request_id.get(),
        **extension,
    }
    retry_after_s = error.retry_after_s
    passing = entry.status in (Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED) and entry.http not in (413, 431)
    if retry_after_s is None and passing:
        retry_after_s = 1.0
    if retry_after_s is not None:
        document["retry_after_s"] = retry_after_s
    return document


def problem_response(error: MirageError, *, headers: Mapping[str, str] | None = None, **extension: Any) -> Response:
    """The error as application/problem+json, with Retry-After where trying again makes sense."""
    document = problem_document(error, **extension)
    sent = dict(headers or {})
    if "retry_after_s" in document:
        sent["retry-after"] = str(max(1, math.ceil(document["retry_after_s"])))
    if error.entry.http == 401:
        sent["www-authenticate"] = "Bearer"
    sent.setdefault("cache-control", "no-store")
    return Response(to_json(document), error.entry.http, sent, MEDIA_TYPE)


def malformed(error: ValidationError) -> MirageError:
    """Returns the catalogue error of the first thing that is wrong with a body; never pydantic's own text."""
    found = error.errors(include_url=False, include_context=True, include_input=True)
    # Of a field that may be one thing or another, each is an error: that something is too long says most.
    first = next((each for each in found if each["type"] in ("too_long", "string_too_long")), found[0])
    field = ".".join(str(part) for part in first["loc"])[:_FIELD_CHARS] or "body"
    bounds = first.get("ctx", {})
    # pydantic stops counting at the bound at times.
    given = bounds.get("actual_length") or "more"
    match first["type"]:
        case "too_long" if first["loc"][0] in _SHIFTS or first["loc"][-1] == "terms":
            return MirageError(Code.TOO_MANY_TERMS, max=bounds.get("max_length"), given=given)
        case "too_long":
            return MirageError(Code.TOO_MANY_ITEMS, field=field, min=0, max=bounds.get("max_length"), given=given)
        case "string_too_long" if not _TEXTS.isdisjoint(first["loc"]):
            length = len(str(first["input"]))
            return MirageError(Code.TEXT_TOO_LONG, field=field, max=bounds.get("max_length"), given=length)
        case "image_too_large":
            return MirageError(Code.IMAGE_TOO_LARGE, max_bytes=limits.IMAGE_BYTES)
        case kind:
            return MirageError(Code.REQUEST_MALFORMED, field=field, reason=_REASONS.get(kind, "wrong type or form"))


_SHIFTS = ("minus", "plus")
_TEXTS = frozenset({"text", "minus", "plus", "prompt", "negative_prompt"})
_REASONS = {
    "extra_forbidden": "unknown field",
    "missing": "missing",
    "json_invalid": "not JSON",
    "model_type": "not a JSON object",
    "string_too_long": "too long",
    "base64": "not base64",
}
