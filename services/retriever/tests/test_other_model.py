"""A collection that another model than the encoder's made, and an encoder that is away."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirage_core.channels import invoke, invoke_upload, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.vectors import vector_to_proto
from mirage_protos.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from mirage_protos.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from mirage_protos.v1 import query_pb2, record_pb2
from mirage_retriever.engines.base import Collection, Point
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES
from mirage_retriever.records import Record

from .conftest import Stub

POLICY = ShardPolicy(restart_wait_s=20, queue_limit=64, build_quiet_s=2, build_share=0.1, build_points=50_000)
OTHER = "0" * 64


@pytest.fixture
async def dimension(encoder: str) -> int:
    async with open_channel(encoder, idempotent={}) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        reply = await invoke(stub.GetModel, encoder_pb2.GetModelRequest(), timeout_s=10)
    return reply.model.dimension


async def make_collection(data: Path, dimension: int, *, records: int) -> None:
    engine = EdgeEngine(data / "edge", facets=NAMES, policy=POLICY)
    await engine.open()
    await engine.create(Collection(name="atlas", dimension=dimension, fingerprint=OTHER))
    vectors = np.eye(dimension, dtype=np.float32)
    record = Record(id="kept", caption="kept", licence="CC0-1.0", source="test")
    await engine.upsert(
        [Point("kept", vectors[0], vectors[1], record.to_json(), record.facets(), "a" * 64) for _ in range(records)]
    )
    await engine.close()


async def code_of(call: Awaitable[Any]) -> Code:
    with pytest.raises(MirageError) as caught:
        await call
    return caught.value.code


def asked(*terms: query_pb2.Term) -> retriever_pb2.SearchRequest:
    return retriever_pb2.SearchRequest(query=query_pb2.Query(terms=terms))


async def new_record(stub: Stub, image: bytes) -> retriever_pb2.UpsertRecordsResponse:
    async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
        record = record_pb2.Record(id="new", caption="new", licence="CC0-1.0", source="test")
        for part in (
            record_pb2.RecordPart(record=record_pb2.RecordHead(record=record)),
            record_pb2.RecordPart(image_chunk=image),
        ):
            yield retriever_pb2.UpsertRecordsRequest(part=part)

    return await invoke_upload(stub.UpsertRecords, stream(), timeout_s=20)


async def test_queries_that_need_the_encoder_are_refused_and_the_others_answered(
    encoder: str, dimension: int, tmp_path: Path, services: Callable[..., str], png: bytes
) -> None:
    await make_collection(tmp_path / "data", dimension, records=1)
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        for term in (query_pb2.Term(text="axial"), query_pb2.Term(image=png)):
            assert await code_of(invoke(stub.Search, asked(term), timeout_s=20)) is Code.FINGERPRINT_MISMATCH
        assert await code_of(new_record(stub, png)) is Code.FINGERPRINT_MISMATCH
        vector = vector_to_proto(np.eye(dimension)[0])
        for term in (query_pb2.Term(id="kept"), query_pb2.Term(vector=vector)):
            reply = await invoke(stub.Search, asked(term), timeout_s=20)
            assert [result.record.id for result in reply.reply.results] == ["kept"]
            assert reply.reply.fingerprint == OTHER


async def test_an_empty_collection_takes_the_new_model(
    encoder: str, dimension: int, tmp_path: Path, services: Callable[..., str], png: bytes
) -> None:
    await make_collection(tmp_path / "data", dimension, records=0)
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        reply = await new_record(stub, png)
        assert reply.outcomes[0].state == record_pb2.UPSERT_STATE_CREATED
        assert (await invoke(stub.Search, asked(query_pb2.Term(text="axial")), timeout_s=20)).reply.fingerprint != OTHER


async def test_without_an_encoder_what_is_stored_can_be_searched(
    dimension: int, tmp_path: Path, services: Callable[..., str], png: bytes
) -> None:
    await make_collection(tmp_path / "data", dimension, records=1)
    address = services("mirage_retriever", tmp_path, encoder=f"unix:{tmp_path}/nobody", data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        reply = await invoke(stub.Search, asked(query_pb2.Term(id="kept")), timeout_s=20)
        assert [result.record.id for result in reply.reply.results] == ["kept"]
        assert (
            await code_of(invoke(stub.Search, asked(query_pb2.Term(text="a")), timeout_s=20))
            is Code.DEPENDENCY_UNAVAILABLE
        )
        assert await code_of(new_record(stub, png)) is Code.DEPENDENCY_UNAVAILABLE
