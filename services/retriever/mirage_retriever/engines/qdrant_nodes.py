"""The nodes of a Qdrant: each call goes to one that answers, and each node is asked in the background whether it
does.
"""

import asyncio
import contextlib
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from mirage_core import context, telemetry
from mirage_core.addresses import in_url
from mirage_core.errors import Code, MirageError

_log = telemetry.get_logger()

T = TypeVar("T")
Request = Callable[[AsyncQdrantClient], Awaitable[T]]

# Seconds before its deadline at which a caller gets an error with the reason.
_REASON_S = 0.1
# The state of a node that stays away is logged again this often.
_REMIND_S = 60.0
_DETAIL_CHARS = 300
_OPTIONS = {
    # An attempt to connect is given this long; after a refusal the next one comes within half a second.
    "grpc.min_reconnect_backoff_ms": 3_000,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 500,
    # A server that vanished without a word is noticed within this, calls or none.
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    # An environment's HTTP proxy is for the outside.
    "grpc.enable_http_proxy": 0,
}
# gRPC's texts for a connection that cannot be made, in the order in which they are tried.
_CAUSES = (
    ("refused", "connection refused"),
    ("ssl", "TLS"),
    ("tls", "TLS"),
    ("certificate", "TLS"),
    ("handshake", "TLS"),
    ("http1", "not a gRPC port"),
    ("dns", "name not found"),
    ("name resolution", "name not found"),
    ("timed out", "timeout"),
    ("timeout", "timeout"),
    ("unreachable", "unreachable"),
    ("no route", "unreachable"),
    ("reset", "connection lost"),
    ("closed", "connection lost"),
    ("goaway", "connection lost"),
    ("broken pipe", "connection lost"),
)
# Reasons that waiting does not change.
HOPELESS = frozenset({"unauthenticated", "TLS", "name not found", "not a gRPC port", "not a Qdrant"})
_REASONS = {
    grpc.StatusCode.UNAUTHENTICATED: "unauthenticated",
    grpc.StatusCode.PERMISSION_DENIED: "unauthenticated",
    grpc.StatusCode.DEADLINE_EXCEEDED: "timeout",
}
# Another node of the same cluster may succeed where one failed like this, for instance because a peer of it has just
# died.
_ELSEWHERE = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.ABORTED, grpc.StatusCode.DATA_LOSS}
)
_FULL = ("no space left", "os error 28", "disk quota", "disk space", "storagefull")


@dataclass(frozen=True)
class Pace:
    """Seconds between health checks of a node (while it answers, and while it does not), and the longest that an
    answer may take.
    """

    ask_s: float = 0.5
    ask_away_s: float = 0.25
    patience_s: float = 1.5


class RefusedError(MirageError):
    """A server answered with an error; `status` is its own."""

    def __init__(self, code: Code, status: grpc.StatusCode, *, retry_after_s: float | None = None) -> None:
        super().__init__(code, retry_after_s=retry_after_s)
        self.status = status


