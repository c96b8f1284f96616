"""Readings by a model in this process: openvino-genai runs a folder that optimum-intel exported, on the processor.

The library is optional, and loaded only here. It computes in a thread of its own, so that a fault in its native code ends the
service.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mirage_core.errors import Code, MirageError
from mirage_reader.engines.base import Draft, ModelInfo, StepSource, Study
from mirage_reader.engines.chat import SYSTEM, Turns, asked, drafts

# The library loads a folder without some of these, and fails at the first image.
_FILES = (
    "config.json",
    "preprocessor_config.json",
    *(
        f"openvino_{part}.{ending}"
        for part in (
            "language_model",
            "text_embeddings_model",
            "vision_embeddings_model",
            "tokenizer",
            "detokenizer",
        )
        for ending in ("xml", "bin")
    ),
)


@dataclass(frozen=True)
class OpenVinoOptions:
    """The folder and its bounds; `kinds` are names of checklists, empty for all. `name` is the folder's if it is empty."""

    folder: Path
    name: str = ""
    kinds: frozenset[str] = frozenset()
    source: str = ""
    licence: str = ""
    total_s: float = 120.0
    max_tokens: int = 512
    queue: int = 4
    threads: int = 1


class Pipeline(Protocol):
    """A loaded model. One call at a time."""

    def try_out(self) -> None:
        """Writes one token about a grey image; raises MODEL_FAILED."""
        ...

    def write(
        self,
        image: bytes,
        system: str,
        question: str,
        *,
        max_tokens: int,
        say: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        """Passes what it writes about a JPEG to `say`. It asks `stop` before each token; raises MODEL_FAILED."""
        ...


class OpenVinoReading:
    """Reads with a model in this process, one image at a time. `small` makes the copy of the image."""

    name = "openvino-genai"
    source = StepSource.MODEL

    def __init__(
        self,
        pipeline: Pipeline,
        options: OpenVinoOptions,
        small: Callable[[bytes], Awaitable[bytes]],
        thread: ThreadPoolExecutor,
    ) -> None:
        self._pipeline = pipeline
        self._options = options
        self._small = small
        self._thread = thread
        self._turns = Turns(1, options.queue, options.total_s)
        self._closing = threading.Event()
        name = options.name or options.folder.resolve().name
        self.model: ModelInfo | None = ModelInfo(name, self.name, options.source, options.licence)

    @classmethod
    async def load(cls, options: OpenVinoOptions, small: Callable[[bytes], Awaitable[bytes]]) -> "OpenVinoReading":
        """Loads the folder and tries it; raises BUNDLE_INVALID with the reason."""
        thread = ThreadPoolExecutor(1, "reading-model")
        try:
            pipeline = await asyncio.get_running_loop().run_in_executor(thread, _load, options)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(pipeline, options, small, thread)

    def may_read(self, kind: str) -> bool:
        """True if the operator named the kind, or none at all."""
        return not self._options.kinds or kind in self._options.kinds

    def read(self, study: Study) -> AsyncGenerator[Draft]:
        """Yields sentences as their lines come. Raises QUEUE_FULL, DEADLINE_EXCEEDED, MODEL_FAILED.

        If it is closed, the model stops at its next token. The next reading waits for that.
        """
        return drafts(self._turns.lines(lambda: self._pieces(study)), study.checklist)

    async def close(self) -> None:
        """Stops the model at its next token, and lets go of it."""
        self._closing.set()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _pieces(self, study: Study) -> AsyncGenerator[str]:
        loop = asyncio.get_running_loop()
        # It holds no more than the model may write.
        said: asyncio.Queue[str | None] = asyncio.Queue()
        left = threading.Event()
        write = partial(
            self._pipeline.write,
            await self._small(study.image),
            SYSTEM,
            asked(study.checklist),
            max_tokens=self._options.max_tokens,
            say=lambda text: _put(loop, said, text),
            stop=lambda: left.is_set() or self._closing.is_set(),
        )
        written = loop.run_in_executor(self._thread, write)
        written.add_done_callback(lambda _: said.put_nowait(None))
        try:
            while (piece := await said.get()) is not None:
                yield piece
            await written
        finally:
            left.set()
            # One that has not begun never begins.
            written.cancel()


def check_folder(folder: Path) -> None:
    """Raises BUNDLE_INVALID unless the folder has the files of a model with vision as optimum-intel exports it."""
    if not folder.is_dir():
        raise MirageError(Code.BUNDLE_INVALID, reason=f"there is no folder {folder.name}")
    missing = next((name for name in _FILES if not (folder / name).is_file()), None)
    if missing:
        raise MirageError(
            Code.BUNDLE_INVALID, reason=f"{missing} is missing; optimum-intel exports it with --task image-text-to-text"
        )


def _load(options: OpenVinoOptions) -> Pipeline:
    check_folder(options.folder)
    try:
        from mirage_reader.engines.openvino_pipeline import OpenVinoPipeline
    except ImportError as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the library openvino-genai is not installed") from error
    pipeline = OpenVinoPipeline(options.folder, options.threads)
    try:
        pipeline.try_out()
    except MirageError as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="the model cannot write about an image") from error
    return pipeline


def _put(loop: asyncio.AbstractEventLoop, said: "asyncio.Queue[str | None]", text: str) -> None:
    # The loop may be closed while the model writes its last token.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(said.put_nowait, text)
