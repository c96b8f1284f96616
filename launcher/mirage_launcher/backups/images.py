"""Images of older backups: the files as they had come in, which are cleaned as they are restored.

None of them reaches the disk. What is written is clean, with a journal by which the retriever updates its records when it
starts (mirage_core.image_cleaning).
"""

import asyncio
import io
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mirage_core import limits, telemetry
from mirage_core.cpus import available_cpus
from mirage_core.decoders import PRELOAD, DecoderPool
from mirage_core.errors import Code, MirageError
from mirage_core.image_cleaning import OLD_IMAGES, OLD_THUMBNAILS, PASSING, Cleaned, Journal, clean_again
from mirage_core.image_store import ImageStore, StagedImage
from mirage_launcher.errors import BackupError, DiskFullError

ATLAS = "atlas"
_OLD = (f"{ATLAS}/{OLD_IMAGES}/", f"{ATLAS}/{OLD_THUMBNAILS}/")
_IMAGE = re.compile(rf"{ATLAS}/{OLD_IMAGES}/[0-9a-f]{{2}}/([0-9a-f]{{64}})")
_MEMORY_MB = 448
_TIMEOUT_S = 30.0
# A file that takes too long is tried again: the machine may have been busy.
_TRIES = 3


def is_old_image(name: str) -> bool:
    """True for a file of a backup that an older version of the retriever had stored: an image, or something made of one."""
    return name.startswith(_OLD)


class ImageArrival:
    """Cleans the images of one backup into a new data folder of the retriever. `finish` once all have come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store: ImageStore | None = None
        self._found: list[tuple[Cleaned, StagedImage | None]] = []
        self._error: BaseException | None = None
        self._workers = available_cpus()
        # Files in memory at a time.
        self._places = threading.Semaphore(self._workers + 2)
        self._running: set[Future[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: DecoderPool | None = None
        self._thread: threading.Thread | None = None

    def open(self, name: str) -> IO[bytes] | None:
        """Opens a place for a file that `is_old_image` has named; None for one that is not kept."""
        match = _IMAGE.fullmatch(name)
        return _Spool(self, match[1]) if match else None

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Ends the decoders, once they were needed, at the end."""
        try:
            yield
        finally:
            if self._loop is not None and self._pool is not None and self._thread is not None:
                asyncio.run_coroutine_threadsafe(self._pool.close(), self._loop).result()
                wait(list(self._running))
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()

    def take(self, sha256: str, data: bytes | None) -> None:
        """Cleans a file in the background; None for one that is too large to be an image. Waits if many are on their way."""
        if self._error is not None:
            raise self._error
        if data is None:
            self._found.append((Cleaned(sha256, None, refused=Code.IMAGE_TOO_LARGE), None))
            return
        loop, pool, store = self._start()
        self._places.acquire()
        future = asyncio.run_coroutine_threadsafe(self._clean(sha256, data, pool, store), loop)
        self._running.add(future)
        future.add_done_callback(self._end)

    def _start(self) -> tuple[asyncio.AbstractEventLoop, DecoderPool, ImageStore]:
        if self._loop is None or self._pool is None or self._store is None:
            # Logs of the decoders must not mix with standard output, which is the command's answer.
            telemetry.configure_logging("restore", level="ERROR", form="console")
            self._store = ImageStore(self._folder)
            self._pool = DecoderPool(
                self._workers,
                _MEMORY_MB,
                _TIMEOUT_S,
                _MEMORY_MB * 2,
                "restore-decode",
                preload=(*PRELOAD, "mirage_core.image_cleaning"),
            )
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="clean", daemon=True)
            self._thread.start()
        return self._loop, self._pool, self._store

    def _end(self, future: "Future[None]") -> None:
        self._running.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self._error = self._error or future.exception()
        self._places.release()

    async def _clean(self, sha256: str, data: bytes, pool: DecoderPool, store: ImageStore) -> None:
        for attempt in range(_TRIES):
            try:
                again = (await pool.run(clean_again, data)).value
                break
            except MirageError as error:
                if error.code in PASSING:
                    raise
                if error.code != Code.IMAGE_TOO_COSTLY or attempt == _TRIES - 1:
                    self._found.append((Cleaned(sha256, None, refused=error.code), None))
                    return
        staged = await asyncio.to_thread(store.stage, again.taken)
        self._found.append((Cleaned(sha256, staged.stored, changed=again.changed), staged))

    def finish(self) -> tuple[str, ...]:
        """Returns once all images are in place; says what could not be kept. Raises DiskFullError and BackupError."""
        try:
            for future in list(self._running):
                future.result()
            if self._error is not None:
                raise self._error
            if self._store is not None:
                # The replacement forces everything to the disk at once.
                self._store.keep((staged for _, staged in self._found if staged is not None), sync=False)
        except MirageError as error:
            if error.code is Code.STORAGE_FULL:
                raise DiskFullError("the images cannot be written: the disk is full. Nothing was changed") from error
            raise BackupError(f"the images cannot be cleaned: {error.message}") from error
        Journal(self._folder).add(one for one, _ in self._found)
        refused = Counter(one.refused for one, _ in self._found if one.stored is None)
        if not refused:
            return ()
        reasons = ", ".join(f"{code} {count:,}" for code, count in sorted(refused.items()))
        return (
            f"{sum(refused.values()):,} images cannot be kept ({reasons}); the next start removes the records that show them",
        )


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


class _Spool(io.BytesIO):
    """A file in memory, which is cleaned when it is closed. It is not an image if it is larger than one may be."""

    def __init__(self, arrival: ImageArrival, sha256: str) -> None:
        super().__init__()
        self._arrival = arrival
        self._sha256 = sha256
        self._too_large = False

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override] # of what is written here
        if self._too_large or self.tell() + len(data) > limits.IMAGE_BYTES:
            self._too_large = True
            return len(data)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        """As a file's: what was passed over reads as zeros."""
        end = self.tell() if size is None else size
        if self._too_large or end > limits.IMAGE_BYTES:
            self._too_large = True
            return end
        missing = end - self.getbuffer().nbytes
        if missing > 0:
            self.seek(0, io.SEEK_END)
            super().write(bytes(missing))
        return super().truncate(end)

    def close(self) -> None:
        """Gives the content away."""
        if not self.closed:
            data = None if self._too_large else self.getvalue()
            super().close()
            self._arrival.take(self._sha256, data)
