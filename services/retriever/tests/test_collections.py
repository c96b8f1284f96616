"""Several collections over real gRPC: made, filled, switched to, removed; and what a crash leaves of them."""

import asyncio
import contextlib
import io
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from mirage_core.channels import invoke, invoke_stream, invoke_upload, open_channel
from mirage_core.errors import Code, MirageError
from mirage_core.vectors import vector_from_proto
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from mirage_protos.v1 import flag_pb2, query_pb2, record_pb2
from mirage_retriever.collections import Collections
from mirage_retriever.engines.base import Collection, Point
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.edge.store import EdgeCollectionStore
from mirage_retriever.engines.qdrant import QdrantEngine
from mirage_retriever.engines.qdrant_nodes import connect
from mirage_retriever.engines.qdrant_store import QdrantCollectionStore
from tests.support.scripted_qdrant import Node

from .conftest import Stub

POLICY = ShardPolicy(restart_wait_s=20, queue_limit=64, build_quiet_s=2, build_share=0.1, build_points=50_000)
FINGERPRINT = "f" * 64


def store(data: Path) -> EdgeCollectionStore:
    return EdgeCollectionStore(
        data, default="atlas", make=lambda path: EdgeEngine(path, facets=("plane",), policy=POLICY)
    )


def point(id_: str) -> Point:
    vector = np.eye(4, dtype=np.float32)[0]
    return Point(id_, vector, vector, "{}", {}, "a" * 64)


async def code_of(call: Awaitable[Any]) -> Code:
    with pytest.raises(MirageError) as caught:
        await call
    return caught.value.code


@contextlib.asynccontextmanager
async def opened(data: Path) -> AsyncIterator[Collections]:
    collections = Collections(store(data), idle_s=0.2)
    await collections.open()
    try:
        yield collections
    finally:
        await collections.close()


async def first_made(data: Path) -> None:
    """A data directory as every version has made it: one collection in `edge/`."""
    engine = EdgeEngine(data / "edge", facets=("plane",), policy=POLICY)
    await engine.open()
    await engine.create(Collection(name="atlas", dimension=4, fingerprint=FINGERPRINT))
    await engine.upsert([point("old")])
    await engine.close()


async def test_a_directory_of_one_collection_opens_as_it_is(tmp_path: Path) -> None:
    await first_made(tmp_path)
    async with opened(tmp_path) as collections:
        assert collections.active.collection.name == "atlas"
        assert (await collections.active.engine.status()).records == 1


async def test_the_active_collection_is_the_same_after_a_restart(tmp_path: Path) -> None:
    await first_made(tmp_path)
    async with opened(tmp_path) as collections:
        await collections.create("next", dimension=4, fingerprint=FINGERPRINT)
        state, previous = await collections.activate("next")
        assert (state.collection.name, state.active, previous) == ("next", True, "atlas")
    async with opened(tmp_path) as collections:
        assert collections.active.collection.name == "next"
        assert [each.collection.name for each in await collections.listed()] == ["atlas", "next"]
        assert await collections.remove("atlas") == 1
        assert not (tmp_path / "edge").exists()
    async with opened(tmp_path) as collections:
        assert [each.collection.name for each in await collections.listed()] == ["next"]


async def test_what_a_crash_left_half_made_or_half_removed_is_gone(tmp_path: Path) -> None:
    await first_made(tmp_path)
    (tmp_path / "collections" / "half" / "shards").mkdir(parents=True)
    (tmp_path / ".removed-gone" / "shards").mkdir(parents=True)
    async with opened(tmp_path) as collections:
        assert [each.collection.name for each in await collections.listed()] == ["atlas"]
        await collections.create("half", dimension=4, fingerprint=FINGERPRINT)
    assert not (tmp_path / ".removed-gone").exists()


async def test_an_active_collection_that_is_lost_leaves_the_first_one(tmp_path: Path) -> None:
    await first_made(tmp_path)
    async with opened(tmp_path) as collections:
        await collections.create("next", dimension=4, fingerprint=FINGERPRINT)
        await collections.activate("next")
    shutil.rmtree(tmp_path / "collections" / "next")
    async with opened(tmp_path) as collections:
        assert collections.active.collection.name == "atlas"


