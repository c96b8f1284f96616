"""The encoder as the describer sees it: a real gRPC server that answers, and none."""

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest

from mirage_core.vectors import vector_to_proto
from mirage_inference.llm.request import Caption
from mirage_llm.similarity import EncoderClient, EncoderSimilarity
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc

CAPTIONS = (Caption("a", "axial"), Caption("b", "x" * 5000))


class Encoder(encoder_pb2_grpc.EncoderServiceServicer):
    """Gives [1, 0] for a text with an `a` in it and [0, 1] for others; counts its calls."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    async def EncodeText(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802 -- the contract names it
        self.texts.append(list(request.texts))
        vectors = [[1.0, 0.0] if "a" in text else [0.0, 1.0] for text in request.texts]
        return encoder_pb2.EncodeTextResponse(
            embeddings=[
                encoder_pb2.TextEmbedding(vector=vector_to_proto(np.array(vector, np.float32))) for vector in vectors
            ]
        )


@pytest.fixture
async def served() -> AsyncIterator[tuple[Encoder, EncoderClient]]:
    encoder, server = Encoder(), grpc.aio.server()
    encoder_pb2_grpc.add_EncoderServiceServicer_to_server(encoder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = EncoderClient(f"127.0.0.1:{port}", timeout_s=30)
    yield encoder, client
    await client.close()
    await server.stop(None)


async def test_captions_are_encoded_once_in_one_call(served: tuple[Encoder, EncoderClient]) -> None:
    encoder, client = served
    similarity = EncoderSimilarity(client, CAPTIONS)
    assert await similarity.cosines("an a") == [1.0, 0.0]
    assert await similarity.cosines("other") == [0.0, 1.0]
    assert [len(texts) for texts in encoder.texts] == [2, 1, 1]
    assert max(len(text) for texts in encoder.texts for text in texts) == 2000
    assert not similarity.failed


async def test_an_encoder_that_is_not_there_is_asked_once() -> None:
    client = EncoderClient("127.0.0.1:1", timeout_s=0.2)
    similarity = EncoderSimilarity(client, CAPTIONS)
    assert await similarity.cosines("a sentence") is None
    assert similarity.failed
    assert await similarity.cosines("another") is None
    await client.close()
