"""What happens around every call of every server: identity, request id, deadline, error mapping, access log, metrics, span."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeAlias, cast

import grpc

from mirage_core import context, telemetry, tracing
from mirage_core.budgets import ByteBudget, read_within
from mirage_core.errors import Code, MirageError
from mirage_core.rpc_errors import grpc_status, to_trailers
from mirage_core.settings import ApiKeys, Identity

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_log = telemetry.get_logger()
_latency = telemetry.histogram("rpc_seconds", "Time to serve one RPC, by outcome.", ("service", "method", "code"))
_running = telemetry.gauge("rpc_running", "RPCs being served.", ("service", "method"))

# Probes and reflection need no key and leave no line in the access log.
_OPEN_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler, unary or streaming, in one `_around`, so that the rules stand in one place."""

    def __init__(self, *, api_keys: ApiKeys) -> None:
        self._api_keys = api_keys
        self._budgets: dict[str, tuple[ByteBudget, int]] = {}

    def bound_reads(self, budget: ByteBudget, message_bytes: int, methods: Sequence[str]) -> None:
        """See GrpcServer.bound_reads."""
        self._budgets |= dict.fromkeys(methods, (budget, message_bytes))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The handler of the called method, wrapped."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None or service in _OPEN_SERVICES:
            return handler
        if bound := self._budgets.get(f"{service}/{method}"):
            handler = read_within(handler, *bound)
        return self._wrap(handler, service, method)

    def _wrap(self, handler: Handler, service: str, method: str) -> Handler:
        behaviour: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        coders: dict[str, Any] = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }

        async def answer(request: Any, ctx: Context) -> Any:
            async with self._around(ctx, service, method):
                return await behaviour(request, ctx)

        async def stream(request: Any, ctx: Context) -> AsyncIterator[Any]:
            async with self._around(ctx, service, method):
                async for message in behaviour(request, ctx):
                    yield message

        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(cast(Any, stream), **coders)
        make_one = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make_one(cast(Any, answer), **coders)

    @asynccontextmanager
    async def _around(self, ctx: Context, service: str, method: str) -> AsyncGenerator[None]:
        metadata = dict(ctx.invocation_metadata() or ())
        started = time.perf_counter()
        request_id = context.accept_request_id(_text(metadata.get("x-request-id")))
        context.request_id.set(request_id)
        remaining = ctx.time_remaining()
        context.deadline.set(time.monotonic() + remaining if remaining is not None else None)
        code = "OK"
        running = _running.labels(service, method)
        running.inc()
        span = tracing.open_span(f"{service}/{method}", tracing.Kind.SERVER, parent=_text(metadata.get(tracing.HEADER)))
        span.set(**{"rpc.system": "grpc", "request_id": request_id})
        span.enter()
        try:
            identity = self._identify(metadata, ctx)
            context.client.set(identity.name)
            context.admin.set(identity.admin)
            ctx.set_trailing_metadata((("x-request-id", request_id),))
            yield
        except MirageError as error:
            code = error.code
            await _abort(ctx, error, request_id)
        except (grpc.RpcError, grpc.aio.AbortError):
            code = "ABORTED"
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = Code.CANCELLED
            raise
        except Exception:
            code = Code.INTERNAL
            _log.exception("rpc failed", method=f"{service}/{method}")
            await _abort(ctx, MirageError(Code.INTERNAL), request_id)
        finally:
            running.dec()
            seconds = time.perf_counter() - started
            _latency.labels(service, method, code).observe(seconds)
            if code != "OK":
                span.fail(code)
            span.end()
            _log.info(
                "rpc", method=f"{service}/{method}", code=code, ms=round(seconds * 1000, 2), client=context.client.get()
            )

    def _identify(self, metadata: dict[str, str | bytes], ctx: Context) -> Identity:
        if not self._api_keys:
            return Identity(ctx.peer())
        scheme, _, key = _text(metadata.get("authorization")).partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise MirageError(Code.API_KEY_MISSING)
        identity = self._api_keys.identify(key)
        if identity is None:
            raise MirageError(Code.API_KEY_INVALID)
        return identity


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else ""


async def _abort(ctx: Context, error: MirageError, request_id: str) -> NoReturn:
    trailers: tuple[tuple[str, str | bytes], ...] = (*to_trailers(error), ("x-request-id", request_id))
    await ctx.abort(grpc_status(error), error.message, trailers)
