"""One HTTP exchange with the gateway: the key, the deadline, and its problems as errors."""

import ipaddress
import json
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from mirage import __version__
from mirage.calls import Call, Image, Request, Stream
from mirage.errors import ApiError, ClientError, InputError, ReplyError, TimedOutError, UnreachableError
from mirage.events import EventParser
from mirage_api.base import Reply
from mirage_api.descriptions import Failed
from mirage_api.system import Problem

H = TypeVar("H")
T = TypeVar("T")
R = TypeVar("R", bound=Reply)

DEFAULT_URL = "http://localhost:8080"
# The longest wait for a reply, except for operations to which the gateway itself gives more time (`Request.slow_s`).
USUAL_S = 30.0
# A reply is JSON of at most 100 records or an image of at most 20 MB; more than this is not MIRAGE's.
REPLY_BYTES = 64 * 2**20


def default_url() -> str:
    """The gateway's address: MIRAGE_URL, or http://localhost:8080."""
    return os.environ.get("MIRAGE_URL") or DEFAULT_URL


def default_key() -> str | None:
    """Returns MIRAGE_API_KEY, or the content of the file that MIRAGE_API_KEY_FILE names; None if neither is set.

    Raises InputError, which never quotes the key.
    """
    key, file = os.environ.get("MIRAGE_API_KEY"), os.environ.get("MIRAGE_API_KEY_FILE")
    if not file:
        return key or None
    if key:
        raise InputError("MIRAGE_API_KEY and MIRAGE_API_KEY_FILE are both set: set one of them")
    try:
        with open(file, encoding="ascii") as opened:
            found = opened.read().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise InputError(f"the file that MIRAGE_API_KEY_FILE names cannot be read: {reason}") from None
    if not found:
        raise InputError("the file that MIRAGE_API_KEY_FILE names is empty")
    return found


def is_near(url: str) -> bool:
    """True for an address that no proxy of the environment can reach: loopback, and a name without a domain."""
    host = urlsplit(url).hostname or ""
    if host.endswith(".localhost") or not ("." in host or ":" in host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Base:
    """The common part of both transports: address, headers, trust, and one connection pool for each process."""

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float | None, inner: Any) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._process = os.getpid()
        # The connections of the processes that this one was forked from, kept so that nothing closes them.
        self._inherited: list[Any] = []
        self._options = {
            "base_url": self.url,
            "headers": {
                "user-agent": f"mirage-client/{__version__}",
                **({"authorization": f"Bearer {api_key}"} if api_key else {}),
            },
            "timeout": _timeout(timeout_s or USUAL_S),
            # The environment's proxies are for other machines, with the exceptions of NO_PROXY.
            "trust_env": not is_near(self.url),
            "verify": _trusted(url),
            "transport": inner,
        }

    def _connect(self, kind: Callable[..., H]) -> H:
        try:
            return kind(**self._options)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UnreachableError(self.url, "not an address") from error
        except (ImportError, ValueError) as error:
            raise UnreachableError(self.url, "the proxy that the environment names cannot be used") from error

    def _is_forked(self, connections: object) -> bool:
        """Returns True once in a forked process: the connections of the parent would give one process the other's answers."""
        if self._process == os.getpid():
            return False
        self._inherited.append(connections)
        self._process = os.getpid()
        return True

    def _arguments(self, request: Request, *, events: bool = False) -> dict[str, Any]:
        headers = {"accept": "text/event-stream" if events else request.accept}
        found: dict[str, Any] = {"method": request.method, "url": request.path, "headers": headers}
        if request.body is not None:
            headers["content-type"] = "application/json"
            found["content"] = _encode(request.body)
        if request.params:
            found["params"] = request.params
        if request.files:
            found["files"] = request.files
        if request.slow_s and self._timeout_s is None:
            found["timeout"] = _timeout(request.slow_s)
        return found

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise UnreachableError(self.url, "no answer to the connection") from error
        except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise UnreachableError(self.url, _reason(error)) from error
        except httpx.ProxyError as error:
            raise UnreachableError(self.url, "the proxy that the environment names refused") from error
        except httpx.TimeoutException as error:
            raise TimedOutError(f"{self.url} did not answer in time") from error
        except httpx.HTTPError as error:
            raise ReplyError(f"the connection to {self.url} broke off") from error

    def _result(self, call: Call[T], status: int, headers: httpx.Headers, content: bytes) -> T:
        if not 200 <= status < 300:
            raise _problem(status, content, self.url)
        if call.reply is None:
            return call.pick(Image(headers.get("content-type", "application/octet-stream"), content))
        return call.pick(parse(call.reply, content or b"{}"))

    def _grown(self, content: bytearray, chunk: bytes) -> None:
        content += chunk
        if len(content) > REPLY_BYTES:
            raise ReplyError(f"the answer of {self.url} exceeds {REPLY_BYTES} bytes")


