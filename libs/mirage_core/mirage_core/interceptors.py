"""Handles every call of every server: identity, role, bounds, deadline, errors, access log, metrics, span.

A caller is checked before its message is read: each method is registered with gRPC as one whose requests are a
stream, so that we decide when to read. The wire format is the same.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Self, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from mirage_core import context, telemetry, tracing
from mirage_core.context import is_this_machine
from mirage_core.errors import Code, MirageError
from mirage_core.intake import ANYBODY, COPIES, Intake, Places, busy
from mirage_core.message_budget import PATIENCE_S, MessageBudget, Share
from mirage_core.methods import OPEN_SERVICES, PLAIN, UNNAMED, Kind, MethodRule, check_role, open_rule
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_core.settings import ApiKeys, Identity, Role, ServiceSettings

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_log = telemetry.get_logger()
_latency = telemetry.histogram("rpc_seconds", "Time to serve one RPC, by outcome.", ("service", "method", "code"))
_running = telemetry.gauge("rpc_running", "RPCs being served.", ("service", "method"))

# Of probes and reflection, which anybody may call: all of them together.
_OPEN_CALLS = 64
_SMALL_BYTES = 64 * 2**10
# The longest silence between two messages of a request stream.
_STREAM_IDLE_S = 300.0
# Of one name, since a method or service that is not served can have any.
_UNKNOWN = "unknown"
# Refusals that anybody can cause by the thousand: their lines in the log are counted rather than written.
_CHEAP = frozenset(
    {
        Code.API_KEY_MISSING,
        Code.API_KEY_INVALID,
        Code.ROLE_REQUIRED,
        Code.QUEUE_FULL,
        Code.REQUEST_MALFORMED,
        Code.REQUEST_TOO_LARGE,
        Code.ROUTE_NOT_FOUND,
    }
)


@dataclass(frozen=True)
class _Bounds:
    """State that the calls of a server share."""

    calls: Places
    watches: Places
    intake: Intake


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler, unary or streaming, in one `_around`, so that the rules are in one place."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._api_keys: ApiKeys = settings.api_keys
        self._settings = settings
        self._rules: dict[str, MethodRule] = {}
        self._plain: set[str] = set()
        self._budgets: dict[str, tuple[MessageBudget, int]] = {}
        self._served: dict[str, Handler] = {}
        self._bounds: _Bounds | None = None
        self._open_bounds: _Bounds | None = None
        self._refusals = telemetry.Sampled("rpc")

    def add(self, service: str, rules: "dict[str, MethodRule] | None") -> None:
        """Sets the rules of a service by method; None for a service that serves everybody with a key."""
        if rules is None:
            self._plain.add(service)
        else:
            self._rules |= {f"/{service}/{method}": rule for method, rule in rules.items()}

    def bound_reads(self, budget: MessageBudget, message_bytes: int, methods: Sequence[str]) -> None:
        """See GrpcServer.bound_reads."""
        self._budgets |= {f"/{method}": (budget, message_bytes) for method in methods}

    @property
    def largest(self) -> int:
        """The longest message that any method takes, in bytes."""
        if self._plain or not self._rules:
            return PLAIN.request_bytes
        return max(rule.request_bytes for rule in self._rules.values())

    def open(self) -> None:
        """Fixes the bounds, once all services are added."""
        settings = self._settings
        share = 2 if settings.shares_fairly else 1
        # The streams of services come from each other, in messages of the length that their method takes.
        stream = self.largest if settings.shares_fairly else self.largest // 2
        intake = Intake(settings.message_memory_mb * 2**20, largest=self.largest, stream=stream, share=1 / share)
        self._bounds = _Bounds(
            Places(settings.max_calls, per_client=max(1, settings.max_calls // share)),
            Places(settings.max_watchers, per_client=max(1, settings.max_watchers // share)),
            intake,
        )
        probes = Places(_OPEN_CALLS)
        self._open_bounds = _Bounds(probes, probes, intake)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The handler of the called method, wrapped; for a method that is not served one that says so."""
        path = handler_call_details.method
        if served := self._served.get(path):
            return served
        handler = await continuation(handler_call_details)
        if handler is None:
            return self._absent(path)
        self._served[path] = self._wrap(handler, path)
        return self._served[path]

    def _absent(self, path: str) -> Handler:
        """Returns a handler that refuses: unknown methods are not counted in metrics, and open ones do not ask for a
        key.
        """
        rule = MethodRule(open=path.lstrip("/").partition("/")[0] in OPEN_SERVICES)

        async def answer(_: Any, ctx: Context) -> Any:
            async with self._around(ctx, rule, _UNKNOWN, _UNKNOWN):
                raise MirageError(Code.ROUTE_NOT_FOUND)

        return grpc.stream_unary_rpc_method_handler(cast(Any, answer))

    def _rule(self, path: str, service: str, method: str) -> MethodRule:
        if service in OPEN_SERVICES:
            return open_rule(method)
        return PLAIN if service in self._plain else self._rules.get(path, UNNAMED)

    def _wrap(self, handler: Handler, path: str) -> Handler:
        behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        service, _, method = path.lstrip("/").partition("/")
        rule = self._rule(path, service, method)
        budget = self._budgets.get(path)
        deserialize = cast("Callable[[bytes], Any]", handler.request_deserializer)
        many = handler.request_streaming

        async def answer(_: Any, ctx: Context) -> Any:
            async with self._around(ctx, rule, service, method, many=many) as call:
                # No name for the message here, so that the handler can free it while it works.
                return await behaviour(await call.request(deserialize, budget), ctx)

        async def stream(_: Any, ctx: Context) -> AsyncIterator[Any]:
            async with self._around(ctx, rule, service, method, many=many) as call:
                async for message in behaviour(await call.request(deserialize, budget), ctx):
                    yield message

        if not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(
                cast(Any, answer), response_serializer=handler.response_serializer
            )
        # A coroutine function writes its answers itself.
        writes = inspect.iscoroutinefunction(behaviour)
        return grpc.stream_stream_rpc_method_handler(
            cast(Any, answer if writes else stream), response_serializer=handler.response_serializer
        )

    @asynccontextmanager
    async def _around(
        self, ctx: Context, rule: MethodRule, service: str, method: str, *, many: bool = False
    ) -> "AsyncGenerator[_Call]":
        metadata = dict(ctx.invocation_metadata() or ())
        started = time.perf_counter()
        request_id = context.accept_request_id(_text(metadata.get("x-request-id")))
        context.request_id.set(request_id)
        remaining = ctx.time_remaining()
        context.deadline.set(time.monotonic() + remaining if remaining is not None else None)
        code = "OK"
        running = _running.labels(service, method)
        running.inc()
        span = tracing.OFF
        if not rule.open:
            parent = _text(metadata.get(tracing.HEADER))
            span = tracing.open_span(f"{service}/{method}", tracing.Kind.SERVER, parent=parent)
        span.set(**{"rpc.system": "grpc", "request_id": request_id})
        span.enter()
        call: _Call | None = None
        try:
            identity = self._identify(metadata, ctx, rule)
            context.client.set(identity.name)
            context.admin.set(identity.admin)
            context.caller.set(identity)
            check_role(identity, rule.role)
            bounds = cast(_Bounds, self._open_bounds if rule.open else self._bounds)
            call = _Call(
                ctx, rule, bounds, client=ANYBODY if rule.open else context.address_of(identity.name), many=many
            )
            await call.open()
            ctx.set_trailing_metadata((("x-request-id", request_id),))
            yield call
        except MirageError as error:
            found = (call and call.refused) or error
            code = found.code
            await _abort(ctx, found, request_id)
        except (grpc.RpcError, grpc.aio.AbortError):
            code = call.refused.code if call and call.refused else "ABORTED"
            raise
        except (asyncio.CancelledError, GeneratorExit):
            # The code that passes a request stream on may turn an error in it into a cancellation.
            if call is not None and call.refused is not None:
                code = call.refused.code
                await _abort(ctx, call.refused, request_id)
            code = Code.CANCELLED
            raise
        except Exception:
            if call is not None and call.refused is not None:
                code = call.refused.code
                await _abort(ctx, call.refused, request_id)
            code = Code.INTERNAL
            _log.exception("rpc failed", method=f"{service}/{method}")
            await _abort(ctx, MirageError(Code.INTERNAL), request_id)
        finally:
            if call is not None:
                call.close()
            running.dec()
            seconds = time.perf_counter() - started
            _latency.labels(service, method, code).observe(seconds)
            if code != "OK":
                span.fail(code)
            span.end()
            if not rule.open:
                write = self._refusals.info if code in _CHEAP else _log.info
                write(
                    "rpc",
                    method=f"{service}/{method}",
                    code=code,
                    ms=round(seconds * 1000, 2),
                    client=context.client.get(),
                )

    def _identify(self, metadata: dict[str, str | bytes], ctx: Context, rule: MethodRule) -> Identity:
        peer = ctx.peer()
        if rule.open or not self._settings.asks_for_keys:
            trusted = self._settings.published or is_this_machine(peer)
            return Identity(peer, Role.ADMIN if trusted else Role.READ, keyed=False)
        scheme, _, key = _text(metadata.get("authorization")).partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise MirageError(Code.API_KEY_MISSING)
        identity = self._api_keys.identify(key)
        if identity is None:
            raise MirageError(Code.API_KEY_INVALID)
        return identity


