"""Looks at image queries before they are searched: an image that does not seem medical is declined unless the caller insists."""

from collections.abc import Sequence

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_gateway.dependencies import Dependencies
from mirage_gateway.settings import GatewaySettings
from mirage_protos.encoder.v1 import encoder_pb2
from mirage_protos.v1 import image_pb2, query_pb2

_log = telemetry.get_logger()
_looks = telemetry.counter("gateway_upload_gate_total", "Image terms looked at, by what they seem to be.", ("kind",))

# Of the image itself: the search behind would say the same.
_OF_THE_IMAGE = frozenset(
    {
        Code.IMAGE_EMPTY,
        Code.IMAGE_TOO_LARGE,
        Code.IMAGE_TOO_MANY_PIXELS,
        Code.IMAGE_TOO_SMALL,
        Code.IMAGE_UNREADABLE,
        Code.IMAGE_FORMAT_UNSUPPORTED,
    }
)


class UploadGate:
    """Asks the encoder about each image of a query. If it does not know, nothing is declined."""

    def __init__(self, dependencies: Dependencies, settings: GatewaySettings) -> None:
        self._parts = dependencies
        self._settings = settings

    async def classify(self, request: encoder_pb2.ClassifyImageRequest) -> encoder_pb2.ClassifyImageResponse:
        """Guesses what an image is; raises IMAGE_* for an invalid image, and the encoder's errors."""
        return await self._parts.ask(
            self._parts.encoder.ClassifyImage, request, timeout_s=self._settings.search_timeout_s
        )

    async def look_at(self, terms: Sequence[query_pb2.Term], *, accept_any: bool) -> list[image_pb2.ImageGuess]:
        """Returns a guess for each image term, in order; raises IMAGE_NOT_MEDICAL if one is not and the caller did not insist."""
        if self._settings.upload_gate == "off":
            return []
        guesses = []
        for term in terms:
            if term.WhichOneof("value") != "image":
                continue
            # An image is large: of what holds a copy only the request lives on while it is asked.
            guess = await self._guess(encoder_pb2.ClassifyImageRequest(image=term.image))
            _looks.labels(image_pb2.ImageKind.Name(guess.kind).removeprefix("IMAGE_KIND_").lower()).inc()
            declining = self._settings.upload_gate == "decline" and not accept_any
            if declining and guess.kind == image_pb2.IMAGE_KIND_NOT_MEDICAL:
                raise MirageError(Code.IMAGE_NOT_MEDICAL, score=f"{guess.medical_score:.2f}")
            guesses.append(guess)
        return guesses

    async def _guess(self, request: encoder_pb2.ClassifyImageRequest) -> image_pb2.ImageGuess:
        try:
            return (await self.classify(request)).guess
        except MirageError as error:
            if error.code in _OF_THE_IMAGE:
                raise
            # Without a guess the search continues, and reports errors itself.
            _log.warning("image not classified", code=error.code)
            return image_pb2.ImageGuess(kind=image_pb2.IMAGE_KIND_NOT_JUDGED)
