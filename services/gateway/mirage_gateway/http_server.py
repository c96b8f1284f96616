"""The HTTP server, in the same process and event loop as the gRPC one."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_gateway.connections import Connections, Room, connections_possible
from mirage_gateway.http_protocol import BoundedProtocol, render
from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.edge import PROBES
from mirage_gateway.web.problems import problem_response
from mirage_gateway.web.proxies import TrustedProxies, group_of, parse_address

_log = telemetry.get_logger()

# Connections that are accepted beyond the limit, for probes alone.
_RESERVE = 16
# Connections that are accepted before other work gets its turn.
_BURST = 32
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_FILES_PAUSE_S = 0.1
_CROWDED_PAUSE_S = 0.01


class HttpServer:
    """Serves an ASGI application on the gateway's HTTP port; `port` is the one that is bound."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._socket = _bind(settings.host, settings.http_port)
        self.port: int = self._socket.getsockname()[1]
        certificate, key = settings.tls_files() or (None, None)
        config = uvicorn.Config(
            app,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            loop="none",
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            access_log=False,
            # web/proxies.py believes the proxies that the operator names; uvicorn would believe any on this machine.
            proxy_headers=False,
            log_config=None,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        )
        self._server = _Server(config, app, self._socket, settings)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once requests are answered."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Lets running requests end within `drain_s`, then closes."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    """uvicorn's server, which accepts connections itself: it counts them before anything of them is read."""

    def __init__(
        self, config: uvicorn.Config, app: ASGIApp, listener: socket.socket, settings: GatewaySettings
    ) -> None:
        super().__init__(config)
        self._app = app
        self._listener = listener
        self._proxies = TrustedProxies(settings.trusted_proxies)
        limit = min(settings.max_connections, connections_possible(others=settings.max_grpc_connections) - _RESERVE)
        if limit < settings.max_connections:
            _log.warning("fewer connections than set: the limit of open files is low", connections=limit)
        self._connections = Connections(
            limit=limit,
            per_client=share_of(limit, settings.max_connections_per_client, settings.max_connections),
            reserve=_RESERVE,
        )
        self._pace = settings.pace
        self._tasks: set[asyncio.Task[None]] = set()
        self._short_of_files = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: signals are the gRPC server's business (mirage_core.server); both end together."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept connections."""
        self.servers = []
        self._loop = asyncio.get_running_loop()
        self._listener.listen(self.config.backlog)
        self._loop.add_reader(self._listener, self._accept)
        self._keep(self._connections.watch(self._pace.check_s))
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts no more connections, and lets the requests of those that are open end."""
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets=[self._listener])

    def _accept(self) -> None:
        for _ in range(_BURST):
            if self._connections.is_crowded:
                self._pause(_CROWDED_PAUSE_S)
                return
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_FILES:
                    self._wait_for_files()
                return
            self._short_of_files = False
            self._admit(connection, str(address[0]))

    def _wait_for_files(self) -> None:
        if not self._short_of_files:
            _log.error("no file is left for a connection")
        self._short_of_files = True
        self._connections.evict_any()
        self._pause(_NO_FILES_PAUSE_S)

    def _pause(self, seconds: float) -> None:
        """Leaves new connections to the system, which keeps some thousands of them in line."""
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self.should_exit:
            self._loop.add_reader(self._listener, self._accept)

    def _admit(self, connection: socket.socket, peer: str) -> None:
        address = parse_address(peer)
        # A proxy that the operator names speaks for many.
        client = "" if peer in self._proxies else group_of(peer if address is None else str(address))
        room = self._connections.make_room(client)
        if room is Room.NONE:
            self._turn_away(connection)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = BoundedProtocol(
            self.config,
            self.server_state,
            self._loop,
            self._connections,
            pace=self._pace,
            client=client,
            app=_ProbesOnly(self._app) if room is Room.RESERVE else None,
        )
        self._connections.add(protocol)
        protocol.opening = self._keep(self._open(connection, protocol))

    async def _open(self, connection: socket.socket, protocol: BoundedProtocol) -> None:
        timeout = self._pace.head_s if self.config.ssl else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self.config.ssl,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=timeout,
            )
        except (OSError, TimeoutError):
            pass
        finally:
            if protocol.transport is None:
                self._connections.remove(protocol)
                connection.close()

    def _turn_away(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError):
            if not self.config.ssl:
                connection.setblocking(False)
                connection.send(render(MirageError(Code.QUEUE_FULL, retry_after_s=1.0), self.server_state))

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _ProbesOnly:
    """Answers probes and refuses everything else; each answer ends its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        app = (
            self._app if scope["path"] in PROBES else problem_response(MirageError(Code.QUEUE_FULL, retry_after_s=1.0))
        )
        await app(scope, receive, closing)


def share_of(limit: int, per_client: int, connections: int) -> int:
    """Returns how many of `limit` connections one client may have: the same part as `per_client` of all `connections`."""
    return max(1, limit * min(per_client, connections) // connections)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last owner has just ended can be taken again at once; one in use cannot.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}") from error
    return listener
