"""EncoderService: protobuf to the embedder and back, nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from mirage.v1 import common_pb2, encoder_pb2, encoder_pb2_grpc
from mirage_core.errors import Code, MirageError
from mirage_core.vectors import to_proto
from mirage_encoder.embedder import Embedder, Spent
from mirage_encoder.engines.base import FloatArray

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"

# Images of one stream that are worked on at once; the stream is not read further until one of them is done.
_STREAM_WINDOW = 8
_KEY_CHARS = 256
# A stream waits its turn where a single call would be told to come again, though not for ever.
_STREAM_PATIENCE_S = 60.0


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers with what the embedder gives, MODEL_NOT_READY before there is one; errors go through to the interceptor."""

    def __init__(self) -> None:
        self._loaded: Embedder | None = None
        self._fingerprint = ""

    def use(self, embedder: Embedder) -> None:
        """From now on the calls are answered with this embedder."""
        self._loaded = embedder
        self._fingerprint = embedder.model.manifest.fingerprint

    @property
    def _embedder(self) -> Embedder:
        if self._loaded is None:
            raise MirageError(Code.MODEL_NOT_READY, retry_after_s=1.0)
        return self._loaded

    async def EncodeText(
        self, request: encoder_pb2.EncodeTextRequest, context: Context
    ) -> encoder_pb2.EncodeTextResponse:
        """See protos/mirage/v1/encoder.proto."""
        vectors, spent = await self._embedder.encode_texts(list(request.texts))
        return encoder_pb2.EncodeTextResponse(
            embeddings=[
                encoder_pb2.TextEmbedding(
                    vector=to_proto(each.vector), tokens=each.tokens, truncated=each.truncated, cached=each.cached
                )
                for each in vectors
            ],
            fingerprint=self._fingerprint,
            timings=_timings(spent, cached=all(each.cached for each in vectors)),
        )

    async def EncodeImage(
        self, request: encoder_pb2.EncodeImageRequest, context: Context
    ) -> encoder_pb2.EncodeImageResponse:
        """See protos/mirage/v1/encoder.proto."""
        vector, spent = await self._embedder.encode_image(request.image)
        return encoder_pb2.EncodeImageResponse(
            vector=to_proto(vector), fingerprint=self._fingerprint, timings=_timings(spent)
        )

    async def EncodeImages(
        self, request_iterator: AsyncIterator[encoder_pb2.EncodeImagesRequest], context: Context
    ) -> AsyncIterator[encoder_pb2.EncodeImagesResponse]:
        """See protos/mirage/v1/encoder.proto."""
        running: set[asyncio.Task[encoder_pb2.EncodeImagesResponse]] = set()
        try:
            async for request in request_iterator:
                if len(request.key) > _KEY_CHARS:
                    raise MirageError(Code.REQUEST_MALFORMED, field="key")
                running.add(asyncio.create_task(self._encode_one(request)))
                if len(running) >= _STREAM_WINDOW:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            for finished in asyncio.as_completed(running):
                yield await finished
        finally:
            for task in running:
                task.cancel()

    async def _encode_one(self, request: encoder_pb2.EncodeImagesRequest) -> encoder_pb2.EncodeImagesResponse:
        try:
            vector, spent = await self._encode_in_turn(request.image)
        except MirageError as error:
            problem = common_pb2.Problem(code=error.code, message=error.message, metadata=error.metadata)
            return encoder_pb2.EncodeImagesResponse(key=request.key, error=problem, fingerprint=self._fingerprint)
        return encoder_pb2.EncodeImagesResponse(
            key=request.key, vector=to_proto(vector), fingerprint=self._fingerprint, timings=_timings(spent)
        )

    async def _encode_in_turn(self, image: bytes) -> tuple[FloatArray, Spent]:
        until = time.monotonic() + _STREAM_PATIENCE_S
        while True:
            try:
                return await self._embedder.encode_image(image)
            except MirageError as error:
                if error.code is not Code.QUEUE_FULL or time.monotonic() > until:
                    raise
                await asyncio.sleep(min(error.retry_after_s or 0.1, 1.0))

    async def ClassifyImage(
        self, request: encoder_pb2.EncoderServiceClassifyImageRequest, context: Context
    ) -> encoder_pb2.EncoderServiceClassifyImageResponse:
        """See protos/mirage/v1/encoder.proto."""
        guess, spent = await self._embedder.classify_image(request.image)
        return encoder_pb2.EncoderServiceClassifyImageResponse(
            guess=common_pb2.ImageGuess(
                kind=common_pb2.ImageKind.ValueType(guess.kind),
                medical_score=guess.medical,
                facets=[
                    common_pb2.FacetGuess(
                        facet=facet.facet,
                        values=[common_pb2.ValueGuess(value=value, score=score) for value, score in facet.values],
                        sure=facet.sure,
                    )
                    for facet in guess.facets
                ],
            ),
            fingerprint=self._fingerprint,
            timings=_timings(spent),
        )

    async def GetModel(self, request: encoder_pb2.GetModelRequest, context: Context) -> encoder_pb2.GetModelResponse:
        """See protos/mirage/v1/encoder.proto."""
        model = self._embedder.model
        manifest = model.manifest
        return encoder_pb2.GetModelResponse(
            model=common_pb2.Model(
                name=manifest.name,
                task=manifest.task,
                fingerprint=self._fingerprint,
                source=manifest.source,
                licence=manifest.licence,
                dimension=manifest.dimension,
                context_length=manifest.text.context_length,
                image_size=manifest.image.size,
                engine=model.description,
                precision=model.variant,
                manifest_json=manifest.to_json(),
            )
        )


def _timings(spent: Spent, *, cached: bool = False) -> common_pb2.Timings:
    return common_pb2.Timings(
        queue_ms=spent.queue_ms,
        inference_ms=spent.inference_ms,
        total_ms=spent.total_ms,
        cached=cached or spent.cached,
    )