class Transport(_Base):
    """Sends requests to one gateway and raises `mirage.errors` for everything but a good answer."""

    def __init__(
        self, url: str, *, api_key: str | None, timeout_s: float | None, inner: httpx.BaseTransport | None
    ) -> None:
        super().__init__(url, api_key=api_key, timeout_s=timeout_s, inner=inner)
        self._own = self._connect(httpx.Client)

    @property
    def _http(self) -> httpx.Client:
        if self._is_forked(self._own):
            self._own = self._connect(httpx.Client)
        return self._own

    def close(self) -> None:
        """Closes the connections of this process."""
        if self._process == os.getpid():
            self._own.close()

    def call(self, call: Call[T]) -> T:
        """Returns the result of an operation. Raises ApiError for every status but 2xx."""
        content = bytearray()
        with self._translated(), self._http.stream(**self._arguments(call.request)) as response:
            for chunk in response.iter_bytes():
                self._grown(content, chunk)
        return self._result(call, response.status_code, response.headers, bytes(content))

    def events(self, stream: Stream[T]) -> Generator[T | None]:
        """Yields the server-sent events of an answer; close it to end the call.

        A sign of life of a silent server, and an event that this client does not know, come as None. Raises as `call` does,
        and ApiError for an `error` event.
        """
        process, events = os.getpid(), _Events(stream)
        with self._translated(), self._http.stream(**self._arguments(stream.request, events=True)) as response:
            if not response.is_success:
                raise _problem(response.status_code, response.read(), self.url)
            events.check(response)
            for piece in response.iter_bytes():
                for event in events.feed(piece):
                    yield event
                    if process != os.getpid():
                        raise InputError("this stream belongs to the process that began it")


class AsyncTransport(_Base):
    """The same for asyncio."""

    def __init__(
        self, url: str, *, api_key: str | None, timeout_s: float | None, inner: httpx.AsyncBaseTransport | None
    ) -> None:
        super().__init__(url, api_key=api_key, timeout_s=timeout_s, inner=inner)
        self._own = self._connect(httpx.AsyncClient)

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._is_forked(self._own):
            self._own = self._connect(httpx.AsyncClient)
        return self._own

    async def close(self) -> None:
        """Closes the connections of this process."""
        if self._process == os.getpid():
            await self._own.aclose()

    async def call(self, call: Call[T]) -> T:
        """Returns the result of an operation, as `Transport.call` does."""
        content = bytearray()
        with self._translated():
            async with self._http.stream(**self._arguments(call.request)) as response:
                async for chunk in response.aiter_bytes():
                    self._grown(content, chunk)
        return self._result(call, response.status_code, response.headers, bytes(content))

    async def events(self, stream: Stream[T]) -> AsyncGenerator[T | None]:
        """Yields the server-sent events of an answer, as `Transport.events` does."""
        process, events = os.getpid(), _Events(stream)
        with self._translated():
            async with self._http.stream(**self._arguments(stream.request, events=True)) as response:
                if not response.is_success:
                    raise _problem(response.status_code, await response.aread(), self.url)
                events.check(response)
                async for piece in response.aiter_bytes():
                    for event in events.feed(piece):
                        yield event
                        if process != os.getpid():
                            raise InputError("this stream belongs to the process that began it")


class _Events(Generic[T]):
    """Turns the pieces of a stream into its events."""

    def __init__(self, stream: Stream[T]) -> None:
        self._models = stream.events
        self._parser = EventParser(REPLY_BYTES)

    def check(self, response: httpx.Response) -> None:
        """Raises ReplyError unless the answer is a stream of events."""
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise ReplyError("the answer is not a stream of events: is this address MIRAGE's?")

    def feed(self, piece: bytes) -> Iterator[T | None]:
        """Yields the events that a piece completes; raises ApiError for an `error` event."""
        for name, data in self._parser.feed(piece):
            model = self._models.get(name)
            event = None if model is None else parse(model, data)
            if isinstance(event, Failed):
                raise _api_error(event.problem)
            yield event


def parse(model: type[R], content: bytes | str) -> R:
    """Returns a JSON object as a model; raises ReplyError, which names the first field that is missing or wrong."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise ReplyError("the answer is not JSON: is this address MIRAGE's?") from error
        if not first["loc"]:
            raise ReplyError("the answer is not a JSON object: is this address MIRAGE's?") from error
        field = ".".join(map(str, first["loc"]))
        raise ReplyError(f"the gateway's {model.__name__} has no usable field {field!r}") from error


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, 3.0))


def _encode(body: object) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeError as error:
        raise InputError("a text has bytes that are not UTF-8") from error
    except ValueError as error:
        raise InputError("a number is infinite or not a number") from error


def _reason(error: Exception) -> str:
    return "connection refused" if "refused" in str(error).lower() else "no connection"


def _trusted(url: str) -> ssl.SSLContext | bool:
    """Returns the trusted certificates: the public authorities', and those of the PEM file MIRAGE_CA_FILE.

    Raises UnreachableError for a file that is missing or lacks a certificate.
    """
    file = os.environ.get("MIRAGE_CA_FILE")
    if not file:
        return True
    context = httpx.create_ssl_context(trust_env=False)
    # A server's own certificate in it is enough, even if it is self-signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise UnreachableError(url, "MIRAGE_CA_FILE is not a readable PEM file of certificates") from error
    return context


def _problem(status: int, content: bytes, url: str) -> ClientError:
    try:
        problem = Problem.model_validate_json(content)
    except ValidationError:
        return ReplyError(f"{url} answered with status {status} and no MIRAGE problem")
    return _api_error(problem, status=status)


def _api_error(problem: Problem, *, status: int = 0) -> ApiError:
    return ApiError(
        problem.code,
        problem.detail or problem.title or problem.code,
        status=status or problem.status,
        metadata=problem.metadata,
        retry_after_s=problem.retry_after_s,
        request_id=problem.request_id or None,
    )