async def test_a_switch_that_the_disk_refuses_changes_nothing(tmp_path: Path) -> None:
    await first_made(tmp_path)
    async with opened(tmp_path) as collections:
        await collections.create("next", dimension=4, fingerprint=FINGERPRINT)
        # A directory in its place is what a rename cannot replace, also for root.
        (tmp_path / "ACTIVE" / "x").mkdir(parents=True)
        assert await code_of(collections.activate("next")) == Code.STORAGE_FULL
        assert collections.active.collection.name == "atlas"


async def test_a_collection_that_nothing_uses_costs_no_process(tmp_path: Path) -> None:
    await first_made(tmp_path)
    async with opened(tmp_path) as collections:
        await collections.create("idle", dimension=4, fingerprint=FINGERPRINT)
        async with collections.use("idle") as atlas:
            engine = atlas.engine
            assert isinstance(engine, EdgeEngine)
            await asyncio.sleep(0.5)
            assert len(engine.searcher_pids) == 1
        end = asyncio.get_running_loop().time() + 20
        while engine.searcher_pids:
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.02)
        async with collections.use("idle") as atlas:
            assert (await atlas.engine.status()).records == 0


async def test_names_and_numbers_are_bounded(tmp_path: Path) -> None:
    await first_made(tmp_path)
    async with opened(tmp_path) as collections:
        for name in ("", "Upper", "../up", "a/b", "a" * 65, "-x", "\N{GREEK SMALL LETTER ALPHA}"):
            assert (
                await code_of(collections.create(name, dimension=4, fingerprint=FINGERPRINT))
                == "COLLECTION_NAME_INVALID"
            )
        for dimension, fingerprint in ((4, ""), (0, FINGERPRINT), (10**6, FINGERPRINT), (4, "short")):
            given = collections.create("x", dimension=dimension, fingerprint=fingerprint)
            assert await code_of(given) == Code.REQUEST_MALFORMED
        assert await code_of(collections.create("x")) == Code.MODEL_NOT_READY
        assert (
            await code_of(collections.create("atlas", dimension=4, fingerprint=FINGERPRINT)) == Code.COLLECTION_EXISTS
        )
        assert await code_of(collections.remove("atlas")) == Code.COLLECTION_ACTIVE
        assert await code_of(collections.activate("none")) == Code.COLLECTION_NOT_FOUND
        for number in range(7):
            (tmp_path / "collections" / f"c{number}").mkdir()
            content = {"collection": {"name": f"c{number}", "dimension": 4, "fingerprint": FINGERPRINT}, "shards": 1}
            (tmp_path / "collections" / f"c{number}" / "collection.json").write_text(json.dumps(content))
        assert await code_of(collections.create("ninth", dimension=4, fingerprint=FINGERPRINT)) == Code.TOO_MANY_ITEMS


async def test_a_second_retriever_on_the_same_data_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(OSError, match="in use by another retriever"):
            store(tmp_path)


@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
async def test_on_a_server_an_alias_names_the_active_one() -> None:
    """On the scripted server: our use of the client, not a server."""
    node = await Node().start()

    def collections_of() -> Collections:
        nodes = connect([node.url], [node.port], collection="atlas")
        return Collections(
            QdrantCollectionStore(
                nodes, default="atlas", make=lambda nodes, name: QdrantEngine(nodes, name=name, facets=("plane",))
            )
        )

    collections, other = collections_of(), collections_of()
    assert not await collections.open()
    await collections.active.make(Collection(name="atlas", dimension=4, fingerprint=FINGERPRINT))
    node.cluster.local.create_collection("foreign", vectors_config={})
    await collections.create("next", dimension=4, fingerprint=FINGERPRINT)
    assert await other.open()
    await collections.activate("next")
    assert other.active.collection.name == "atlas"
    await other.follow()
    assert other.active.collection.name == "next"
    await collections.activate("atlas")
    assert await collections.remove("next") == 0
    assert [each.collection.name for each in await collections.listed()] == ["atlas"]
    assert node.cluster.deleted == ["next"]
    await other.close()
    await collections.close()
    await node.stop()


# Over gRPC, with the real encoder.


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (48, 48), dtype=np.uint8)
    Image.fromarray(pixels).resize((96, 96)).save(buffer, "PNG")
    return buffer.getvalue()


