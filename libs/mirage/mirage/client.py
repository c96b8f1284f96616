"""Clients of MIRAGE's gateway, over HTTP.

with Client() as mirage:
    for result in mirage.search("axial T1 through the lateral ventricles").results:
        print(result.score, result.caption)
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from contextlib import aclosing, closing
from functools import wraps
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from mirage import calls
from mirage.calls import Call, Stream
from mirage.errors import ApiError, ClientError, ReplyError, TimedOutError, UnreachableError
from mirage.transport import AsyncTransport, Transport, default_key, default_url
from mirage_api.jobs import Job, JobEvent

P = ParamSpec("P")
T = TypeVar("T")
STEADY_WATCH_S = 5.0
"""A watch that held for so long was no part of what went wrong before it."""
_PAUSE_S = 0.5


class _Operation(Generic[P, T]):
    """An operation of `calls` as a method: `Client` returns its result, `AsyncClient` an awaitable of it."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: "Client", owner: type[Any]) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type[Any]) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        return self if client is None else _sending(self._build, client.transport.call)


class _Events(Generic[P, T]):
    """A stream of `calls` as a method: `Client` returns a generator of its events, `AsyncClient` an asynchronous one."""

    def __init__(self, build: Callable[P, Stream[T]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: "Client", owner: type[Any]) -> Callable[P, Generator[T]]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type[Any]) -> Callable[P, AsyncGenerator[T]]: ...
    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    def __get__(self, client: Any, owner: type[Any]) -> Any:
        return self if client is None else _sending(self._build, client.stream)


def _sending(build: Callable[..., Any], send: Callable[[Any], Any]) -> Callable[..., Any]:
    @wraps(build)
    def method(*args: Any, **options: Any) -> Any:
        return send(build(*args, **options))

    return method


class Operations:
    """The gateway's operations, which both clients have. Every one raises `mirage.errors.ClientError`."""

    search = _Operation(calls.search)
    compare = _Operation(calls.compare)
    compare_two = _Operation(calls.compare_two)
    similar = _Operation(calls.similar)
    describe = _Events(calls.describe)
    description = _Operation(calls.description)
    read = _Events(calls.read)
    create_job = _Operation(calls.create_job)
    job = _Operation(calls.job)
    jobs = _Operation(calls.jobs)
    cancel_job = _Operation(calls.cancel_job)
    job_image = _Operation(calls.job_image)
    record = _Operation(calls.record)
    case = _Operation(calls.case)
    image = _Operation(calls.image)
    facets = _Operation(calls.facets)
    upsert = _Operation(calls.upsert)
    delete = _Operation(calls.delete)
    flag = _Operation(calls.flag)
    flags = _Operation(calls.flags)
    classify = _Operation(calls.classify)
    encode_image = _Operation(calls.encode_image)
    look_up = _Operation(calls.look_up)
    records = _Operation(calls.records)
    collections = _Operation(calls.collections)
    create_collection = _Operation(calls.create_collection)
    activate_collection = _Operation(calls.activate_collection)
    delete_collection = _Operation(calls.delete_collection)
    common_queries = _Operation(calls.common_queries)
    models = _Operation(calls.models)
    quality = _Operation(calls.quality)
    store_evaluation = _Operation(calls.store_evaluation)
    create_rating_sheet = _Operation(calls.create_rating_sheet)
    add_rating_item = _Operation(calls.add_rating_item)
    rating_sheets = _Operation(calls.rating_sheets)
    rating_sheet = _Operation(calls.rating_sheet)
    delete_rating_sheet = _Operation(calls.delete_rating_sheet)
    collection = _Operation(calls.collection)