class _AwayError(Exception):
    """A node did not answer, or not to this key. `detail` is gRPC's own text about the connection, for the log.

    `connected` is True if there may yet be an answer to another call.
    """

    def __init__(self, reason: str, detail: str = "", *, connected: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.connected = connected


class Node:
    """One server. It counts as one that answers until it was found not to."""

    def __init__(self, address: str, client: AsyncQdrantClient) -> None:
        self.address = address
        self.client = client
        self.answers = True
        # Set when a call failed: the node is asked again at once.
        self.doubted = asyncio.Event()
        self._away_since = 0.0
        self.reason = ""
        self._reminded = 0.0
        self._heard = 0.0
        self._limits: set[asyncio.Timeout] = set()

    async def run(self, request: Request[T], *, limit: float) -> T:
        """The answer of the server by `limit`, in the loop's time; raises _AwayError and RefusedError.

        A call under way ends as soon as the node is found not to answer.
        """
        try:
            async with asyncio.timeout_at(limit) as timeout:
                self._limits.add(timeout)
                try:
                    answer = await request(self.client)
                finally:
                    self._limits.discard(timeout)
        except TimeoutError as error:
            raise _AwayError("timeout", connected=True) from error
        except ResourceExhaustedResponse as error:
            self.heard()
            raise MirageError(Code.QUEUE_FULL, retry_after_s=float(error.retry_after_s)) from error
        except grpc.aio.AioRpcError as error:
            away = _away(error)
            if away is not None:
                raise away from error
            self.heard()
            raise _refusal(error, self.address) from error
        self.heard()
        return answer

    def heard(self) -> None:
        """Notes that it has answered."""
        self._heard = time.monotonic()
        if not self.answers:
            self.answers = True
            _log.info("qdrant answers", address=self.address, away_s=round(self._heard - self._away_since, 1))

    def silent_since(self, moment: float) -> bool:
        """True if it has answered nothing since."""
        return self._heard < moment

    def fall(self, away: _AwayError) -> None:
        """Notes that it does not answer."""
        now = time.monotonic()
        if self.answers:
            self._away_since = now
        if self.answers or away.reason != self.reason or now - self._reminded >= _REMIND_S:
            detail = {"detail": away.detail} if away.detail else {}
            _log.error(
                "qdrant does not answer",
                address=self.address,
                reason=away.reason,
                away_s=round(now - self._away_since, 1),
                **detail,
            )
            self.reason, self._reminded = away.reason, now
        self.answers = False
        self.doubted.set()

    def give_up(self) -> None:
        """Ends the calls that wait for it."""
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


class Nodes:
    """The nodes of one cluster, or one server. Calls stay with a node for as long as it answers.

    All calls are of a kind that may be sent twice: reads, and writes that name what they write by its id.
    """

    def __init__(self, nodes: Sequence[Node], *, collection: str, timeout_s: float, pace: Pace | None = None) -> None:
        self._nodes = list(nodes)
        self._collection = collection
        self._timeout_s = timeout_s
        self._pace = pace or Pace()
        self._current = 0
        self._following: list[asyncio.Task[None]] = []

    @property
    def answers(self) -> bool:
        """True while a node answers."""
        return any(node.answers for node in self._nodes)

    @property
    def reasons(self) -> dict[str, str]:
        """The reasons why nodes do not answer, by address."""
        return {node.address: node.reason for node in self._nodes if not node.answers}

    async def call(self, request: Request[T], *, timeout_s: float | None = None) -> T:
        """The answer of a node, within `timeout_s` and within the caller's deadline.

        While no node answers it raises DEPENDENCY_UNAVAILABLE at once. Raises RefusedError, and QUEUE_FULL.
        """
        if not self._following:
            self._following = [asyncio.create_task(self._follow(node)) for node in self._nodes]
        now = asyncio.get_running_loop().time
        end = now() + _within_deadline(self._timeout_s if timeout_s is None else timeout_s)
        failure: MirageError | None = None
        count = len(self._nodes)
        order = [(self._current + step) % count for step in range(count)]
        for place, index in enumerate(order):
            node = self._nodes[index]
            if not node.answers:
                continue
            others = any(self._nodes[other].answers for other in order[place + 1 :])
            try:
                answer = await node.run(request, limit=(now() + end) / 2 if others else end)
            except _AwayError as away:
                if not away.connected:
                    node.fall(away)
                elif node.answers:
                    _log.warning("qdrant call failed", address=node.address, reason=away.reason)
            except RefusedError as error:
                if not (others and error.status in _ELSEWHERE):
                    raise
                failure = error
            else:
                self._current = index
                return answer
            if now() >= end:
                break
        raise failure or unavailable()

    async def _follow(self, node: Node) -> None:
        """Asks a node again and again: cheap for it, and answered only with a right key."""
        loop = asyncio.get_running_loop()
        while True:
            asked, begun = time.monotonic(), loop.time()
            away: _AwayError | None = None
            try:
                await node.run(
                    lambda client: client.collection_exists(self._collection), limit=begun + self._pace.patience_s
                )
            except _AwayError as error:
                away = error
            except RefusedError as error:
                if error.status is grpc.StatusCode.UNIMPLEMENTED:
                    away = _AwayError("not a Qdrant")
            except MirageError:
                pass  # it has answered
            except Exception:
                _log.exception("qdrant cannot be asked", address=node.address)
            # If this loop itself came late, the answer may have been there in time.
            late = loop.time() - begun > 1.25 * self._pace.patience_s
            if away is not None and not (away.reason == "timeout" and (late or not node.silent_since(asked))):
                node.fall(away)
                node.give_up()
            node.doubted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.ask_s if node.answers else self._pace.ask_away_s):
                    await node.doubted.wait()

    async def close(self) -> None:
        """Closes the connections."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        for node in self._nodes:
            await node.client.close()


def connect(
    urls: Sequence[str],
    ports: Sequence[int],
    *,
    collection: str,
    api_key: str = "",
    authorities: bytes | None = None,
    timeout_s: float = 5.0,
    pace: Pace | None = None,
) -> Nodes:
    """The nodes at HTTP addresses with their gRPC ports, over which all calls go; nothing is sent yet.

    An address with https speaks TLS; `authorities` are certificates (PEM) to trust instead of the system's.
    `collection` is whose existence a node is asked for when it is looked after.
    """
    nodes = []
    for url, port in zip(urls, ports, strict=True):
        address = f"{in_url(urlsplit(url).hostname or '')}:{port}"
        if api_key and url.startswith("http:"):
            _log.warning("qdrant key is sent without TLS", address=address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the same, to standard error
            client = AsyncQdrantClient(
                url=url,
                api_key=api_key or None,
                grpc_port=port,
                prefer_grpc=True,
                check_compatibility=False,
                # Each call has its own, shorter one here.
                timeout=600,
                pool_size=1,
                grpc_options={**_OPTIONS, **({"root_certificates": authorities} if authorities else {})},
            )
        nodes.append(Node(address, client))
    return Nodes(nodes, collection=collection, timeout_s=timeout_s, pace=pace)


def unavailable() -> MirageError:
    """The error for callers; the log has the address and the reason."""
    return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="qdrant")


def _within_deadline(timeout_s: float) -> float:
    deadline = context.deadline.get()
    if deadline is None:
        return timeout_s
    return max(0.001, min(timeout_s, deadline - time.monotonic() - _REASON_S))


def _away(error: grpc.aio.AioRpcError) -> _AwayError | None:
    """Returns why the node does not answer; None if it has answered."""
    code, detail = error.code(), error.details() or ""
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        text = detail.lower()
        reason = next((reason for mark, reason in _CAUSES if mark in text), "unavailable")
        return _AwayError(reason, detail[:_DETAIL_CHARS])
    return (
        _AwayError(_REASONS[code], connected=code is not grpc.StatusCode.UNAUTHENTICATED) if code in _REASONS else None
    )


def _refusal(error: grpc.aio.AioRpcError, address: str) -> RefusedError:
    code, detail = error.code(), error.details() or ""
    text = detail.lower()
    if code is grpc.StatusCode.ALREADY_EXISTS or "already exists" in text:
        return RefusedError(Code.COLLECTION_EXISTS, code)
    if any(mark in text for mark in _FULL):
        _log.error("qdrant has no space left", address=address)
        return RefusedError(Code.STORAGE_FULL, code)
    if code is grpc.StatusCode.NOT_FOUND:
        return RefusedError(Code.COLLECTION_NOT_FOUND, code)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return RefusedError(Code.QUEUE_FULL, code, retry_after_s=1.0)
    # Its text is about the form of the request, never about what a record says.
    _log.error("qdrant refused a call", address=address, status=code.name, detail=detail[:_DETAIL_CHARS])
    return RefusedError(Code.INTERNAL, code)
