"""Wraps every HTTP request: identity, request id, errors as problems, headers, access log, metrics, span."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirage_core import context, telemetry, tracing
from mirage_core.context import is_this_machine
from mirage_core.errors import Code, MirageError
from mirage_core.settings import Identity, Role
from mirage_gateway.request_memory import RequestMemory
from mirage_gateway.request_places import Place, RequestPlaces
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.body import EXIT, PASSED_BYTES, PLACE, SHARE
from mirage_gateway.web.event_stream import MEDIA_TYPE as EVENT_STREAM
from mirage_gateway.web.problems import problem_response
from mirage_gateway.web.proxies import CLIENT, FORWARDED_HOST, group_of

_log = telemetry.get_logger()
_latency = telemetry.histogram("http_seconds", "Time to serve one HTTP request.", ("route", "method", "status"))
_running = telemetry.gauge("http_running", "HTTP requests being served.")

# A larger upload that was refused is not worth reading to its end.
_DRAIN_BYTES = 64 * 2**20
# Paths for operators, answered even if nothing else fits.
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
# Of an answer, between two looks at how much of it the reader has taken.
_PIECE_BYTES = 64 * 2**10
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


class Edge:
    """Wraps the router. `open_paths` (and the page's files, and what `is_lost` says leads nowhere) need no API key.

    Without keys only requests for a name of this machine are served (`allowed_hosts` adds others): a page of another
    site that gets its own name to point here (DNS rebinding) is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: GatewaySettings,
        memory: RequestMemory,
        *,
        open_paths: frozenset[str],
        is_lost: Callable[[Scope], bool],
    ) -> None:
        self._app = app
        self._memory = memory
        self._places = RequestPlaces(settings.max_requests, per_client=settings.max_requests_per_client)
        self._keys = settings.api_keys
        self._asks_for_keys = settings.asks_for_keys
        self._public = settings.public_read
        self._published = bool(settings.published)
        self._origins = frozenset(settings.cors_origins)
        # As the operator writes them; a name with a port is the address of a page, whose name alone is looked for in Host.
        self._addresses = frozenset(name.lower() for name in settings.allowed_hosts)
        self._hosts = _LOCAL_NAMES | {_name(address) for address in self._addresses}
        self._open_paths = open_paths
        self._is_lost = is_lost
        resource_policy = "cross-origin" if settings.cors_origins else "same-origin"
        self._headers = {**_HEADERS, "cross-origin-resource-policy": resource_policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; its outcome is an answer, never an exception."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = context.accept_request_id(headers.get("x-request-id"))
        context.request_id.set(request_id)
        span = _open_span(scope, headers)
        span.set(request_id=request_id)
        span.enter()
        scope["app"] = self._app  # makes the router raise for an unknown path, rather than answer in plain text
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                self._complete(sent, request_id)
                if not sent.get("content-type", "").startswith(EVENT_STREAM):
                    # Only sending is left.
                    place.leave()
                size = _answer_bytes(sent.get("content-length", ""))
                if SHARE not in scope or scope[SHARE].amount < size:
                    ending.callback(self._memory.hold(client, size).release)
            elif (size := len(message.get("body", b""))) > _PIECE_BYTES:
                if size > PASSED_BYTES:
                    ending.callback(self._memory.hold(client, size).release)
                await _send_in_pieces(message, send)
                return
            await send(message)

        client = group_of(scope[CLIENT])
        # Left by an answer that lasts long and has bounds of its own, and while a body arrives.
        scope[PLACE] = place = Place(self._places, client)
        scope[EXIT] = ending = ExitStack()
        ending.callback(place.leave)
        _running.inc()
        try:
            if scope["path"] not in PROBES:
                await place.take()
            self._admit(scope, headers)
            await self._app(scope, receive, answer)
        except MirageError as error:
            await _answer_problem(error, scope, receive, answer, started=bool(status))
        except HTTPException as error:
            code = Code.METHOD_NOT_ALLOWED if error.status_code == 405 else Code.ROUTE_NOT_FOUND
            await _answer_problem(
                MirageError(code), scope, receive, answer, started=bool(status), headers=error.headers
            )
        except Exception:
            _log.exception("request failed", route=_route(scope))
            await _answer_problem(MirageError(Code.INTERNAL), scope, receive, answer, started=bool(status))
        finally:
            ending.close()
            _running.dec()
            seconds = time.perf_counter() - started
            route, method = _route(scope), _method(scope)
            _latency.labels(route, method, str(status)).observe(seconds)
            span.rename(f"{method} {route}")
            span.set(**{"http.request.method": method, "http.route": route})
            span.set(**{"http.response.status_code": status})
            if status >= 500:
                span.fail(str(status))
            _log.info(
                "http",
                route=route,
                method=method,
                status=status,
                ms=round(seconds * 1000, 2),
                client=context.client.get(),
            )
            span.end()

    def _admit(self, scope: Scope, headers: Headers) -> None:
        host, port = scope.get("client") or ("", 0)
        peer = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        context.client.set(peer)
        if not self._asks_for_keys:
            trusted = self._published or is_this_machine(peer)
            context.caller.set(Identity(peer, Role.ADMIN if trusted else Role.READ, keyed=False))
            self._check_host(headers.get("host", ""))
            # A proxy that replaces Host may say which name it was asked by: that one has to be right as well.
            if forwarded := scope.get(FORWARDED_HOST):
                self._check_host(forwarded)
            self._check_origin(scope, headers)
            return
        path = scope["path"]
        if path in self._open_paths or path.startswith(("/page/", "/i/", "/rate/")) or self._is_lost(scope):
            return
        # A rater has a token in the path in place of a key, and is limited like a visitor.
        public = self._public or path.startswith("/v1/rate/")
        if public and "authorization" not in headers:
            context.caller.set(Identity(peer, keyed=False, public=True))
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise MirageError(Code.API_KEY_MISSING)
        identity = self._keys.identify(key)
        if identity is None:
            raise MirageError(Code.API_KEY_INVALID)
        context.caller.set(identity)
        context.client.set(identity.name)
        context.admin.set(identity.admin)

    def _check_host(self, host: str) -> None:
        if "*" not in self._hosts and _name(host) not in self._hosts:
            raise MirageError(Code.REQUEST_MALFORMED, field="host")

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuses a change that a page of another site asks for. Only browsers send Origin, and it names the page's site.

        The page's own site is the name in Host, the one that a trusted proxy was asked by, or one of `allowed_hosts`: a proxy
        may replace Host and say nothing.
        """
        origin = headers.get("origin")
        if origin is None or scope["method"] in ("GET", "HEAD", "OPTIONS") or self._origins & {origin, "*"}:
            return
        site = origin.partition("://")[2].lower()
        # A sandboxed page sends `null`: it is without a site.
        if not site or site not in {headers.get("host", "").lower(), scope.get(FORWARDED_HOST), *self._addresses}:
            raise MirageError(Code.REQUEST_MALFORMED, field="origin")

    def _complete(self, headers: MutableHeaders, request_id: str) -> None:
        for name, value in self._headers.items():
            headers[name] = value
        headers.setdefault("content-security-policy", _POLICY)
        headers["x-request-id"] = request_id


async def _answer_problem(
    error: MirageError,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    started: bool,
    headers: Mapping[str, Any] | None = None,
) -> None:
    if started:
        # Half an answer is out: breaking the connection is the only way left to say that it is not whole.
        raise _BrokenAnswerError from error
    sent = dict(headers or {})
    length = Headers(scope=scope).get("content-length", "0")
    unread = not length.isdigit() or int(length[:18]) > _DRAIN_BYTES or "transfer-encoding" in Headers(scope=scope)
    if unread or error.code is Code.REQUEST_TOO_SLOW:
        sent["connection"] = "close"
    await problem_response(error, headers=sent)(scope, receive, send)


def _answer_bytes(length: str) -> int:
    return min(int(length), PASSED_BYTES) if length.isdigit() else _PIECE_BYTES


async def _send_in_pieces(message: Message, send: Send) -> None:
    """Sends a large part of an answer as its reader takes it."""
    body, more = message["body"], message.get("more_body", False)
    for at in range(0, len(body), _PIECE_BYTES):
        last = at + _PIECE_BYTES >= len(body)
        await send({"type": "http.response.body", "body": body[at : at + _PIECE_BYTES], "more_body": more or not last})


class _BrokenAnswerError(Exception):
    """Ends a connection whose answer cannot be completed."""


def _open_span(scope: Scope, headers: Headers) -> tracing.Span:
    # The files of the page, probes and the like are not worth a trace.
    if not scope["path"].startswith("/v1/"):
        return tracing.OFF
    return tracing.open_span("http", tracing.Kind.SERVER, parent=headers.get(tracing.HEADER, ""))


def _name(host: str) -> str:
    # The name of a Host header, without its port; a bracketed IPv6 address keeps its brackets.
    return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()


def _route(scope: Scope) -> str:
    # The template: a path holds ids, and every new label value costs memory.
    return str(scope.get("mirage.route", "unknown"))


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
