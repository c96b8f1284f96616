"""Images: the 8-bit image, which a browser can show, its 16-bit copy, and thumbnails."""

from typing import Annotated
from zlib import crc32

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.image_file import ImageFile
from mirage_gateway.web.body import PASSED_BYTES, Intake
from mirage_gateway.web.operations import CollectionName, IfNoneMatch, RecordId, operation
from mirage_gateway.web.records import image_version
from mirage_protos.v1 import image_pb2

_THUMBNAIL_BYTES = 2**16
_ERRORS = (Code.ID_INVALID, Code.RECORD_NOT_FOUND, Code.COLLECTION_NOT_FOUND)

Version = Annotated[str, Field(description="As in image_url: with it the answer may be cached for ever.")]


class ImageRoutes:
    """Image files. `keyed` says that the server asks for API keys: then no shared cache may keep them."""

    def __init__(self, composer: Composer, intake: Intake, *, keyed: bool) -> None:
        self._composer = composer
        self._intake = intake
        self._scope = "private" if keyed else "public"

    @operation(
        "GET",
        "/v1/images/{id}",
        Action.READ_RECORDS,
        media_types=("image/png", "image/jpeg", "image/webp"),
        errors=_ERRORS,
    )
    async def image(
        self,
        request: Request,
        id: RecordId,
        v: Version = "",
        collection: CollectionName = "",
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """Read a record's image, 8 bits a channel; with more than 8 bits it is in the first window."""
        return await self._serve(request, id, image_pb2.IMAGE_VARIANT_DISPLAY, v, collection, if_none_match)

    @operation(
        "GET",
        "/v1/images/{id}/pixels",
        Action.READ_RECORDS,
        media_types=("image/png",),
        errors=(*_ERRORS, Code.PIXELS_NOT_FOUND),
    )
    async def pixels(
        self,
        request: Request,
        id: RecordId,
        collection: CollectionName = "",
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """Read the lossless 16-bit greyscale PNG of a record with `pixels`, which say what its values mean."""
        return await self._serve(request, id, image_pb2.IMAGE_VARIANT_PIXELS, "", collection, if_none_match)

    @operation(
        "GET",
        "/v1/images/{id}/regions",
        Action.READ_RECORDS,
        media_types=("image/png",),
        errors=(*_ERRORS, Code.REGIONS_NOT_FOUND),
    )
    async def regions(
        self,
        request: Request,
        id: RecordId,
        collection: CollectionName = "",
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """Read a record's label map: a PNG with a palette, 8 bits, not filtered; pixels are numbers of `regions`, or 0."""
        return await self._serve(request, id, image_pb2.IMAGE_VARIANT_REGIONS, "", collection, if_none_match)

    @operation("GET", "/v1/images/{id}/thumbnail", Action.READ_RECORDS, media_types=("image/webp",), errors=_ERRORS)
    async def thumbnail(
        self,
        request: Request,
        id: RecordId,
        v: Version = "",
        collection: CollectionName = "",
        if_none_match: IfNoneMatch = "",
    ) -> Response:
        """Read a WebP of at most 256 pixels a side."""
        return await self._serve(request, id, image_pb2.IMAGE_VARIANT_THUMBNAIL, v, collection, if_none_match)

    async def _serve(
        self,
        request: Request,
        record_id: str,
        variant: "image_pb2.ImageVariant.ValueType",
        version: str,
        collection: str,
        known: str,
    ) -> Response:
        record = await self._composer.record(record_id, collection)
        tag = record.image_sha256
        if variant == image_pb2.IMAGE_VARIANT_PIXELS:
            if not record.HasField("pixels"):
                raise MirageError(Code.PIXELS_NOT_FOUND, id=record.id)
            # Two files may look the same on 8 bits and differ on 16.
            tag += record.original_sha256
        if variant == image_pb2.IMAGE_VARIANT_REGIONS:
            if not record.regions:
                raise MirageError(Code.REGIONS_NOT_FOUND, id=record.id)
            # The palette has the colours of the regions.
            colours = "".join(each.colour for each in record.regions)
            tag = f"{record.original_regions_sha256}-{crc32(colours.encode()):08x}"
        etag = f'"{tag}-{variant}"'
        named = version == image_version(record)
        headers = {
            "etag": etag,
            "cache-control": f"{self._scope}, max-age=31536000, immutable" if named else f"{self._scope}, no-cache",
        }
        if etag in tags(known):
            return Response(status_code=304, headers=headers)
        thumbnail = variant == image_pb2.IMAGE_VARIANT_THUMBNAIL
        share = await self._intake.reserve(request.scope, _THUMBNAIL_BYTES if thumbnail else PASSED_BYTES)
        image = await self._composer.image(record.id, variant, collection)
        share.become(min(share.amount, 4 * image.length))
        return image_response(request, image, headers)


def image_response(request: Request, image: ImageFile, headers: dict[str, str]) -> Response:
    """Returns an image that is sent as it is read."""
    headers["content-length"] = str(image.length)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=image.media_type)
    return StreamingResponse(image.chunks, headers=headers, media_type=image.media_type)


def tags(header: str) -> set[str]:
    """Returns the entity tags of an If-None-Match header."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
