"""EncoderService: protobuf to the embedder and back, nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import ClassVar, TypeAlias, TypeVar

import grpc

from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_core.message_budget import MessageBudget, Share, read_message
from mirage_core.methods import MethodRule, Role
from mirage_core.rpc_errors import problem_to_proto
from mirage_core.vectors import vector_to_proto
from mirage_encoder.convert import embedding_to_proto, guess_to_proto, model_to_proto, timings_to_proto
from mirage_encoder.embedder import Embedder
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"

# Images of one stream that are worked on at once; the stream is not read further until one of them is done.
_STREAM_WINDOW = 8
_KEY_CHARS = 256
# A stream waits for its turn, for a bounded time, in cases that refuse a single call.
_STREAM_PATIENCE_S = 60.0
# A request with the largest image. Requests of BUDGETED methods hold images and nothing else.
IMAGE_MESSAGE_BYTES = limits.IMAGE_BYTES + 2**12
BUDGETED = ("mirage.encoder.v1.EncoderService/EncodeImage", "mirage.encoder.v1.EncoderService/ClassifyImage")


class EncoderServicer(encoder_pb2_grpc.EncoderServiceServicer):
    """Answers with what the embedder gives, MODEL_NOT_READY before there is one.

    Errors go through to the interceptor.
    """

    methods: ClassVar[Mapping[str, MethodRule]] = {
        "EncodeText": MethodRule(Role.ADMIN, limits.VECTORS_BYTES),
        **dict.fromkeys(("EncodeImage", "ClassifyImage"), MethodRule(Role.ADMIN, limits.MESSAGE_BYTES)),
        "EncodeImages": MethodRule(Role.ADMIN, limits.MESSAGE_BYTES, own_budget=True),
        "GetModel": MethodRule(Role.ADMIN),
    }

    def __init__(self, budget: MessageBudget) -> None:
        self._budget = budget
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
        """See protos/mirage/encoder/v1/encoder.proto."""
        vectors, spent = await self._embedder.encode_texts(list(request.texts))
        return encoder_pb2.EncodeTextResponse(
            embeddings=[embedding_to_proto(each) for each in vectors],
            fingerprint=self._fingerprint,
            timings=timings_to_proto(spent, cached=all(each.cached for each in vectors)),
        )

    async def EncodeImage(
        self, request: encoder_pb2.EncodeImageRequest, context: Context
    ) -> encoder_pb2.EncodeImageResponse:
        """See protos/mirage/encoder/v1/encoder.proto."""
        image = request.image
        # The message holds the file once more.
        del request
        vector, spent = await self._embedder.encode_image(image)
        return encoder_pb2.EncodeImageResponse(
            vector=vector_to_proto(vector), fingerprint=self._fingerprint, timings=timings_to_proto(spent)
        )

    async def EncodeImages(
        self, request_iterator: AsyncIterator[encoder_pb2.EncodeImagesRequest], context: Context
    ) -> AsyncIterator[encoder_pb2.EncodeImagesResponse]:
        """See protos/mirage/encoder/v1/encoder.proto."""
        running: set[asyncio.Task[encoder_pb2.EncodeImagesResponse]] = set()
        try:
            while received := await self._receive(request_iterator):
                request, share = received
                task = asyncio.create_task(self._encode_one(request))
                # Also if it is cancelled before it has begun.
                task.add_done_callback(partial(_release, share))
                running.add(task)
                del received, request
                if len(running) >= _STREAM_WINDOW:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        yield task.result()
            for finished in asyncio.as_completed(running):
                yield await finished
        finally:
            for task in running:
                task.cancel()

    async def _receive(
        self, requests: AsyncIterator[encoder_pb2.EncodeImagesRequest]
    ) -> tuple[encoder_pb2.EncodeImagesRequest, Share] | None:
        """Returns the next request and its share of the budget; None at the end of the stream."""
        share = await _in_turn(lambda: self._budget.take(IMAGE_MESSAGE_BYTES))
        try:
            request = await read_message(requests, share)
            if request is not None and len(request.key) > _KEY_CHARS:
                raise MirageError(Code.REQUEST_MALFORMED, field="key")
        except BaseException:
            share.release()
            raise
        return None if request is None else (request, share)

    async def _encode_one(self, request: encoder_pb2.EncodeImagesRequest) -> encoder_pb2.EncodeImagesResponse:
        key, image = request.key, request.image
        del request
        try:
            vector, spent = await _in_turn(lambda: self._embedder.encode_image(image))
        except MirageError as error:
            problem = problem_to_proto(error)
            return encoder_pb2.EncodeImagesResponse(key=key, error=problem, fingerprint=self._fingerprint)
        return encoder_pb2.EncodeImagesResponse(
            key=key, vector=vector_to_proto(vector), fingerprint=self._fingerprint, timings=timings_to_proto(spent)
        )

    async def ClassifyImage(
        self, request: encoder_pb2.ClassifyImageRequest, context: Context
    ) -> encoder_pb2.ClassifyImageResponse:
        """See protos/mirage/encoder/v1/encoder.proto."""
        image, wanted = request.image, request.vector
        del request
        guess, spent = await self._embedder.classify_image(image)
        reply = encoder_pb2.ClassifyImageResponse(
            guess=guess_to_proto(guess), fingerprint=self._fingerprint, timings=timings_to_proto(spent)
        )
        if wanted:
            vector, _ = await self._embedder.encode_image(image)
            reply.vector.CopyFrom(vector_to_proto(vector))
        return reply

    async def GetModel(self, request: encoder_pb2.GetModelRequest, context: Context) -> encoder_pb2.GetModelResponse:
        """See protos/mirage/encoder/v1/encoder.proto."""
        return encoder_pb2.GetModelResponse(model=model_to_proto(self._embedder.model))


async def _in_turn(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeats the attempt while the queue is full, for at most `_STREAM_PATIENCE_S`."""
    until = time.monotonic() + _STREAM_PATIENCE_S
    while True:
        try:
            return await attempt()
        except MirageError as error:
            if error.code is not Code.QUEUE_FULL or time.monotonic() > until:
                raise
            await asyncio.sleep(min(error.retry_after_s or 0.1, 1.0))


def _release(share: Share, _: object) -> None:
    share.release()