class Client(Operations):
    """Calls one gateway. May be used from several threads, and in processes that are forked while it exists.

    `url` defaults to MIRAGE_URL or http://localhost:8080, `api_key` to MIRAGE_API_KEY or the content of the file
    that MIRAGE_API_KEY_FILE names; `transport` swaps the network. `timeout_s` is how long a reply may stay away: 30 s if it is
    not given, and longer where the gateway itself waits longer (storing records, 330 s; making a collection, 90 s).
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.transport = Transport(
            url or default_url(), api_key=api_key or default_key(), timeout_s=timeout_s, inner=transport
        )

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.transport.url

    def close(self) -> None:
        """Closes the connections."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stream(self, stream: Stream[T]) -> Generator[T]:
        """Yields the events of a stream that this client knows."""
        with closing(self.transport.events(stream)) as events:
            yield from (event for event in events if event is not None)

    def watch_job(self, job_id: str, *, previews: bool = False, patience_s: float = 30.0) -> Generator[JobEvent]:
        """Yields a job now and after each change, until it has ended; the last event is the ended job.

        Reconnects for up to `patience_s` seconds of failures; a job that waits without an event is not a failure.
        Closing it leaves the job alone.
        """
        watch = _Watch(self.url, patience_s)
        while True:
            try:
                with closing(self.transport.events(calls.watch_job(job_id, previews=previews))) as events:
                    for event in watch.hear(events):
                        yield event
                        if watch.ended:
                            return
            except ClientError as error:
                watch.broken(error)
            else:
                watch.broken(None)
            time.sleep(_PAUSE_S)


class AsyncClient(Operations):
    """The same for asyncio: operations are awaited, streams are asynchronous generators."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.transport = AsyncTransport(
            url or default_url(), api_key=api_key or default_key(), timeout_s=timeout_s, inner=transport
        )

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.transport.url

    async def close(self) -> None:
        """Closes the connections."""
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def stream(self, stream: Stream[T]) -> AsyncGenerator[T]:
        """Yields the events of a stream that this client knows."""
        async with aclosing(self.transport.events(stream)) as events:
            async for event in events:
                if event is not None:
                    yield event

    async def watch_job(
        self, job_id: str, *, previews: bool = False, patience_s: float = 30.0
    ) -> AsyncGenerator[JobEvent]:
        """Yields a job now and after each change, as `Client.watch_job` does."""
        watch = _Watch(self.url, patience_s)
        while True:
            try:
                async with aclosing(self.transport.events(calls.watch_job(job_id, previews=previews))) as events:
                    async for heard in events:
                        for event in watch.hear((heard,)):
                            yield event
                        if watch.ended:
                            return
            except ClientError as error:
                watch.broken(error)
            else:
                watch.broken(None)
            await asyncio.sleep(_PAUSE_S)


class _Watch:
    """The events of a watch of a job, over connections that break."""

    def __init__(self, url: str, patience_s: float) -> None:
        self.ended = False
        self._url = url
        self._patience_s = patience_s
        self._said: tuple[int, int, str] | None = None
        self._heard: float | None = None
        self._trouble_since: float | None = None

    def hear(self, events: Iterable[JobEvent | None]) -> Generator[JobEvent]:
        """Yields the events that are news; None is a heartbeat."""
        for event in events:
            self._heard = time.monotonic() if self._heard is None else self._heard
            if isinstance(event, Job):
                self.ended = event.ended
                left = "" if event.eta_s is None else f"{event.eta_s:.0f}"
                news = event.revision, event.queue_position, left
                # Each connection begins with known events.
                if news == self._said and not event.ended:
                    continue
                self._said = news
            if event is not None:
                self._trouble_since = None
                yield event

    def broken(self, error: ClientError | None) -> None:
        """Returns if it is worth reconnecting; raises the error if not."""
        passing = isinstance(error, ReplyError | TimedOutError | UnreachableError) or (
            isinstance(error, ApiError) and error.status in (429, 503, 504)
        )
        if error is not None and not passing:
            raise error
        now = time.monotonic()
        # A watch that held for a while ends earlier trouble; one that says what is known and breaks off does not.
        held = self._heard is not None and now - self._heard > STEADY_WATCH_S
        self._trouble_since = now if self._trouble_since is None or held else self._trouble_since
        self._heard = None
        if self._said is None or now - self._trouble_since > self._patience_s:
            raise error or ReplyError(f"{self._url} ended the watch before the job had ended")
