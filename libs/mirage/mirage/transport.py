"""One HTTP exchange with the gateway: the key, the deadline, and its problems as errors."""

import ipaddress
import json
import os
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from mirage import __version__
from mirage.errors import ApiError, InputError, ReplyError, TimedOutError, UnreachableError

DEFAULT_URL = "http://localhost:8080"
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


def segment(value: str) -> str:
    """One path segment, with everything escaped that could leave it."""
    quoted = quote(value, safe="")
    # A segment of dots alone is resolved by clients and proxies, whether escaped or not.
    return quoted.replace(".", "%2E") if not value.strip(".") else quoted


class Transport:
    """Sends requests to one gateway and raises `mirage.errors` for everything but a good answer."""

    def __init__(self, url: str, *, api_key: str | None, timeout_s: float, inner: httpx.BaseTransport | None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"user-agent": f"mirage-client/{__version__}"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._inner = inner
        self._verify = _trusted(url)
        self._process = os.getpid()
        # The connections of the processes that this one was forked from, kept so that nothing closes them.
        self._inherited: list[httpx.Client] = []
        try:
            self._own = self._connect()
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UnreachableError(url, "not an address") from error
        except (ImportError, ValueError) as error:
            raise UnreachableError(url, "the proxy that the environment names cannot be used") from error

    def _connect(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url,
            headers=self._headers,
            timeout=httpx.Timeout(self._timeout_s, connect=min(self._timeout_s, 3.0)),
            # The environment's proxies are for other machines, with the exceptions of NO_PROXY.
            trust_env=not is_near(self.url),
            verify=self._verify,
            transport=self._inner,
        )

    @property
    def _http(self) -> httpx.Client:
        """The connections of this process: after a fork, those of the parent would give one process the other's answers."""
        if self._process != os.getpid():
            self._inherited.append(self._own)
            self._own = self._connect()
            self._process = os.getpid()
        return self._own

    def close(self) -> None:
        """Closes the connections of this process."""
        if self._process == os.getpid():
            self._own.close()

    def json(
        self, method: str, path: str, *, body: object = None, accept: str = "*/*", **options: Any
    ) -> Mapping[str, Any]:
        """Returns the JSON object of the answer, {} for an empty one.

        `body` is sent as JSON. Raises InputError if it cannot be encoded.
        """
        if body is not None:
            headers = {"content-type": "application/json", "accept": accept}
            options |= {"content": _encode(body), "headers": headers}
        response = self.send(method, path, **options)
        if not response.content:
            return {}
        return _json_object(response)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, read whole. Raises ApiError for every status but 2xx and 304."""
        with self._translated(), self._http.stream(method, path, **options) as response:
            answer = self._read(response)
        if not answer.is_success:
            raise _problem(answer, self.url)
        return answer

    def events(
        self, method: str, path: str, *, body: object = None, **options: Any
    ) -> Generator[tuple[str, Mapping[str, Any]]]:
        """Yields the server-sent events of an answer as (name, data); close it to end the call.

        A comment, by which a silent server says that it is there, comes as ("", {}).
        Raises as `json` does, and ApiError for an `error` event.
        """
        headers = {"accept": "text/event-stream"}
        if body is not None:
            headers["content-type"] = "application/json"
            options["content"] = _encode(body)
        process = os.getpid()
        with self._translated(), self._http.stream(method, path, headers=headers, **options) as response:
            if not response.is_success:
                raise _problem(self._read(response), self.url)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise ReplyError("the answer is no stream of events: is this address MIRAGE's?")
            for name, data in _parse_events(response.iter_lines()):
                if name == "error":
                    problem = data.get("problem")
                    raise _api_error(problem if isinstance(problem, dict) else {})
                yield name, data
                if process != os.getpid():
                    raise InputError("this stream belongs to the process that began it")

    def _read(self, response: httpx.Response) -> httpx.Response:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > REPLY_BYTES:
                raise ReplyError(f"the answer of {self.url} exceeds {REPLY_BYTES} bytes")
        return httpx.Response(response.status_code, headers=_plain(response.headers), content=bytes(content))

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


def _parse_events(lines: Iterator[str]) -> Generator[tuple[str, Mapping[str, Any]]]:
    """Events of a stream whose data are JSON objects
    (https://html.spec.whatwg.org/multipage/server-sent-events.html).
    """
    name, data, size = "message", "", 0
    for line in lines:
        if not line:
            if data:
                yield name, _parse_data(data)
            name, data, size = "message", "", 0
            continue
        field, _, value = line.partition(":")
        if not field:
            yield "", {}
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
            size += len(value)
            if size > REPLY_BYTES:
                raise ReplyError(f"an event exceeds {REPLY_BYTES} bytes")


def _parse_data(data: str) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ReplyError("an event holds no JSON: is this address MIRAGE's?") from error
    if not isinstance(value, dict):
        raise ReplyError("an event holds no JSON object: is this address MIRAGE's?")
    return value


def _encode(body: object) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeError as error:
        raise InputError("a text holds bytes that are no UTF-8") from error
    except ValueError as error:
        raise InputError("a number is infinite or not a number") from error


def _plain(headers: httpx.Headers) -> list[tuple[str, str]]:
    # The content is decoded already.
    return [(name, value) for name, value in headers.items() if name not in ("content-encoding", "content-length")]


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
        raise UnreachableError(url, "MIRAGE_CA_FILE is no readable PEM file of certificates") from error
    return context


def _json_object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        value = response.json()
    except ValueError as error:
        raise ReplyError("the answer is no JSON: is this address MIRAGE's?") from error
    if not isinstance(value, dict):
        raise ReplyError("the answer is no JSON object: is this address MIRAGE's?")
    return value


def _problem(response: httpx.Response, url: str) -> Exception:
    try:
        problem = _json_object(response)
    except ReplyError:
        problem = {}
    if "code" not in problem:
        return ReplyError(f"{url} answered with status {response.status_code} and no MIRAGE problem")
    return _api_error(problem, status=response.status_code)


def _api_error(problem: Mapping[str, Any], *, status: int = 0) -> ApiError:
    given = problem.get("status")
    metadata = problem.get("metadata")
    retry_after = problem.get("retry_after_s")
    return ApiError(
        str(problem.get("code") or "INTERNAL"),
        str(problem.get("detail") or problem.get("title") or problem.get("code") or "the call failed"),
        status=status or (given if isinstance(given, int) else 0),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else None,
        retry_after_s=float(retry_after) if isinstance(retry_after, int | float) else None,
        request_id=str(problem.get("request_id") or "") or None,
    )
