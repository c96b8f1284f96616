"""A disk that takes no more: what does not fit is refused, what is there stays, and it goes on once there is space.

The kernel plays the disk: a limit on the size of files that the retriever's process may write.
"""

import errno
import io
import resource
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from mirage_core.channels import invoke, invoke_upload, open_channel
from mirage_core.errors import Code, MirageError
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from mirage_protos.v1 import query_pb2, record_pb2
from mirage_retriever.engines.edge.builder import is_full

from .conftest import Stub


def picture(side: int) -> bytes:
    pixels = np.random.default_rng(side).integers(0, 255, (side, side), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


async def store(stub: Stub, id_: str, image: bytes) -> "record_pb2.UpsertState.ValueType":
    async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
        record = record_pb2.Record(id=id_, caption=id_, licence="CC0-1.0", source="test")
        yield retriever_pb2.UpsertRecordsRequest(
            part=record_pb2.RecordPart(record=record_pb2.RecordHead(record=record))
        )
        yield retriever_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=image))

    [outcome] = (await invoke_upload(stub.UpsertRecords, stream(), timeout_s=60)).outcomes
    return outcome.state


def limit_files(address: str, size: int) -> None:
    """Lets the retriever behind a socket write files of at most that many bytes from now on; its searcher is let be."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        is_one = "mirage_retriever" in (process.info["cmdline"] or [])
        if is_one and (process.info["environ"] or {}).get("MIRAGE_RETRIEVER_HOST") == address:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            return
    raise AssertionError("no such retriever")


async def test_what_does_not_fit_is_refused_and_nothing_is_lost(
    encoder: str, tmp_path: Path, services: Callable[..., str]
) -> None:
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        stub = RetrieverServiceStub(channel)
        assert await store(stub, "small", picture(64)) == record_pb2.UPSERT_STATE_CREATED
        limit_files(address, 20_000)
        with pytest.raises(MirageError) as caught:
            await store(stub, "large", picture(256))
        assert caught.value.code == Code.STORAGE_FULL
        query = retriever_pb2.SearchRequest(query=query_pb2.Query(terms=[query_pb2.Term(id="small")]))
        reply = (await invoke(stub.Search, query, timeout_s=10)).reply
        assert [result.record.id for result in reply.results] == ["small"]
        assert not list((tmp_path / "data").rglob("*.new"))
        limit_files(address, resource.RLIM_INFINITY)
        assert await store(stub, "large", picture(256)) == record_pb2.UPSERT_STATE_CREATED
        status = await invoke(stub.GetCollection, retriever_pb2.GetCollectionRequest(), timeout_s=10)
        assert status.collection.records == 2


async def test_a_collection_that_does_not_fit_is_refused_and_made_later(
    encoder: str, tmp_path: Path, services: Callable[..., str]
) -> None:
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        stub = RetrieverServiceStub(channel)
        create = retriever_pb2.CreateCollectionRequest(name="next")
        limit_files(address, 20_000)
        with pytest.raises(MirageError) as caught:
            await invoke(stub.CreateCollection, create, timeout_s=60)
        assert caught.value.code == Code.STORAGE_FULL
        listed = await invoke(stub.ListCollections, retriever_pb2.ListCollectionsRequest(), timeout_s=10)
        assert [each.name for each in listed.collections] == ["atlas"]
        limit_files(address, resource.RLIM_INFINITY)
        made = await invoke(stub.CreateCollection, create, timeout_s=60)
        assert (made.collection.name, made.collection.records) == ("next", 0)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EACCES, "not yours"), False),
        (Exception("Service runtime error: can't init WAL: No space left on device (os error 28)"), True),
        (Exception('failed to open WAL: Os { code: 122, kind: QuotaExceeded, message: "Quota exceeded" }'), True),
        (Exception("Permission denied (os error 13)"), False),
        (Exception("1228 points were expected"), False),
    ],
)
def test_a_builder_tells_a_full_disk_from_other_failures(error: Exception, full: bool) -> None:
    assert is_full(error) is full
