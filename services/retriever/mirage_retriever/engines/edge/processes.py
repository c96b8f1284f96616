"""Handles of the searcher and builder processes, on the retriever's side."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mirage_retriever.engines.edge.frames import FrameReader, pack
from mirage_retriever.engines.edge.shard_shape import ShardShape


class ProcessLostError(Exception):
    """The process ended or never answered; what it was doing may or may not be done."""


class OperationFailedError(Exception):
    """The engine refused an operation; the process lives and its log has the reason."""


async def _spawn(module: str, *arguments: str, pass_fds: tuple[int, ...] = (), stdout: int | None = None) -> Process:
    # Neither keys nor settings go where nothing needs them.
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
    """A running searcher. Calls are answered in the order in which they were made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = asyncio.Event()
        self._frames = FrameReader()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._transport: asyncio.Transport | None = None
        self._process: Process | None = None

    @classmethod
    async def start(cls, path: Path, *, timeout_s: float) -> "SearcherProcess":
        """Starts a searcher on a shard and waits until it has loaded; raises ProcessLostError where it does not."""
        ours, theirs = socket.socketpair()
        self = cls(path)
        loop = asyncio.get_running_loop()
        ready = self._waiting[0] = loop.create_future()
        try:
            with ours, theirs:
                self._process = await _spawn(
                    "searcher", str(path), "--fd", str(theirs.fileno()), pass_fds=(theirs.fileno(),)
                )
                ours.setblocking(False)
                await loop.create_unix_connection(lambda: self, sock=ours.dup())
            await asyncio.wait_for(ready, timeout_s)
        except TimeoutError as error:
            await self.end()
            raise ProcessLostError from error
        except BaseException:
            await self.end()
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
        """Calls that have no answer yet."""
        return len(self._waiting)

    async def call(self, operation: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        """The operation's result.

        Raises ProcessLostError, also for a process that hangs (it is killed), or OperationFailedError.
        """
        if self._transport is None or self.lost.is_set():
            raise ProcessLostError
        self._number += 1
        number = self._number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._transport.write(pack([number, operation, *arguments]))
        handle = asyncio.get_running_loop().call_later(timeout_s, self.kill)
        try:
            return await answer
        finally:
            handle.cancel()
            self._waiting.pop(number, None)

    async def leave(self) -> None:
        """Lets it answer what it was asked and then end without writing anything more."""
        await self._say("leave", timeout_s=30.0)

    async def stop(self, *, timeout_s: float) -> None:
        """Flushes and ends it; kills it where that takes longer (its write-ahead log has everything)."""
        await self._say("stop", timeout_s=timeout_s)

    async def _say(self, operation: str, *, timeout_s: float) -> None:
        try:
            with contextlib.suppress(ProcessLostError, OperationFailedError):
                await self.call(operation, timeout_s=timeout_s)
        finally:
            await self.end()

    async def end(self) -> None:
        """Kills it, where it still runs, and returns when it is gone."""
        self.kill()
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """Ends it without waiting."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._transport is not None:
            self._transport.close()

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
        for number, fine, result in messages:
            answer = self._waiting.get(number)
            if answer is None or answer.done():
                continue  # its caller went away
            if fine:
                answer.set_result(result)
            else:
                answer.set_exception(OperationFailedError())

    def connection_lost(self, _: Exception | None) -> None:
        """Called by asyncio: the process has ended or is about to."""
        self.lost.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ProcessLostError())
        self.kill()


class BuilderProcess:
    """A running builder."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, target: Path, shape: ShardShape, *, source: Path | None = None) -> "BuilderProcess":
        """Starts making an empty shard at `target`, or an optimised copy of `source` there."""
        arguments = [str(target), "--shape", json.dumps(asdict(shape))]
        if source is not None:
            arguments += ["--source", str(source)]
        return cls(await _spawn("builder", *arguments, stdout=PIPE))

    async def copied(self) -> None:
        """Returns when the source may change again; raises ProcessLostError."""
        await self._line("copied")

    async def built(self) -> int:
        """Returns the number of points when all is done and on the disk; raises ProcessLostError."""
        points = int((await self._line("built"))[1])
        if await self._process.wait() != 0:
            raise ProcessLostError
        return points

    async def _line(self, first: str) -> list[str]:
        assert self._process.stdout is not None  # noqa: S101 -- it was started with a pipe
        words = (await self._process.stdout.readline()).decode().split()
        if not words or words[0] != first:
            raise ProcessLostError
        return words

    async def kill(self) -> None:
        """Ends it at once, where it has not ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