class _Call:
    """One call: the places that it has, and its messages. `refused` is why it was ended from here, if it was."""

    def __init__(self, ctx: Context, rule: MethodRule, bounds: _Bounds, *, client: str, many: bool) -> None:
        self.refused: MirageError | None = None
        self._ctx = ctx
        self._rule = rule
        self._bounds = bounds
        self._client = client
        self._many = many
        self._places: Places | None = None
        self._stream = False
        self._held = 0
        self._share: Share | None = None
        self._ending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Takes the call's places; raises QUEUE_FULL."""
        places = self._bounds.watches if self._rule.kind is Kind.WATCH else self._bounds.calls
        if not places.take(self._client):
            raise busy()
        self._places = places
        if self._many and not self._rule.own_budget:
            await self._bounds.intake.open_stream(self._client)
            self._stream = True

    def close(self) -> None:
        """Gives everything back."""
        if self._share is not None:
            self._share.release()
        if self._held:
            self._bounds.intake.let_go(self._client, self._held)
        if self._stream:
            self._bounds.intake.close_stream(self._client)
        if self._places is not None:
            self._places.leave(self._client)

    async def request(self, deserialize: Callable[[bytes], Any], budget: tuple[MessageBudget, int] | None) -> Any:
        """The request: a message, or an iterator over the messages of a stream. A `budget` is one for single
        messages.
        """
        if self._many:
            return _Messages(self._next, deserialize)
        return self._parse(await (self._read_within(*budget) if budget else self._read()), deserialize)

    async def _read_within(self, budget: MessageBudget, message_bytes: int) -> bytes:
        """The only message, read once there is room for it in a budget, which has it until the answer."""
        self._share = await budget.take(message_bytes)
        late = asyncio.get_running_loop().call_later(PATIENCE_S, self._refuse, MirageError(Code.DEADLINE_EXCEEDED))
        try:
            data: Any = await self._ctx.read()
        finally:
            late.cancel()
        data = _there(data)
        self._share.shrink(len(data))
        return cast(bytes, data)

    async def _read(self) -> bytes:
        """The only message, within the memory that all calls share."""
        data: Any = await self._bounds.intake.receive(
            self._ctx.read,
            self._refuse,
            connection=self._ctx.peer(),
            client=self._client,
            limit=self._rule.request_bytes,
        )
        data = _there(data)
        cost = len(data) * COPIES if len(data) > _SMALL_BYTES else 0
        if cost:
            self._bounds.intake.hold(self._client, cost)
            self._held = cost
        return cast(bytes, data)

    async def _next(self, deserialize: Callable[[bytes], Any]) -> Any:
        """The next message of a stream; raises StopAsyncIteration at its end."""
        late = asyncio.get_running_loop().call_later(_STREAM_IDLE_S, self._refuse, MirageError(Code.DEADLINE_EXCEEDED))
        try:
            data: Any = await self._ctx.read()
        finally:
            late.cancel()
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        try:
            return self._parse(data, deserialize)
        except MirageError as error:
            self.refused = error
            raise

    def _parse(self, data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
        if len(data) > self._rule.request_bytes:
            raise MirageError(Code.REQUEST_TOO_LARGE, max_bytes=self._rule.request_bytes)
        try:
            return deserialize(data)
        except DecodeError:
            raise MirageError(Code.REQUEST_MALFORMED, field="message") from None

    def _refuse(self, error: MirageError) -> None:
        """Ends the call with an error while it waits for a message, which ends the wait."""
        if self._ending is None:
            self.refused = error
            self._ending = asyncio.get_running_loop().create_task(self._end(error))

    async def _end(self, error: MirageError) -> None:
        with suppress(grpc.aio.AbortError, grpc.aio.UsageError):
            await _abort(self._ctx, error, context.request_id.get())


class _Messages(AsyncIterator[Any]):
    """The messages of a stream. Unlike a generator it holds none of them."""

    def __init__(
        self, following: Callable[[Callable[[bytes], Any]], Awaitable[Any]], deserialize: Callable[[bytes], Any]
    ) -> None:
        self._following = following
        self._deserialize = deserialize

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._following(self._deserialize)


def _there(data: Any) -> Any:
    if data is grpc.aio.EOF:
        raise MirageError(Code.REQUEST_MALFORMED, field="message")
    return data


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else ""


async def _abort(ctx: Context, error: MirageError, request_id: str) -> NoReturn:
    trailers: tuple[tuple[str, str | bytes], ...] = (*to_trailers(error), ("x-request-id", request_id))
    await ctx.abort(grpc_status(error), error.message, trailers)