async def upsert(stub: Stub, collection: str, *numbers: int) -> list[record_pb2.UpsertOutcome]:
    async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
        for number in numbers:
            record = record_pb2.Record(
                id=f"r{number:03}", caption=f"Section {number}.", licence="CC0-1.0", source="test"
            )
            head = record_pb2.RecordPart(record=record_pb2.RecordHead(record=record))
            yield retriever_pb2.UpsertRecordsRequest(part=head, collection=collection)
            yield retriever_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=picture(number)))

    return list((await invoke_upload(stub.UpsertRecords, stream(), timeout_s=60)).outcomes)


async def listed(stub: Stub, **fields: Any) -> tuple[list[record_pb2.StoredRecord], str]:
    reply = await invoke(stub.ListRecords, retriever_pb2.ListRecordsRequest(**fields), timeout_s=10)
    return list(reply.records), reply.next_page_token


@pytest.fixture
async def own(encoder: str, tmp_path: Path, services: Callable[..., str]) -> AsyncIterator[Stub]:
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        yield RetrieverServiceStub(channel)


async def test_a_new_collection_is_filled_and_searched_without_a_failure_in_between(own: Stub) -> None:
    await upsert(own, "", *range(6))
    create = retriever_pb2.CreateCollectionRequest(name="next")
    made = (await invoke(own.CreateCollection, create, timeout_s=20)).collection
    assert (made.name, made.active, made.records) == ("next", False, 0)
    query = query_pb2.Query(terms=[query_pb2.Term(text="section")], k=3)
    seen: set[int] = set()
    stop = asyncio.Event()

    async def hammer() -> int:
        count = 0
        while not stop.is_set():
            reply = (await invoke(own.Search, retriever_pb2.SearchRequest(query=query), timeout_s=20)).reply
            names = {result.record.id for result in reply.results}
            # One collection or the other, never a mixture.
            assert names <= {f"r{n:03}" for n in range(6)} or names <= {f"r{n:03}" for n in range(100, 106)}
            seen.add(100 if "r10" in " ".join(names) else 0)
            count += 1
        return count

    hammers = [asyncio.create_task(hammer()) for _ in range(4)]
    assert {outcome.state for outcome in await upsert(own, "next", *range(100, 106))} == {
        record_pb2.UPSERT_STATE_CREATED
    }
    activate = retriever_pb2.ActivateCollectionRequest(name="next")
    assert (await invoke(own.ActivateCollection, activate, timeout_s=20)).previous == "atlas"
    reply = (await invoke(own.Search, retriever_pb2.SearchRequest(query=query), timeout_s=20)).reply
    assert {result.record.id for result in reply.results} <= {f"r{n:03}" for n in range(100, 106)}
    stop.set()
    assert sum(await asyncio.gather(*hammers)) > 10
    assert seen == {0, 100}
    states = (await invoke(own.ListCollections, retriever_pb2.ListCollectionsRequest(), timeout_s=20)).collections
    assert [(state.name, state.active, state.records) for state in states] == [("atlas", False, 6), ("next", True, 6)]


async def test_an_image_that_another_collection_shows_stays(own: Stub) -> None:
    await upsert(own, "", 1)
    await invoke(own.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=20)
    await upsert(own, "next", 1)
    await invoke(own.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["r001"]), timeout_s=20)
    activate = retriever_pb2.ActivateCollectionRequest(name="next")
    await invoke(own.ActivateCollection, activate, timeout_s=20)
    request = retriever_pb2.GetImageRequest(id="r001")
    received = b"".join([reply.part.chunk async for reply in own.GetImage(request)])
    shown, sent = (Image.open(io.BytesIO(data)).convert("RGB") for data in (received, picture(1)))
    assert shown.tobytes() == sent.tobytes()


async def test_records_are_walked_once_each_with_vectors_that_go_back_in(own: Stub) -> None:
    await upsert(own, "", *range(10))
    walked: list[record_pb2.StoredRecord] = []
    token = ""
    while True:
        page, token = await listed(own, page_size=3, page_token=token, vectors=True)
        assert len(page) <= 3
        walked += page
        if not token:
            break
    assert sorted(each.record.id for each in walked) == [f"r{n:03}" for n in range(10)]
    assert all(abs(np.linalg.norm(vector_from_proto(each.image_vector)) - 1) < 1e-3 for each in walked)
    plain, token = await listed(own)
    assert len(plain) == 10
    assert not plain[0].HasField("image_vector")


