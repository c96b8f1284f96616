"""Images: the 8-bit image, which a browser can show, its 16-bit copy, and thumbnails."""

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mirage_core.errors import Code, MirageError
from mirage_gateway.access import Action
from mirage_gateway.compose import Composer
from mirage_gateway.web.answers import ClassifyDocument, classify_document
from mirage_gateway.web.body import PASSED_BYTES, Intake
from mirage_gateway.web.json_bounds import FILE
from mirage_gateway.web.operations import ID, Operation, Parameter, check_parameters, json_response
from mirage_gateway.web.queries import ClassifyBody
from mirage_gateway.web.records import image_version
from mirage_protos.v1 import image_pb2

_THUMBNAIL_BYTES = 2**16
_VERSION = Parameter("v", "As in image_url: with it the answer may be cached for ever.")
CACHED = Parameter("if-none-match", "The ETag of an answer that the caller holds.", within="header")
_IMAGE_ERRORS = (
    Code.IMAGE_EMPTY,
    Code.IMAGE_TOO_LARGE,
    Code.IMAGE_TOO_MANY_PIXELS,
    Code.IMAGE_TOO_SMALL,
    Code.IMAGE_UNREADABLE,
    Code.IMAGE_FORMAT_UNSUPPORTED,
    Code.MODEL_NOT_READY,
    Code.MODEL_FAILED,
)


class ImageRoutes:
    """Image files. `keyed` says whether the server asks for API keys: then no shared cache may keep them."""

    def __init__(self, composer: Composer, intake: Intake, *, keyed: bool) -> None:
        self._composer = composer
        self._intake = intake
        self._scope = "private" if keyed else "public"

    def operations(self) -> tuple[Operation, ...]:
        """What is served."""
        errors = (Code.ID_INVALID, Code.RECORD_NOT_FOUND)
        return (
            Operation(
                "POST",
                "/v1/images/classify",
                "Guess what an image is: a medical one or not, its modality and the part of the body",
                self._classify,
                action=Action.CLASSIFY,
                body=ClassifyBody,
                reply=ClassifyDocument,
                errors=_IMAGE_ERRORS,
            ),
            Operation(
                "GET",
                "/v1/images/{id}",
                "Read a record's image, 8 bits a channel; with more than 8 bits it is in the first window",
                self._image,
                action=Action.READ_RECORDS,
                media_types=("image/png", "image/jpeg", "image/webp"),
                parameters=(ID, _VERSION, CACHED),
                errors=errors,
            ),
            Operation(
                "GET",
                "/v1/images/{id}/pixels",
                "Read the lossless 16-bit greyscale PNG of a record with `pixels`, which say what its values mean",
                self._pixels,
                action=Action.READ_RECORDS,
                media_types=("image/png",),
                parameters=(ID, CACHED),
                errors=(*errors, Code.PIXELS_NOT_FOUND),
            ),
            Operation(
                "GET",
                "/v1/images/{id}/thumbnail",
                "Read a WebP of at most 256 pixels a side",
                self._thumbnail,
                action=Action.READ_RECORDS,
                media_types=("image/webp",),
                parameters=(ID, _VERSION, CACHED),
                errors=errors,
            ),
        )

    async def _classify(self, request: Request) -> Response:
        found = await self._composer.classify((await self._intake.json(request, ClassifyBody, FILE)).to_request())
        return json_response(classify_document(found))

    async def _image(self, request: Request) -> Response:
        check_parameters(request, "v")
        return await self._serve(request, image_pb2.IMAGE_VARIANT_DISPLAY)

    async def _pixels(self, request: Request) -> Response:
        check_parameters(request)
        return await self._serve(request, image_pb2.IMAGE_VARIANT_PIXELS)

    async def _thumbnail(self, request: Request) -> Response:
        check_parameters(request, "v")
        return await self._serve(request, image_pb2.IMAGE_VARIANT_THUMBNAIL)

    async def _serve(self, request: Request, variant: "image_pb2.ImageVariant.ValueType") -> Response:
        record = await self._composer.record(request.path_params["id"])
        tag = record.image_sha256
        if variant == image_pb2.IMAGE_VARIANT_PIXELS:
            if not record.HasField("pixels"):
                raise MirageError(Code.PIXELS_NOT_FOUND, id=record.id)
            # Two files may look the same on 8 bits and differ on 16.
            tag += record.original_sha256
        etag = f'"{tag}-{variant}"'
        named = request.query_params.get("v") == image_version(record)
        headers = {
            "etag": etag,
            "cache-control": f"{self._scope}, max-age=31536000, immutable" if named else f"{self._scope}, no-cache",
        }
        if etag in tags(request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        thumbnail = variant == image_pb2.IMAGE_VARIANT_THUMBNAIL
        share = await self._intake.reserve(request.scope, _THUMBNAIL_BYTES if thumbnail else PASSED_BYTES)
        image = await self._composer.image(record.id, variant)
        share.become(min(share.amount, 4 * image.length))
        headers["content-length"] = str(image.length)
        if request.method == "HEAD":
            return Response(headers=headers, media_type=image.media_type)
        return StreamingResponse(image.chunks, headers=headers, media_type=image.media_type)


def tags(header: str) -> set[str]:
    """The entity tags of an If-None-Match header."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
