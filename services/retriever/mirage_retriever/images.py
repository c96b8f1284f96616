"""The retriever's images: cleaned on their way in, read piece by piece on their way out."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from mirage_core import limits
from mirage_core.decoding_cost import decoding_bytes
from mirage_core.errors import Code, MirageError
from mirage_core.executor import Ran
from mirage_core.image_cleaning import clean_again
from mirage_core.image_store import (
    IMAGES,
    PIXELS,
    PIXELS_TYPE,
    REGIONS,
    REGIONS_TYPE,
    THUMBNAIL_TYPE,
    THUMBNAILS,
    Answer,
    ImageStore,
    StagedImage,
    is_draft,
    take_in,
    take_in_all,
    thumbnail_of,
    view_of,
)
from mirage_core.imaging import PixelInfo
from mirage_core.imaging.label_map import LabelMap, read_label_map
from mirage_core.regions import RegionMap, refuse
from mirage_retriever.records import Record

__all__ = [
    "IMAGES",
    "PIXELS",
    "PIXELS_TYPE",
    "REGIONS",
    "REGIONS_TYPE",
    "THUMBNAILS",
    "THUMBNAIL_TYPE",
    "Decoder",
    "Images",
]

# Files up to this size, which need no more than this to be decoded, are decoded so many by one call.
_SMALL_BYTES = 512 * 1024
_SMALL_DECODING_BYTES = 96 * 2**20
_TOGETHER = 8
# The decoder says so of a file; of several it may be any one.
_OF_ONE_FILE = (Code.IMAGE_UNREADABLE, Code.IMAGE_TOO_COSTLY)

P = ParamSpec("P")
T = TypeVar("T")


class Decoder(Protocol):
    """Runs functions that decode; `mirage_core.decoders.DecoderPool` is one."""

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Ran[T]:
        """Runs a function; raises MirageError."""
        ...

    async def run_within(
        self, reserve: int | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Ran[T]:
        """Does the same with so many bytes of memory."""
        ...


@dataclass(eq=False)
class _Small:
    """A file that costs little: many of them are decoded by one call. `reserve` is the memory that it needs."""

    data: bytes
    reserve: int
    draft: bool
    answer: "asyncio.Future[StagedImage | MirageError]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Images:
    """Cleans every incoming image in a decoder process and stores it.

    At most `places` files are being decoded at a time; others wait, so that a bulk upload is not refused.
    """

    def __init__(self, store: ImageStore, decoder: Decoder, *, places: int) -> None:
        self.store = store
        self._decoder = decoder
        self._places = asyncio.Semaphore(places)
        self._making: dict[str, asyncio.Lock] = {}
        self._small: list[_Small] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def take_in(self, parts: Sequence[bytes], pixels: PixelInfo | None, *, draft: bool = False) -> StagedImage:
        """Cleans a file that came in, given in pieces, and writes the result next to the store.

        With `draft` the thumbnail is made when it is first asked for, of a small copy. Raises what
        `mirage_core.image_store.take_in` raises, IMAGE_TOO_COSTLY, QUEUE_FULL and STORAGE_FULL.
        """
        size = sum(map(len, parts))
        if size <= _SMALL_BYTES and pixels is None:
            data = b"".join(parts)
            reserve = decoding_bytes(data)
            if reserve is not None and reserve <= _SMALL_DECODING_BYTES:
                return await self._take_in_small(_Small(data, reserve, draft))
        async with self._places:
            ran = await self._decoder.run(take_in, b"".join(parts), pixels, draft)
            return await asyncio.to_thread(self.store.stage, ran.value)

    async def _take_in_small(self, small: "_Small") -> StagedImage:
        """Is decoded together with others that come at the same time."""
        if not self._small:
            asyncio.get_running_loop().call_soon(self._send_small)
        self._small.append(small)
        answer = await small.answer
        if isinstance(answer, MirageError):
            raise answer
        return answer

    def _send_small(self) -> None:
        waiting, self._small = self._small, []
        for draft in (False, True):
            alike = [each for each in waiting if each.draft == draft]
            for start in range(0, len(alike), _TOGETHER):
                task = asyncio.create_task(self._take_in_together(alike[start : start + _TOGETHER]))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def _take_in_together(self, some: "Sequence[_Small]") -> None:
        try:
            async with self._places:
                staged = await self._ask_together(some)
        except Exception as error:
            known = error if isinstance(error, MirageError) else MirageError(Code.INTERNAL)
            staged = [known] * len(some)
        for each, answer in zip(some, staged, strict=True):
            if not each.answer.done():
                each.answer.set_result(answer)
            elif isinstance(answer, StagedImage):
                await asyncio.to_thread(answer.drop)

    async def _ask_together(self, some: "Sequence[_Small]") -> list[StagedImage | MirageError]:
        reserve = max(each.reserve for each in some)
        try:
            ran = await self._decoder.run_within(reserve, take_in_all, [each.data for each in some], some[0].draft)
        except MirageError as error:
            if len(some) == 1 or error.code not in _OF_ONE_FILE:
                raise
            # One of them has ended the decoder: each is asked for alone.
            return [answer for each in some for answer in await self._ask_alone(each)]
        return await asyncio.to_thread(self._staged, ran.value)

    async def _ask_alone(self, small: "_Small") -> list[StagedImage | MirageError]:
        try:
            return await self._ask_together([small])
        except MirageError as error:
            return [error]

    def _staged(self, answers: Sequence[Answer]) -> list[StagedImage | MirageError]:
        found: list[StagedImage | MirageError] = []
        try:
            for answer in answers:
                if answer.taken is None:
                    found.append(_error(answer))
                else:
                    found.append(self.store.stage(answer.taken))
        except BaseException:
            for each in found:
                if isinstance(each, StagedImage):
                    each.drop()
            raise
        return found

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

    async def read_regions(self, given: RegionMap, width: int, height: int) -> LabelMap:
        """Checks a label map for an image of this size; raises REGIONS_INVALID and QUEUE_FULL."""
        async with self._places:
            try:
                return (
                    await self._decoder.run_within(decoding_bytes(given.png), read_label_map, given, width, height)
                ).value
            except MirageError as error:
                raise refuse("its PNG file is damaged") if error.code in _OF_ONE_FILE else error from error

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
            made = part != THUMBNAILS or not is_draft(piece)
            if not made:
                reading.close()
        except MirageError:
            if part != THUMBNAILS:
                raise
            made = False
        if not made:
            await self._make_thumbnail(sha256)
            reading, piece = await asyncio.to_thread(self.store.read, part, sha256)
        try:
            while piece:
                yield reading.length, piece
                piece = b"" if reading.is_at_end else await asyncio.to_thread(reading.next)
        finally:
            reading.close()

    async def _make_thumbnail(self, image_sha256: str) -> None:
        """Makes a thumbnail of its draft, or again if it was lost with the power.

        That happens once, however many readers ask for it at the same time.
        """
        lock = self._making.setdefault(image_sha256, asyncio.Lock())
        try:
            async with lock:
                if await asyncio.to_thread(self.store.has_thumbnail, image_sha256):
                    return
                data = await asyncio.to_thread(self.store.draft, image_sha256)
                async with self._places:
                    made = (await self._decoder.run(thumbnail_of, data)).value
                await asyncio.to_thread(self.store.keep_thumbnail, image_sha256, made)
        finally:
            if not lock.locked():
                self._making.pop(image_sha256, None)


def _error(answer: Answer) -> MirageError:
    metadata: dict[str, Any] = dict(answer.metadata)
    return MirageError(Code(answer.code), **metadata)