async def test_a_walk_of_another_collection_or_none_is_refused(own: Stub) -> None:
    await upsert(own, "", *range(4))
    await invoke(own.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=20)
    _, token = await listed(own, page_size=2)
    assert await code_of(listed(own, page_size=2, page_token=token, collection="next")) == Code.PAGE_TOKEN_INVALID
    for bad in ("x", "A" * 300, token[:-1], "////"):
        assert await code_of(listed(own, page_token=bad)) == Code.PAGE_TOKEN_INVALID
    assert await code_of(listed(own, collection="none")) == Code.COLLECTION_NOT_FOUND
    assert await code_of(listed(own, page_size=1001)) == Code.K_OUT_OF_RANGE


async def test_every_call_about_records_takes_a_collection(own: Stub) -> None:
    await upsert(own, "", 1)
    await invoke(own.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=120)
    await upsert(own, "next", 2, 3)

    async def search(collection: str, **terms: Any) -> list[record_pb2.Record]:
        query = query_pb2.Query(terms=[query_pb2.Term(**terms)], collection=collection)
        reply = (await invoke(own.Search, retriever_pb2.SearchRequest(query=query), timeout_s=120)).reply
        return [each.record for each in reply.results]

    assert sorted((each.id, each.collection) for each in await search("next", text="picture")) == [
        ("r002", "next"),
        ("r003", "next"),
    ]
    assert [(each.id, each.collection) for each in await search("", text="picture")] == [("r001", "")]
    base = query_pb2.Query(terms=[query_pb2.Term(id="r002")], collection="next")
    request = retriever_pb2.CompareRequest(base=base, shift=[query_pb2.Term(id="r003")])
    compared = await invoke(own.Compare, request, timeout_s=120)
    assert {each.record.id for each in compared.shifted.results} == {"r002", "r003"}
    found = await invoke(own.GetRecord, retriever_pb2.GetRecordRequest(id="r002", collection="next"), timeout_s=120)
    assert (found.record.id, found.record.collection) == ("r002", "next")
    image = retriever_pb2.GetImageRequest(id="r002", collection="next")
    assert [part async for part in invoke_stream(own.GetImage, image, timeout_s=120)]
    facets = await invoke(own.ListFacets, retriever_pb2.ListFacetsRequest(collection="next"), timeout_s=120)
    assert {value.count for facet in facets.facets for value in facet.values} == {2}
    flag = retriever_pb2.FlagRecordRequest(record_id="r002", reason=flag_pb2.FLAG_REASON_OTHER, collection="next")
    assert (await invoke(own.FlagRecord, flag, timeout_s=120)).flag.record_id == "r002"
    delete = retriever_pb2.DeleteRecordsRequest(ids=["r001", "r003"], collection="next")
    assert (await invoke(own.DeleteRecords, delete, timeout_s=120)).deleted == 1
    assert [each.id for each in await search("", text="picture")] == ["r001"]
    described = await invoke(own.GetCollection, retriever_pb2.GetCollectionRequest(name="next"), timeout_s=120)
    assert (described.collection.name, described.collection.active, described.collection.records) == ("next", False, 1)


async def test_a_collection_that_is_not_there_is_refused_with_the_names_of_the_others(own: Stub) -> None:
    await upsert(own, "", 1)
    await invoke(own.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=120)
    query = query_pb2.Query(terms=[query_pb2.Term(id="r001")], collection="none")
    calls: tuple[tuple[Any, Any], ...] = (
        (own.Search, retriever_pb2.SearchRequest(query=query)),
        (own.Compare, retriever_pb2.CompareRequest(base=query, shift=query.terms)),
        (own.GetRecord, retriever_pb2.GetRecordRequest(id="r001", collection="none")),
        (own.ListFacets, retriever_pb2.ListFacetsRequest(collection="none")),
        (own.ListCommonQueries, retriever_pb2.ListCommonQueriesRequest(collection="none")),
        (own.GetCollection, retriever_pb2.GetCollectionRequest(name="none")),
        (own.FlagRecord, retriever_pb2.FlagRecordRequest(record_id="r001", collection="none")),
        (own.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["r001"], collection="none")),
    )
    for method, request in calls:
        with pytest.raises(MirageError) as caught:
            await invoke(method, request, timeout_s=120)
        assert caught.value.code is Code.COLLECTION_NOT_FOUND
        assert caught.value.metadata == {"name": "none", "known": "atlas, next"}


