"""The server every gRPC service runs in: health, reflection, interceptors, bounded messages, graceful end."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Container
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mirage_core import channels, limits, telemetry, tracing
from mirage_core.errors import MirageError
from mirage_core.interceptors import CallInterceptor
from mirage_core.message_budget import MessageBudget
from mirage_core.settings import ServiceSettings

_log = telemetry.get_logger()

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Health(health.aio.HealthServicer):
    """The health of the services in `known`. A watch of any other name ends: the library keeps each name that it is
    asked for.
    """

    def __init__(self, known: Container[str]) -> None:
        super().__init__()
        self._known = known

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802 -- the contract's name
        """Writes a service's health at first and at each change."""
        if request.service and request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        await super().Watch(request, context)


class GrpcServer:
    """A grpc.aio server that answers NOT_SERVING for each service until `set_serving` says otherwise."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._serving: dict[str, bool] = {}
        self._health = _Health(self._serving)
        self._started = False
        self._stopping = asyncio.Event()
        self.port = settings.port
        self._interceptor = CallInterceptor(settings)
        self._added: list[Callable[[grpc.aio.Server], None]] = []
        self._server: grpc.aio.Server | None = None

    def _build(self) -> grpc.aio.Server:
        settings = self._settings
        self._interceptor.open()
        server = grpc.aio.server(
            interceptors=[self._interceptor],
            options=[
                # A message that says it is longer is refused before it is read. Shorter limits of single methods are
                # checked
                # by the interceptor.
                ("grpc.max_receive_message_length", self._interceptor.largest),
                ("grpc.max_send_message_length", limits.MESSAGE_BYTES),
                # Of calls that are not read yet, each may have sent this much; without the next line gRPC lets it grow
                # to 16 MiB.
                ("grpc.http2.lookahead_bytes", limits.WINDOW_BYTES),
                ("grpc.http2.bdp_probe", 0),
                # More than are served at once, so that the others get an answer.
                ("grpc.max_concurrent_streams", settings.max_calls + settings.max_watchers),
                ("grpc.max_allowed_incoming_connections", settings.max_grpc_connections),
                # Ends connections that stay silent, and those of vanished clients.
                ("grpc.server_handshake_timeout_ms", 10_000),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                # Two processes on one port would share its calls by chance: fail at start instead.
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                # Calls that run stay on the old connection to their end; without a limit no call is cut off by its age.
                ("grpc.max_connection_age_ms", round(settings.connection_age_s * 1000)),
                # Small replies leave at once.
                ("grpc.optimization_target", "latency"),
            ],
        )
        for add in self._added:
            add(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection([*self._serving, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        return server

    def add(self, register: Callable[[Any, grpc.aio.Server], None], servicer: object, name: str) -> None:
        """Registers a servicer under its full protobuf name, NOT_SERVING.

        Its attribute `methods` is the table of its methods' rules; without one it serves everybody with a key.
        """
        self._added.append(partial(register, servicer))
        self._interceptor.add(name, getattr(servicer, "methods", None))
        self._serving[name] = False

    def bound_reads(self, budget: MessageBudget, message_bytes: int, *methods: str) -> None:
        """Lets unary methods ("package.Service/Method") read a message only once they have that much of the budget."""
        self._interceptor.bound_reads(budget, message_bytes, methods)

    async def start(self) -> None:
        """Listens; from now on health answers. Raises OSError if the address is in use. A second call does nothing."""
        if self._started:
            return
        self._started = True
        self._server = self._build()
        for name in ("", *self._serving):
            await self._health.set(name, NOT_SERVING)
        address = self._settings.host
        if not address.startswith("unix:"):
            host = f"[{address}]" if ":" in address else address
            address = f"{host}:{self._settings.port}"
        try:
            self.port = self._listen(self._server, address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        await self._server.start()
        if self._settings.metrics_port is not None:
            telemetry.serve_metrics(self._settings.host, self._settings.metrics_port)
        _log.info("listening", address=address, port=self.port)

    def _listen(self, server: grpc.aio.Server, address: str) -> int:
        files = self._settings.tls_files()
        if files is None:
            return server.add_insecure_port(address)
        certificate, key = (path.read_bytes() for path in files)
        return server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))

    async def set_serving(self, name: str, *, serving: bool) -> None:
        """Sets one service's health; the server's own ("") is SERVING while all of them are."""
        self._serving[name] = serving
        await self._health.set(name, SERVING if serving else NOT_SERVING)
        await self._health.set("", SERVING if all(self._serving.values()) else NOT_SERVING)

    async def stop(self) -> None:
        """Turns health to NOT_SERVING, lets running calls end within `drain_s`, then closes."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(self._settings.drain_s)

    async def wait_for_signal(self) -> None:
        """Returns at SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        await self._stopping.wait()


Setup = Callable[[GrpcServer, AsyncExitStack], Awaitable[None]]


def run_service(
    settings: ServiceSettings,
    service: str,
    setup: Setup,
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Runs one service until SIGTERM or SIGINT, on asyncio's own event loop unless given another.

    `setup(server, stack)` adds the servicers, awaits `server.start()` (from then on health says NOT_SERVING), loads and
    warms up what they need, and calls `set_serving`. It puts on the stack what must be closed. An error in it ends the
    process.
    """
    # Files that a service writes are for its own user alone.
    os.umask(0o077)
    telemetry.configure_logging(service, level=settings.log_level, form=settings.log_format)
    channels.set_service_key(settings.service_key)
    tracing.start(service, settings.traces_endpoint)
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_run(settings, setup))
    except MirageError as error:
        # Something that a person can mend, such as a broken bundle: the log ends with it, not with a traceback.
        _log.error("cannot start", code=error.code, problem=error.message)
        raise SystemExit(1) from None
    finally:
        tracing.stop()


async def _run(settings: ServiceSettings, setup: Setup) -> None:
    async with AsyncExitStack() as stack:
        server = GrpcServer(settings)
        stop = asyncio.create_task(server.wait_for_signal())
        ready = asyncio.create_task(_set_up(server, stack, setup))
        try:
            await asyncio.wait((stop, ready), return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                await stop
            else:
                ready.cancel()
        finally:
            _log.info("stopping")
            await server.stop()


async def _set_up(server: GrpcServer, stack: AsyncExitStack, setup: Setup) -> None:
    await setup(server, stack)
    await server.start()
