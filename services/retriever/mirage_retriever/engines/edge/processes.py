"""Handles of the searcher and builder processes, on the retriever's side."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mirage_core import telemetry
from mirage_retriever.engines.edge.activity import Activity
from mirage_retriever.engines.edge.frames import FrameReader, pack
from mirage_retriever.engines.edge.generations import has_room
from mirage_retriever.engines.edge.shard_shape import ShardShape

_log = telemetry.get_logger()

# A searcher that was asked nothing for so long is asked whether it is there.
_PING_S = 1.0
# However busy it is: an operation takes milliseconds, a shard of millions of points loads in less than two minutes.
_LONGEST_ANSWER_S = 30.0
_LONGEST_LOAD_S = 120.0
# Usually no call waits for a builder, and it writes to a slow disk.
_BUILDER_PATIENCE = 5.0


class ProcessLostError(Exception):
    """The process ended or never answered; what it was doing may or may not be done."""


class OperationFailedError(Exception):
    """The engine refused an operation; the process lives and its log has the reason."""


async def _spawn(module: str, *arguments: str, pass_fds: tuple[int, ...] = (), stdout: int | None = None) -> Process:
    # Searchers and builders need neither keys nor settings.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MIRAGE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"mirage_retriever.engines.edge.{module}",
        *arguments,
        "--parent",
        str(os.getpid()),
        pass_fds=pass_fds,
        stdout=stdout,
        env=environment,
    )


class SearcherProcess(asyncio.Protocol):
    """A running searcher. Calls are answered in the order in which they were made.

    It is watched for as long as it runs, whether or not a caller still waits: one that owes an answer and has done nothing
    for `hang_s` (stopped, or deadlocked) is killed, and so is one that is busy with a single operation for half a minute.
    While it is asked nothing it is pinged every second.
    """

    def __init__(self, path: Path, *, hang_s: float) -> None:
        self.path = path
        self.lost = asyncio.Event()
        self.lost_at = 0.0
        self._hang_s = hang_s
        self._frames = FrameReader()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._answered = -1
        # When it answered last, or was first asked after a rest; and when it was last seen at work meanwhile.
        self._heard = self._moved = time.monotonic()
        self._transport: asyncio.Transport | None = None
        self._process: Process | None = None
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, path: Path, *, hang_s: float) -> "SearcherProcess":
        """Starts a searcher on a shard and waits until it has loaded.

        Raises OperationFailedError if the files cannot be loaded, and ProcessLostError if it ends for another reason.
        """
        ours, theirs = socket.socketpair()
        self = cls(path, hang_s=hang_s)
        loop = asyncio.get_running_loop()
        ready = self._waiting[0] = loop.create_future()
        try:
            with ours, theirs:
                self._process = await _spawn(
                    "searcher", str(path), "--fd", str(theirs.fileno()), pass_fds=(theirs.fileno(),)
                )
                ours.setblocking(False)
                await loop.create_unix_connection(lambda: self, sock=ours.dup())
            self._watching = asyncio.create_task(self._watch(self._process.pid))
            await ready
        except BaseException as error:
            await self.end()
            # Reading a file that is shorter than it says ends the process, unless the disk is full.
            crashed = self._process is not None and self._process.returncode in (-signal.SIGBUS, -signal.SIGSEGV)
            if isinstance(error, ProcessLostError) and crashed and has_room(path):
                raise OperationFailedError from error
            raise
        finally:
            del self._waiting[0]
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None  # noqa: S101 -- set before anyone holds the object
        return self._process.pid

    @property
    def pending(self) -> int:
        """Messages that it has not answered yet, those of callers that have gone included."""
        return self._number - self._answered

    @property
    def answers(self) -> bool:
        """False once it is gone, or has been silent and idle for so long that it will soon be killed."""
        return not self.lost.is_set() and (not self.pending or time.monotonic() - self._moved < self._hang_s / 2)

    async def call(self, operation: str, *arguments: Any) -> Any:
        """The operation's result; raises ProcessLostError or OperationFailedError."""
        if self._transport is None or self.lost.is_set():
            raise ProcessLostError
        number = self._send(self._transport, operation, *arguments)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def _send(self, transport: asyncio.Transport, operation: str, *arguments: Any) -> int:
        if not self.pending:
            self._heard = self._moved = time.monotonic()
        self._number += 1
        transport.write(pack([self._number, operation, *arguments]))
        return self._number

    async def _watch(self, pid: int) -> None:
        activity = Activity(pid)
        while not self.lost.is_set():
            await asyncio.sleep(min(_PING_S, self._hang_s) / 4)
            now = time.monotonic()
            if not self.pending:
                if now - self._heard >= _PING_S and self._transport is not None and not self.lost.is_set():
                    self._send(self._transport, "ping")
                continue
            if activity.seen():
                self._moved = now
            longest_s = _LONGEST_ANSWER_S if self._answered >= 0 else _LONGEST_LOAD_S
            if now - self._moved >= self._hang_s or now - self._heard >= longest_s:
                _log.error("searcher hangs", pid=pid, silent_s=round(now - self._heard, 1), pending=self.pending)
                self.kill()
                return

    async def leave(self) -> None:
        """Lets it answer what it was asked and then end without writing anything more."""
        await self._say("leave", timeout_s=30.0)

    async def stop(self, *, timeout_s: float) -> None:
        """Flushes and ends it; kills it if that takes longer (its write-ahead log has everything)."""
        await self._say("stop", timeout_s=timeout_s)

    async def _say(self, operation: str, *, timeout_s: float) -> None:
        try:
            with contextlib.suppress(ProcessLostError, OperationFailedError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.call(operation)
        finally:
            await self.end()

    async def end(self) -> None:
        """Kills it if it still runs, and returns when it has ended."""
        self.kill()
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """Ends it without waiting."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._transport is not None:
            # Not close(): that would first send what a process that hangs does not take.
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- a socket's transport always is
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: hands each answer to its caller."""
        try:
            messages = self._frames.feed(data)
        except ValueError:
            self.kill()
            return
        if messages:
            self._heard = self._moved = time.monotonic()
        for number, fine, result in messages:
            self._answered = number
            answer = self._waiting.get(number)
            if answer is None or answer.done():
                continue  # its caller was cancelled
            if fine:
                answer.set_result(result)
            else:
                answer.set_exception(OperationFailedError())

    def connection_lost(self, _: Exception | None) -> None:
        """Called by asyncio: the process has ended or is about to."""
        self.lost_at = time.monotonic()
        self.lost.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ProcessLostError())
        if self._watching is not None:
            self._watching.cancel()
        self.kill()


