"""The retriever's images: cleaned on their way in, read piece by piece on their way out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from mirage_core import limits
from mirage_core.errors import MirageError
from mirage_core.executor import Ran
from mirage_core.image_cleaning import clean_again
from mirage_core.image_store import (
    IMAGES,
    PIXELS,
    PIXELS_TYPE,
    THUMBNAIL_TYPE,
    THUMBNAILS,
    ImageStore,
    StagedImage,
    take_in,
    thumbnail_of,
    view_of,
)
from mirage_core.imaging import PixelInfo
from mirage_retriever.records import Record

__all__ = ["IMAGES", "PIXELS", "PIXELS_TYPE", "THUMBNAILS", "THUMBNAIL_TYPE", "Decoder", "Images"]

P = ParamSpec("P")
T = TypeVar("T")


class Decoder(Protocol):
    """Runs functions that decode; `mirage_core.decoders.DecoderPool` is one."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Ran[T]:
        """Runs a function; raises MirageError."""
        ...


class Images:
    """The store, and the decoder that everything goes through on its way in.

    At most `places` files are with the decoder at a time; others wait, for a bulk must not be refused for being one.
    """

    def __init__(self, store: ImageStore, decoder: Decoder, *, places: int) -> None:
        self.store = store
        self._decoder = decoder
        self._places = asyncio.Semaphore(places)
        self._making: dict[str, asyncio.Lock] = {}

    async def take_in(self, parts: Sequence[bytes], pixels: PixelInfo | None) -> StagedImage:
        """Cleans a file that came in, given in pieces, and writes the result next to the store.

        Raises what `mirage_core.image_store.take_in` raises, IMAGE_TOO_COSTLY, QUEUE_FULL and STORAGE_FULL.
        """
        async with self._places:
            ran = await self._decoder.run(take_in, b"".join(parts), pixels)
            return await asyncio.to_thread(self.store.stage, ran.value)

    async def take_in_old(self, file: Path) -> tuple[bool, StagedImage]:
        """Does the same for a file that an older version stored; True if a model sees another picture now."""
        async with self._places:
            data = await asyncio.to_thread(file.read_bytes)
            ran = await self._decoder.run(clean_again, data)
            return ran.value.changed, await asyncio.to_thread(self.store.stage, ran.value.taken)

    async def take_in_again(self, record: Record, pixels: PixelInfo) -> StagedImage:
        """Does the same for the 16-bit copy of a record that is stored, whose numbers mean something else now."""
        data = await asyncio.to_thread(self.store.file, PIXELS, record.pixels_sha256)
        return await self.take_in([data], pixels)

    async def for_model(self, image_sha256: str, staged: StagedImage | None = None) -> bytes:
        """Returns an image as it is sent to the encoder: the stored file, or a smaller copy if that is too large."""
        data = await asyncio.to_thread(staged.image if staged else lambda: self.store.file(IMAGES, image_sha256))
        if len(data) <= limits.IMAGE_BYTES:
            return data
        async with self._places:
            return (await self._decoder.run(view_of, data)).value

    async def read(self, part: str, sha256: str) -> AsyncGenerator[tuple[int, bytes]]:
        """Reads a file piece by piece, each with the length of the whole; raises RECORD_NOT_FOUND if it is gone."""
        try:
            reading, piece = await asyncio.to_thread(self.store.read, part, sha256)
        except MirageError:
            if part != THUMBNAILS:
                raise
            await self._make_thumbnail(sha256)
            reading, piece = await asyncio.to_thread(self.store.read, part, sha256)
        try:
            while piece:
                yield reading.length, piece
                piece = b"" if reading.is_at_end else await asyncio.to_thread(reading.next)
        finally:
            reading.close()

    async def _make_thumbnail(self, image_sha256: str) -> None:
        """Makes a thumbnail that was lost with the power; once, however many readers ask for it at the same time."""
        lock = self._making.setdefault(image_sha256, asyncio.Lock())
        try:
            async with lock:
                if await asyncio.to_thread(self.store.has_thumbnail, image_sha256):
                    return
                data = await asyncio.to_thread(self.store.file, IMAGES, image_sha256)
                async with self._places:
                    made = (await self._decoder.run(thumbnail_of, data)).value
                await asyncio.to_thread(self.store.keep_thumbnail, image_sha256, made)
        finally:
            if not lock.locked():
                self._making.pop(image_sha256, None)
