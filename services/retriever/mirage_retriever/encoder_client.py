"""The encoder over gRPC, as terms.TermEncoder."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from mirage_core import limits
from mirage_core.channels import invoke, invoke_exchange, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.liveness import Liveness
from mirage_core.rpc_errors import problem_from_proto
from mirage_core.vectors import vector_from_proto
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_retriever.terms import Encoded, EncoderModel

SERVICE = "mirage.encoder.v1.EncoderService"
_RETRY_FULL = 30


class EncoderClient:
    """Calls the encoder at `address`; each call within `timeout_s` and the caller's own deadline.

    A call to an encoder that hangs ends with DEPENDENCY_UNAVAILABLE after a few seconds.
    """

    def __init__(self, address: str, *, timeout_s: float) -> None:
        self._channel = open_channel(address, idempotent={SERVICE: ["EncodeText", "EncodeImage", "GetModel"]})
        self._stub = encoder_pb2_grpc.EncoderServiceStub(self._channel)
        self._alive = Liveness(self._channel, service="encoder")
        self._timeout_s = timeout_s

    async def model(self) -> EncoderModel:
        """The bundle that is loaded."""
        reply = await invoke(self._stub.GetModel, encoder_pb2.GetModelRequest(), timeout_s=self._timeout_s)
        model = reply.model
        return EncoderModel(model.name, model.fingerprint, model.dimension, model.manifest_json)

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        """One answer a text, in requests of at most 64."""
        answers: list[Encoded] = []
        for start in range(0, len(texts), limits.TEXTS_MAX):
            request = encoder_pb2.EncodeTextRequest(texts=texts[start : start + limits.TEXTS_MAX])
            async with self._alive.needed():
                reply = await invoke(self._stub.EncodeText, request, timeout_s=self._timeout_s)
            answers += [
                Encoded(
                    vector_from_proto(embedding.vector),
                    reply.fingerprint,
                    embedding.tokens,
                    embedding.truncated,
                    reply.timings.queue_ms,
                    reply.timings.inference_ms,
                )
                for embedding in reply.embeddings
            ]
        return answers

    async def image(self, data: bytes) -> Encoded:
        """The answer for one image file."""
        request = encoder_pb2.EncodeImageRequest(image=data)
        async with self._alive.needed():
            reply = await invoke(self._stub.EncodeImage, request, timeout_s=self._timeout_s)
        return Encoded(
            vector_from_proto(reply.vector),
            reply.fingerprint,
            queue_ms=reply.timings.queue_ms,
            inference_ms=reply.timings.inference_ms,
        )

    async def images(self, files: Sequence[bytes]) -> list[Encoded | MirageError]:
        """Returns one answer a file, over one stream. Files that the encoder refused because its queue was full are
        sent again after a while.
        """
        answers: dict[int, Encoded | MirageError] = {}
        waiting = list(range(len(files)))
        for attempt in range(_RETRY_FULL):
            async with self._alive.needed():
                answers |= {number: answer async for number, answer in self._stream(files, waiting)}
            waiting = [number for number in waiting if _is_full(answers.get(number))]
            if not waiting:
                break
            await asyncio.sleep(min(2.0, 0.1 * 2**attempt))
        return [answers.get(number, MirageError(Code.MODEL_FAILED)) for number in range(len(files))]

    async def _stream(
        self, files: Sequence[bytes], numbers: Sequence[int]
    ) -> AsyncIterator[tuple[int, Encoded | MirageError]]:
        async def requests() -> AsyncIterator[encoder_pb2.EncodeImagesRequest]:
            for number in numbers:
                yield encoder_pb2.EncodeImagesRequest(key=str(number), image=files[number])

        # A full-size model takes seconds an image, so the time grows with their number.
        timeout_s = self._timeout_s * (1 + len(numbers))
        async for reply in invoke_exchange(self._stub.EncodeImages, requests(), timeout_s=timeout_s):
            if reply.WhichOneof("outcome") == "error":
                yield int(reply.key), problem_from_proto(reply.error)
            else:
                yield int(reply.key), Encoded(vector_from_proto(reply.vector), reply.fingerprint)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


def _is_full(answer: Encoded | MirageError | None) -> bool:
    return isinstance(answer, MirageError) and answer.code is Code.QUEUE_FULL