async def test_a_collection_of_another_model_says_why_it_cannot_be_compared_with_a_text(own: Stub) -> None:
    make = retriever_pb2.CreateCollectionRequest(name="other", dimension=4, fingerprint=FINGERPRINT)
    await invoke(own.CreateCollection, make, timeout_s=120)
    query = query_pb2.Query(terms=[query_pb2.Term(text="axial")], collection="other")
    with pytest.raises(MirageError) as caught:
        await invoke(own.Search, retriever_pb2.SearchRequest(query=query), timeout_s=120)
    assert caught.value.code is Code.FINGERPRINT_MISMATCH
    assert caught.value.metadata["expected"] == FINGERPRINT
    # What needs no model is answered.
    assert await listed(own, collection="other") == ([], "")


async def test_a_look_up_tells_records_and_others_with_the_same_image(own: Stub) -> None:
    await upsert(own, "", 1, 2)
    there, _ = await listed(own)
    digests = {each.record.id: each.record.image_sha256 for each in there}
    keys = [
        record_pb2.RecordKey(id="r001", image_sha256=digests["r001"]),
        record_pb2.RecordKey(id="copy", image_sha256=digests["r002"]),
        record_pb2.RecordKey(id="r002"),
        record_pb2.RecordKey(id="none", image_sha256="0" * 64),
    ]
    reply = await invoke(own.LookupRecords, retriever_pb2.LookupRecordsRequest(keys=keys), timeout_s=10)
    assert [(each.id, each.HasField("record"), list(each.same_image_ids)) for each in reply.records] == [
        ("r001", True, []),
        ("copy", False, ["r002"]),
        ("r002", True, []),
        ("none", False, []),
    ]
    for keys, code in (
        ([], Code.TOO_MANY_ITEMS),
        ([record_pb2.RecordKey(id="a")] * 1001, Code.TOO_MANY_ITEMS),
        ([record_pb2.RecordKey(id="../x")], Code.ID_INVALID),
        ([record_pb2.RecordKey(id="a", image_sha256="zz")], Code.REQUEST_MALFORMED),
    ):
        request = retriever_pb2.LookupRecordsRequest(keys=keys)
        assert await code_of(invoke(own.LookupRecords, request, timeout_s=10)) == code


async def test_a_retriever_killed_amid_switches_comes_back_with_one_of_them(
    encoder: str, tmp_path: Path, services: Callable[..., str]
) -> None:
    names = ("atlas", "next")
    for round_ in range(3):
        address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
        async with open_channel(address, idempotent={}) as channel:
            # gRPC keeps what it knows of an address for all channels of a process: until its next try the one killed is still it.
            await asyncio.wait_for(channel.channel_ready(), 30)
            stub = RetrieverServiceStub(channel)
            if not round_:
                await upsert(stub, "", *range(3))
                await invoke(stub.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=20)
                await upsert(stub, "next", *range(3))
            # A kill amid the writing of the name leaves a part of it, until the next start.
            assert not list((tmp_path / "data").glob(".ACTIVE*"))
            states = await invoke(stub.ListCollections, retriever_pb2.ListCollectionsRequest(), timeout_s=20)
            assert [(each.name, each.records) for each in states.collections] == [("atlas", 3), ("next", 3)]
            assert sum(each.active for each in states.collections) == 1
            killer = asyncio.create_task(kill_later(address, 0.05 + 0.1 * round_))
            with contextlib.suppress(MirageError):
                for number in itertools.count():
                    request = retriever_pb2.ActivateCollectionRequest(name=names[number % 2])
                    await invoke(stub.ActivateCollection, request, timeout_s=5)
            await killer
        # What was acknowledged last, or the switch after it, whose acknowledgement died on the way: with two, either.
        assert (tmp_path / "data" / "ACTIVE").read_text().strip() in names


async def kill_later(address: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    for process in psutil.process_iter(["cmdline", "environ"]):
        is_one = "mirage_retriever" in (process.info["cmdline"] or [])
        if is_one and (process.info["environ"] or {}).get("MIRAGE_RETRIEVER_HOST") == address:
            process.kill()
            process.wait(10)
