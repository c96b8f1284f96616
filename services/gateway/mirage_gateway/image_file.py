"""An image on its way out."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from mirage_core.errors import Code, MirageError
from mirage_protos.v1 import image_pb2


@dataclass(frozen=True)
class ImageFile:
    """Media type, length in bytes, and the parts of at most 256 KiB."""

    media_type: str
    length: int
    chunks: AsyncIterator[bytes]

    @classmethod
    async def begin(cls, parts: AsyncIterator[image_pb2.ImagePart]) -> Self:
        """Waits for the first part, so that an error comes before any byte is out; raises INTERNAL without one."""
        first = await anext(parts, None)
        if first is None:
            raise MirageError(Code.INTERNAL)
        # Not kept to the end of a download that may take minutes.
        ready = [first.chunk]

        async def chunks() -> AsyncIterator[bytes]:
            yield ready.pop()
            async for part in parts:
                yield part.chunk

        return cls(first.media_type, first.length, chunks())

    async def parts(self) -> AsyncIterator[image_pb2.ImagePart]:
        """The same as messages; the first says type and length."""
        part = image_pb2.ImagePart(media_type=self.media_type, length=self.length)
        async for chunk in self.chunks:
            part.chunk = chunk
            yield part
            part = image_pb2.ImagePart()
