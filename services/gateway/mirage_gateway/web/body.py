"""Reading what a request carries, with bounds that hold before the bytes are kept."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from mirage_core.errors import Code, MirageError
from mirage_gateway.web.problems import malformed

# An image of 20 MiB is 28 MB in base64; room for the other fields beside it.
JSON_BYTES = 32 * 2**20
UPLOAD_BYTES = 64 * 2**20
_LARGE_BYTES = 2**20

Model = TypeVar("Model", bound=BaseModel)


class Intake:
    """Reads bodies; at most `large` of those over 1 MiB (or of unknown length) are in memory at once, others wait."""

    def __init__(self, *, large: int, timeout_s: float) -> None:
        self._large = asyncio.Semaphore(large)
        self._timeout_s = timeout_s

    async def json(self, request: Request, model: type[Model], *, limit: int = JSON_BYTES) -> Model:
        """The JSON body as a model; raises MEDIA_TYPE_UNSUPPORTED, REQUEST_TOO_LARGE or REQUEST_MALFORMED."""
        check_media_type(request, "application/json")
        length = check_length(request, limit)
        if min(limit, limit if length is None else length) <= _LARGE_BYTES:
            return await self._parse(request, model, limit)
        async with self._large:
            return await self._parse(request, model, limit)

    async def _parse(self, request: Request, model: type[Model], limit: int) -> Model:
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                async for chunk in bounded(request, limit):
                    body += chunk
        except TimeoutError as error:
            raise MirageError(Code.DEADLINE_EXCEEDED) from error
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise malformed(error) from error


def check_media_type(request: Request, expected: str) -> str:
    """The Content-Type whole; raises MEDIA_TYPE_UNSUPPORTED unless it is `expected`, parameters aside.

    A form of another site's page cannot send application/json, so this also keeps such forms out.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != expected:
        raise MirageError(Code.MEDIA_TYPE_UNSUPPORTED, expected=expected)
    return given


def check_length(request: Request, limit: int) -> int | None:
    """The Content-Length, None where there is none; raises REQUEST_TOO_LARGE or REQUEST_MALFORMED."""
    given = request.headers.get("content-length")
    if given is None:
        return None
    if not given.isascii() or not given.isdigit():
        raise MirageError(Code.REQUEST_MALFORMED, field="content-length")
    if len(given) > 18 or int(given) > limit:
        raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=limit)
    return int(given)


async def bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it comes; raises REQUEST_TOO_LARGE as soon as it exceeds the limit, CANCELLED where it breaks off."""
    total = 0
    try:
        async for chunk in request.stream():
            total += len(chunk)
            if total > limit:
                raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=limit)
            yield chunk
    except ClientDisconnect as error:
        raise MirageError(Code.CANCELLED) from error
