"""Engines that write a description's text: a bundle in this process, or a server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.executor import BoundedExecutor
from mirage_inference.llm.decoder import CancelledError
from mirage_inference.llm.model import LlmModel, Written, Wrote
from mirage_inference.llm.request import Question

_tokens = telemetry.counter("llm_tokens_total", "Tokens that the model wrote.")
_writing = telemetry.gauge("llm_writing", "Descriptions that the model is writing.")


@dataclass(frozen=True)
class WriterInfo:
    """A model that writes, as mirage.v1.Model."""

    name: str
    fingerprint: str
    engine: str
    source: str = ""
    licence: str = ""
    precision: str = ""
    context_length: int = 0
    manifest_json: str = ""


class Running:
    """The description's turn has come."""


class Writer(Protocol):
    """Writes texts, several at once, of which some may wait for their turn."""

    @property
    def info(self) -> WriterInfo:
        """Describes the writer."""
        ...

    def write(self, question: Question, seed: int) -> AsyncGenerator[Running | Written]:
        """Yields Running, then Begun, Wrote for each piece of text, and Finished; or Outside instead of these.

        Closing the generator stops the writing. Raises QUEUE_FULL with a retry time, MODEL_FAILED and
        DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def close(self) -> None:
        """Drops what waits."""
        ...


class BundleWriter:
    """The model of a bundle, in threads of this process: `slots` at once, `queue` waiting."""

    def __init__(self, model: LlmModel, *, slots: int, queue: int) -> None:
        self._model = model
        self._executor = BoundedExecutor(workers=slots, queue_limit=queue, name="describe", typical_ms=2000.0)
        manifest = model.manifest
        self.info = WriterInfo(
            name=manifest.name,
            fingerprint=manifest.fingerprint,
            engine=model.description,
            source=manifest.source,
            licence=manifest.licence,
            precision=model.variant,
            context_length=manifest.context_length,
            manifest_json=manifest.to_json(),
        )

    async def write(self, question: Question, seed: int) -> AsyncGenerator[Running | Written]:
        """See Writer.write. The model stops within a token, or within a piece of the prompt."""
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[Running | Written | None] = asyncio.Queue()
        gone = threading.Event()

        def put(item: Running | Written | None) -> None:
            # A closed loop has no reader.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(items.put_nowait, item)

        def run() -> None:
            put(Running())
            try:
                with _writing.track_inprogress(), suppress(CancelledError):
                    for item in self._model.write(question, seed=seed, cancelled=gone.is_set):
                        if isinstance(item, Wrote):
                            _tokens.inc()
                        put(item)
            except MirageError:
                raise
            except Exception as error:  # the reader gets an extract after any error
                raise MirageError(Code.MODEL_FAILED) from error

        running = asyncio.create_task(self._executor.run(run))
        running.add_done_callback(lambda _: items.put_nowait(None))
        try:
            while (item := await items.get()) is not None:
                yield item
            await running
        finally:
            # A thread that computes a token sees this after it and frees its slot; this does not wait for it.
            gone.set()
            running.cancel()
            if running.done() and not running.cancelled():
                running.exception()

    async def close(self) -> None:
        """See Writer.close. What runs ends with its last token; the model stays open: it is the caller's."""
        self._executor.close()


class Turns:
    """`slots` at once and `queue` waiting; one more is refused with QUEUE_FULL."""

    def __init__(self, *, slots: int, queue: int) -> None:
        self._free, self._left = asyncio.Semaphore(slots), slots + queue

    async def __aenter__(self) -> None:
        if self._left == 0:
            raise MirageError(Code.QUEUE_FULL, retry_after_s=2.0)
        self._left -= 1
        try:
            await self._free.acquire()
        except BaseException:
            self._left += 1
            raise
        _writing.inc()

    async def __aexit__(self, *_: object) -> None:
        _writing.dec()
        self._free.release()
        self._left += 1


def count_token() -> None:
    """Counts a token that was written."""
    _tokens.inc()


def shortened(texts: Sequence[str], most: int) -> int:
    """Returns how many of the texts, from the first on, have at most so many characters together."""
    total = 0
    for count, text in enumerate(texts):
        total += len(text)
        if total > most:
            return count
    return len(texts)
