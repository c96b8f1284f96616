"""Whole retriever processes on the scripted Qdrant server, with the real encoder: starts, freezes and returns."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mirage_core.channels import invoke, invoke_upload, open_channel
from mirage_core.errors import Code, MirageError
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from mirage_protos.v1 import query_pb2, record_pb2
from tests.support.scripted_qdrant import Node
from tests.support.waiting import until_async as until

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
SERVING = health_pb2.HealthCheckResponse.SERVING
Start = Callable[..., str]


@pytest.fixture
async def server() -> AsyncIterator[Node]:
    node = await Node().start()
    yield node
    await node.stop()


async def serves(channel: grpc.aio.Channel) -> bool:
    try:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    except grpc.aio.AioRpcError:
        return False
    return bool(reply.status == SERVING)


async def store(channel: grpc.aio.Channel, id_: str, image: bytes) -> None:
    async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
        record = record_pb2.Record(id=id_, caption=f"Section {id_}.", licence="CC0-1.0", source="test")
        yield retriever_pb2.UpsertRecordsRequest(
            part=record_pb2.RecordPart(record=record_pb2.RecordHead(record=record))
        )
        yield retriever_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=image))

    [outcome] = (await invoke_upload(RetrieverServiceStub(channel).UpsertRecords, stream(), timeout_s=60)).outcomes
    assert outcome.state == record_pb2.UPSERT_STATE_CREATED


async def found(channel: grpc.aio.Channel, id_: str) -> list[str]:
    query = retriever_pb2.SearchRequest(query=query_pb2.Query(terms=[query_pb2.Term(id=id_)]))
    reply = await invoke(RetrieverServiceStub(channel).Search, query, timeout_s=60)
    return sorted(result.record.id for result in reply.reply.results)


def settings(server: Node, encoder: str, data: Path) -> dict[str, Any]:
    return {"encoder": encoder, "data": data, "engine": "qdrant", "qdrant_url": server.url}


async def test_retrievers_that_start_together_on_an_empty_server_lose_nothing(
    server: Node, encoder: str, tmp_path: Path, starting: Start, png: bytes
) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    server.cluster.may_appear.clear()
    addresses = [
        starting("mirage_retriever", folder, **settings(server, encoder, tmp_path / "data")) for folder in folders
    ]
    channels = [open_channel(address, idempotent={}) for address in addresses]

    async def both_create() -> bool:
        return server.calls.count("Create") == 2

    # Neither knows of the other: each has asked the server to make the collection.
    await until(both_create)
    server.cluster.may_appear.set()
    for number, channel in enumerate(channels):
        await until(partial(serves, channel))
        await store(channel, f"r{number}", png)
    assert [await found(channel, "r0") for channel in channels] == [["r0", "r1"]] * 2
    assert server.cluster.made == ["atlas"]
    assert server.cluster.deleted == []
    for channel in channels:
        await channel.close()


async def test_health_follows_the_server_and_calls_say_why(
    server: Node, encoder: str, tmp_path: Path, starting: Start, png: bytes
) -> None:
    await server.stop()
    address = starting("mirage_retriever", tmp_path, **settings(server, encoder, tmp_path / "data"))
    log = tmp_path / "mirage_retriever.log"
    async with open_channel(address, idempotent={}) as channel:

        async def refused() -> bool:
            return "connection refused" in log.read_text()

        # A retriever whose server is away does not end: it waits, and says for what.
        await until(refused)
        assert not await serves(channel)
        await server.start()
        await until(lambda: serves(channel))
        await store(channel, "r", png)
        server.freeze()
        with pytest.raises(MirageError) as caught:
            await found(channel, "r")
        assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
        assert str(server.port) not in str(caught.value)

        async def silent() -> bool:
            return not await serves(channel)

        await until(silent)
        server.thaw()
        await until(lambda: serves(channel))
        assert await found(channel, "r") == ["r"]
    lines = [line for line in log.read_text().splitlines() if "qdrant does not answer" in line]
    assert [reason for reason in ("connection refused", "timeout") if any(f'"{reason}"' in line for line in lines)] == [
        "connection refused",
        "timeout",
    ]
    assert all(f"localhost:{server.port}" in line for line in lines)
