"""Calls of the encoder and the retriever: how many readings make at once."""

import asyncio
from typing import Any

import grpc
import pytest

from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_reader.atlas import Subject
from mirage_reader.clients import GrpcAtlas
from mirage_reader.context import ContextSource
from mirage_reader.events import Done
from mirage_reader.reader import Query, Reader
from tests.support.servicers import partial_servicer

from .conftest import Script, collect
from .test_reader import pneumonia_and_others


class Crowd(Script):
    """Counts its searches and counts of labels at once. Each takes as long as another call of the same server."""

    address = ""
    running = 0
    most = 0

    async def Search(self, request: Any, context: Any) -> Any:
        await self._stay()
        return await super().Search(request, context)

    async def ListFacets(self, request: Any, context: Any) -> Any:
        await self._stay()
        return await super().ListFacets(request, context)

    async def _stay(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
            await stub.GetCollection(retriever_pb2.GetCollectionRequest())
        self.running -= 1


@pytest.fixture
def script() -> Crowd:
    return partial_servicer(Crowd, records=pneumonia_and_others())


@pytest.mark.parametrize(("calls", "at_once"), [(1, {1}), (2, {2}), (64, {2, 3, 4, 5, 6, 7, 8})])
async def test_readings_share_the_calls_that_they_may_make_at_once(
    peers: str, script: Crowd, calls: int, at_once: set[int]
) -> None:
    script.address = peers
    atlas = GrpcAtlas(encoder=peers, retriever=peers, timeout_s=30, calls=calls)
    reader = Reader(atlas, ContextSource(), medical=lambda _, __: True)
    found = await asyncio.gather(*(collect(reader, Query(Subject(image=b"an image"))) for _ in range(4)))
    await atlas.close()
    assert all(isinstance(events[-1], Done) for events in found)
    assert script.most in at_once