class BuilderProcess:
    """A running builder. One that has done nothing for a while (stopped, or deadlocked) is killed."""

    def __init__(self, process: Process, *, hang_s: float) -> None:
        self._process = process
        self._watching = asyncio.create_task(self._watch(hang_s))

    @classmethod
    async def start(
        cls, target: Path, shape: ShardShape, *, hang_s: float, source: Path | None = None
    ) -> "BuilderProcess":
        """Starts making an empty shard at `target`, or an optimised copy of `source` there."""
        arguments = [str(target), "--shape", json.dumps(asdict(shape))]
        if source is not None:
            arguments += ["--source", str(source)]
        return cls(await _spawn("builder", *arguments, stdout=PIPE), hang_s=hang_s * _BUILDER_PATIENCE)

    async def copied(self) -> None:
        """Returns when the source may change again; raises as `built`."""
        await self._line("copied")

    async def built(self) -> int:
        """Returns the number of points when all is done and on the disk.

        Raises ProcessLostError, and OSError (ENOSPC) if the disk was full.
        """
        points = int((await self._line("built"))[1])
        if await self._process.wait() != 0:
            raise ProcessLostError
        return points

    async def _line(self, first: str) -> list[str]:
        assert self._process.stdout is not None  # noqa: S101 -- it was started with a pipe
        words = (await self._process.stdout.readline()).decode().split()
        if words == ["full"] or (not words and await self._process.wait() == -signal.SIGBUS):
            # A mapped file that cannot grow because the disk is full ends the process with a bus error.
            raise OSError(errno.ENOSPC, "no room to build")
        if not words or words[0] != first:
            raise ProcessLostError
        return words

    async def _watch(self, hang_s: float) -> None:
        activity = Activity(self._process.pid)
        moved = time.monotonic()
        while self._process.returncode is None:
            await asyncio.sleep(min(1.0, hang_s / 4))
            if activity.seen():
                moved = time.monotonic()
            elif time.monotonic() - moved >= hang_s:
                _log.error("builder hangs", pid=self._process.pid, idle_s=round(time.monotonic() - moved, 1))
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                return

    async def kill(self) -> None:
        """Ends it at once if it has not ended."""
        self._watching.cancel()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
