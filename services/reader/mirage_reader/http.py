"""Calls to servers that the operator names, within bounds: no redirects, no proxies, no retries, no key in a log."""

import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from mirage_core.errors import Code, MirageError

ANSWER_BYTES = 512 * 2**10
IMAGE_BYTES = 2 * 2**20
STREAM_BYTES = 2 * 2**20
_LINE_BYTES = 64 * 2**10

# Its lines have whole addresses, and some providers want their key in the address.
logging.getLogger("httpx").setLevel(logging.CRITICAL)
logging.getLogger("httpcore").setLevel(logging.CRITICAL)


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Returns scheme, host and port; the port is None if it is the scheme's own."""
    return url.scheme, url.host, url.port


class Server:
    """A server at an address; `headers` are sent with each request. `name` is what errors call it."""

    def __init__(self, name: str, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            # A compressed answer could unpack to more than may be read.
            headers={"accept-encoding": "identity", **(headers or {})},
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=8),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get_json(self, path: str, params: Mapping[str, str]) -> Any:
        """Returns a JSON answer of at most 512 KiB; raises MirageError."""
        async with self._answer("GET", self._url + path, params=params) as response:
            return _parsed(await _content(response, ANSWER_BYTES))

    async def get_image(self, url: httpx.URL) -> bytes:
        """Returns what is at a whole address if it is called an image and has at most 2 MiB; raises MirageError."""
        async with self._answer("GET", url) as response:
            if not response.headers.get("content-type", "").startswith("image/"):
                raise MirageError(Code.MODEL_FAILED)
            return await _content(response, IMAGE_BYTES)

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Returns the JSON answer to a JSON body; raises MirageError."""
        async with self._answer("POST", self._url + path, json=body) as response:
            return _parsed(await _content(response, ANSWER_BYTES))

    async def stream_events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any]:
        """Yields the JSON of each event of a stream (server-sent events), at most 2 MiB in all, up to [DONE] or the end."""
        async with self._answer("POST", self._url + path, json=body) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise MirageError(Code.MODEL_FAILED)
            taken, rest = 0, b""
            async for piece in response.aiter_raw():
                taken += len(piece)
                *lines, rest = (rest + piece).split(b"\n")
                if taken > STREAM_BYTES or len(rest) > _LINE_BYTES:
                    raise MirageError(Code.MODEL_FAILED)
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    data = line.removeprefix(b"data:").strip()
                    if data == b"[DONE]":
                        return
                    yield _parsed(data)

    @asynccontextmanager
    async def _answer(self, method: str, url: str | httpx.URL, **request: Any) -> AsyncGenerator[httpx.Response]:
        try:
            async with self._client.stream(method, url, **request) as response:
                if response.status_code == 429:
                    raise MirageError(Code.QUEUE_FULL, retry_after_s=5.0)
                # A redirect is an answer that was not asked for, wherever it leads.
                if response.status_code != 200:
                    raise MirageError(Code.MODEL_FAILED)
                yield response
        except httpx.TimeoutException:
            raise MirageError(Code.DEADLINE_EXCEEDED) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service=self._name) from None


async def _content(response: httpx.Response, most: int) -> bytes:
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > most:
            raise MirageError(Code.MODEL_FAILED)
    return bytes(content)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise MirageError(Code.MODEL_FAILED) from None
