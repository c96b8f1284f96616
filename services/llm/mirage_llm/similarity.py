"""Similarity in meaning of sentences and captions: cosines of their vectors, from the encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mirage_core import limits, telemetry
from mirage_core.channels import invoke, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.vectors import vector_from_proto
from mirage_inference.llm.request import Caption
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc

SERVICE = "mirage.encoder.v1.EncoderService"
_log = telemetry.get_logger()

Rows = npt.NDArray[np.float32]


class EncoderClient:
    """The encoder at an address; each call within `timeout_s` and the caller's own deadline. `close` it."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        self._channel = open_channel(address, idempotent={SERVICE: ["EncodeText"]})
        self._stub = encoder_pb2_grpc.EncoderServiceStub(self._channel)
        self._timeout_s = timeout_s

    async def texts(self, texts: Sequence[str]) -> Rows:
        """Unit vectors float32 [texts, dimension] of at most 64 texts, in one call; raises MirageError.

        Of a text longer than the encoder's limit the beginning, which holds all that fits into a tower's context.
        """
        request = encoder_pb2.EncodeTextRequest(texts=[text[: limits.TEXT_CHARS] for text in texts])
        reply = await invoke(self._stub.EncodeText, request, timeout_s=self._timeout_s)
        rows = [vector_from_proto(each.vector) for each in reply.embeddings]
        if len(rows) != len(texts) or len({len(row) for row in rows}) != 1:
            raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="encoder")
        return np.stack(rows)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


class EncoderSimilarity:
    """The captions of one description, encoded once while the model reads the prompt, and its sentences as they come.

    After the first failure the encoder is not asked again: a description does not wait twice.
    """

    def __init__(self, client: EncoderClient, captions: Sequence[Caption]) -> None:
        self._client = client
        self._captions = asyncio.create_task(self._encode([caption.text for caption in captions]))
        self.failed = False

    async def cosines(self, sentence: str) -> list[float] | None:
        """Returns a cosine per caption, or None if the encoder does not answer."""
        captions = await self._captions
        row = None if captions is None or self.failed else await self._encode([sentence])
        if captions is None or row is None or captions.shape[1] != row.shape[1]:
            return None
        cosines: list[float] = (captions @ row[0]).tolist()
        return cosines

    async def _encode(self, texts: Sequence[str]) -> Rows | None:
        try:
            return await self._client.texts(texts)
        except MirageError as error:
            self.failed = True
            _log.warning("citations by words alone", code=error.code)
            return None
