"""The server engine when the server is new, shared, slow, frozen, dead, closed to us, or one of several.

On the scripted server, over real connections: what a Qdrant itself does in these states was seen by hand (docs/benchmarks.md).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import structlog

from mirage_core import context
from mirage_core.addresses import read_ports, read_urls
from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.collections import Collections
from mirage_retriever.engines.base import CASE, DIGESTS, FORMS, ORDERS, WORD_IDS, Collection, Nearest, Point, Space
from mirage_retriever.engines.qdrant import QdrantEngine
from mirage_retriever.engines.qdrant_nodes import Nodes, Pace, connect
from mirage_retriever.engines.qdrant_store import QdrantCollectionStore
from mirage_retriever.terms import EncoderModel
from tests.support.certificates import self_signed
from tests.support.scripted_qdrant import Cluster, Node
from tests.support.waiting import until_async as until

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

COLLECTION = Collection(name="atlas", dimension=4, fingerprint="f" * 64)
VECTOR = np.eye(4, dtype=np.float32)[0]
FACETS = ("plane", "modality")
PACE = Pace(ask_s=0.05, ask_away_s=0.05, patience_s=0.3)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def started(stack: AsyncExitStack, cluster: Cluster | None = None, **options: Any) -> Node:
    node = await Node(cluster, **options).start()
    stack.push_async_callback(node.stop)
    return node


def nodes_of(stack: AsyncExitStack, *servers: Node, **options: Any) -> Nodes:
    options = {"collection": "atlas", "pace": PACE, **options}
    nodes = connect([server.url for server in servers], [server.port for server in servers], **options)
    stack.push_async_callback(nodes.close)
    return nodes


def engine_of(stack: AsyncExitStack, *servers: Node, **options: Any) -> QdrantEngine:
    return QdrantEngine(nodes_of(stack, *servers, **options), name="atlas", facets=FACETS)


def point(id_: str) -> Point:
    return Point(id_, VECTOR, VECTOR, "{}", {"plane": ("axial",)}, "a" * 64)


async def found(engine: QdrantEngine) -> list[str]:
    [hits] = await engine.search([Nearest(VECTOR, Space.IMAGE, 10)])
    return [hit.id for hit in hits]


async def code_of(call: Awaitable[Any]) -> Code:
    with pytest.raises(MirageError) as caught:
        await call
    return caught.value.code


def said(logs: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [each for each in logs if each["event"] == event]


# A collection that others may be making.


async def test_two_retrievers_that_start_on_an_empty_server_share_one_collection(stack: AsyncExitStack) -> None:
    server = await started(stack)
    first, second = engine_of(stack, server), engine_of(stack, server)
    assert await first.open() is await second.open() is None
    server.cluster.may_appear.clear()
    making = [asyncio.create_task(engine.create(COLLECTION)) for engine in (first, second)]
    await until(lambda: server.calls.count("Create") == 2)
    server.cluster.may_appear.set()
    await asyncio.gather(*making)
    await first.upsert([point("a")])
    await second.upsert([point("b")])
    assert sorted(await found(first)) == sorted(await found(second)) == ["a", "b"]
    assert server.cluster.made == ["atlas"]
    assert server.cluster.deleted == []


async def test_what_is_acknowledged_while_another_retriever_starts_stays(stack: AsyncExitStack) -> None:
    server = await started(stack)
    first, late = engine_of(stack, server), engine_of(stack, server)
    assert await late.open() is None
    await first.create(COLLECTION)
    await first.upsert([point("a")])
    await late.create(COLLECTION)
    assert await found(late) == ["a"]
    assert server.cluster.deleted == []


async def test_a_collection_that_another_makes_is_used_once_it_is_green(stack: AsyncExitStack) -> None:
    server = await started(stack)
    first, second = engine_of(stack, server), engine_of(stack, server)
    assert await second.open() is None
    server.cluster.may_be_green.clear()
    making = [asyncio.create_task(engine.create(COLLECTION)) for engine in (first, second)]
    await until(lambda: server.calls.count("Get") > 4)
    assert not any(task.done() for task in making)
    server.cluster.may_be_green.set()
    await asyncio.gather(*making)
    assert await found(second) == []


async def test_an_answer_that_was_lost_does_not_make_a_collection_twice(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server)
    server.after["Create"] = (grpc.StatusCode.INTERNAL, "the peer has left")
    await engine.create(COLLECTION)
    assert server.cluster.made == ["atlas"]
    assert await engine.open() == COLLECTION


@pytest.mark.parametrize("other", [{"dimension": 8}, {"fingerprint": "e" * 64}])
async def test_of_two_retrievers_with_different_models_neither_deletes_the_others_collection(
    stack: AsyncExitStack, other: dict[str, Any]
) -> None:
    server = await started(stack)
    same: dict[str, Any] = {"name": "atlas", "dimension": 4, "fingerprint": "f" * 64}
    models = [
        EncoderModel(name="test", fingerprint=each.fingerprint, dimension=each.dimension, manifest_json="{}")
        for each in (COLLECTION, Collection(**same | other))
    ]
    atlases = [Atlas(engine_of(stack, server), name="atlas") for _ in models]
    assert [await atlas.open() for atlas in atlases] == [False, False]
    server.cluster.may_appear.clear()
    adopting = [asyncio.create_task(atlas.adopt(model)) for atlas, model in zip(atlases, models, strict=True)]
    await until(lambda: server.calls.count("Create") == 2)
    server.cluster.may_appear.set()
    await asyncio.gather(*adopting)
    # Both know the one that was made first; the other model's queries are refused one by one.
    assert atlases[0].collection == atlases[1].collection
    assert server.cluster.made == ["atlas"]
    assert server.cluster.deleted == []


async def test_a_creation_that_fails_leaves_the_collection_of_another_retriever(stack: AsyncExitStack) -> None:
    server = await started(stack)

    def collections_of() -> Collections:
        def make(nodes: Nodes, name: str) -> QdrantEngine:
            return QdrantEngine(nodes, name=name, facets=FACETS)

        return Collections(QdrantCollectionStore(nodes_of(stack, server), default="atlas", make=make))

    first, second = collections_of(), collections_of()
    for collections in (first, second):
        await collections.open()
    server.cluster.may_appear.clear()
    making = [
        asyncio.create_task(collections.create("next", dimension=4, fingerprint=letter * 64))
        for collections, letter in ((first, "a"), (second, "b"))
    ]
    await until(lambda: server.calls.count("Create") == 2)
    server.cluster.may_appear.set()
    results = await asyncio.gather(*making, return_exceptions=True)
    [refused] = [result for result in results if isinstance(result, MirageError)]
    assert refused.code is Code.COLLECTION_EXISTS
    assert server.cluster.made == ["next"]
    assert server.cluster.deleted == []


async def test_a_collection_of_another_program_is_left_alone(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server)
    server.cluster.local.create_collection("atlas", vectors_config={})
    assert await code_of(engine.open()) is Code.COLLECTION_FOREIGN
    assert await code_of(engine.create(COLLECTION)) is Code.COLLECTION_FOREIGN
    assert server.cluster.deleted == []


async def test_indexes_that_a_dead_creator_left_out_are_made(stack: AsyncExitStack) -> None:
    server = await started(stack)
    await engine_of(stack, server).create(COLLECTION)
    whole = set(server.cluster.schema["atlas"])
    del server.cluster.schema["atlas"]["facets.modality"]
    assert await engine_of(stack, server).open() == COLLECTION
    orders = {f"order.{name}" for name in ORDERS}
    expected = {"facets.plane", "facets.modality", *DIGESTS, WORD_IDS, FORMS, CASE, *orders}
    assert set(server.cluster.schema["atlas"]) == whole == expected


async def test_a_collection_that_was_deleted_by_hand_is_named(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server)
    await engine.create(COLLECTION)
    server.cluster.local.delete_collection("atlas")
    with pytest.raises(MirageError) as caught:
        await found(engine)
    assert (caught.value.code, caught.value.metadata["name"]) == (Code.COLLECTION_NOT_FOUND, "atlas")


@pytest.mark.parametrize(
    "text",
    [
        "Service internal error: No space left on device (os error 28)",
        "Service internal error: No space left on device: WAL buffer size exceeds available disk space",
    ],
)
async def test_a_server_without_space_is_told_from_one_that_fails(stack: AsyncExitStack, text: str) -> None:
    server = await started(stack)
    engine = engine_of(stack, server)
    server.refusals["Create"] = (grpc.StatusCode.INTERNAL, text)
    assert await code_of(engine.create(COLLECTION)) is Code.STORAGE_FULL
    server.refusals.clear()
    await engine.create(COLLECTION)
    server.refusals["Upsert"] = (grpc.StatusCode.INTERNAL, text)
    assert await code_of(engine.upsert([point("a")])) is Code.STORAGE_FULL
    server.refusals["Upsert"] = (grpc.StatusCode.INTERNAL, "Service internal error: task panicked")
    with structlog.testing.capture_logs() as logs:
        assert await code_of(engine.upsert([point("a")])) is Code.INTERNAL
    [line] = said(logs, "qdrant refused a call")
    assert line["status"] == "INTERNAL"
    assert line["address"] == f"localhost:{server.port}"


# A server that does not answer.


async def test_a_refused_connection_is_logged_with_its_address_and_reason(stack: AsyncExitStack) -> None:
    server = await started(stack)
    await server.stop()
    engine = engine_of(stack, server)
    with structlog.testing.capture_logs() as logs, pytest.raises(MirageError) as caught:
        await engine.open()
    assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
    assert str(server.port) not in caught.value.message + str(caught.value.metadata)
    line = said(logs, "qdrant does not answer")[0]
    assert line["address"] == f"localhost:{server.port}"
    assert line["reason"] == "connection refused"


async def test_a_key_that_is_not_right_is_the_reason(stack: AsyncExitStack) -> None:
    server = await started(stack, api_key="right")
    with structlog.testing.capture_logs() as logs:
        for key in ("", "wrong"):
            assert await code_of(engine_of(stack, server, api_key=key).open()) is Code.DEPENDENCY_UNAVAILABLE
    lines = said(logs, "qdrant does not answer")
    assert {line["reason"] for line in lines} == {"unauthenticated"}
    assert await engine_of(stack, server, api_key="right").open() is None


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[bytes, bytes]:
    """A key and a certificate for localhost, as PEM."""
    certificate, key = self_signed(tmp_path)
    return key.read_bytes(), certificate.read_bytes()


async def test_a_key_over_tls_and_a_certificate_that_is_not_trusted(
    stack: AsyncExitStack, certificate: tuple[bytes, bytes]
) -> None:
    server = await started(stack, api_key="right", tls=certificate)
    assert server.url.startswith("https://")
    trusting = engine_of(stack, server, api_key="right", authorities=certificate[1])
    await trusting.create(COLLECTION)
    assert await found(trusting) == []
    with structlog.testing.capture_logs() as logs:
        assert await code_of(engine_of(stack, server, api_key="right").open()) is Code.DEPENDENCY_UNAVAILABLE
    assert said(logs, "qdrant does not answer")[0]["reason"] == "TLS"
    assert not said(logs, "qdrant key is sent without TLS")


async def test_a_key_without_tls_is_warned_of(stack: AsyncExitStack) -> None:
    server = await started(stack, api_key="right")
    with structlog.testing.capture_logs() as logs:
        await engine_of(stack, server, api_key="right").open()
    assert said(logs, "qdrant key is sent without TLS")
    assert "right" not in str(logs)


async def test_a_frozen_server_ends_the_calls_that_wait_and_gets_no_more(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server, timeout_s=600)
    await engine.create(COLLECTION)
    await engine.upsert([point("a")])
    server.freeze()
    with structlog.testing.capture_logs() as logs:
        waiting = await asyncio.gather(*(found(engine) for _ in range(5)), return_exceptions=True)
    assert {error.code for error in waiting if isinstance(error, MirageError)} == {Code.DEPENDENCY_UNAVAILABLE}
    assert len(waiting) == 5
    assert said(logs, "qdrant does not answer")[0]["reason"] == "timeout"
    assert not engine.answers
    asked = server.calls.count("QueryBatch")
    assert await code_of(found(engine)) is Code.DEPENDENCY_UNAVAILABLE
    assert server.calls.count("QueryBatch") == asked == 5
    server.thaw()
    await until(lambda: engine.answers)
    assert await found(engine) == ["a"]


async def test_a_caller_learns_the_reason_before_its_own_deadline(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server, pace=Pace(patience_s=600))
    await engine.create(COLLECTION)
    server.freeze()

    async def asked() -> Code:
        context.deadline.set(time.monotonic() + 1.0)
        return await code_of(found(engine))

    async with asyncio.timeout(60):
        assert await asyncio.create_task(asked()) is Code.DEPENDENCY_UNAVAILABLE


async def test_a_server_that_is_slow_to_one_call_still_answers_others(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server, timeout_s=3.0)
    await engine.create(COLLECTION)
    server.slow.add("QueryBatch")
    assert await code_of(found(engine)) is Code.DEPENDENCY_UNAVAILABLE
    assert engine.answers
    assert await engine.fetch(["a"]) == {}


async def test_the_only_server_dies_and_comes_back(stack: AsyncExitStack) -> None:
    server = await started(stack)
    engine = engine_of(stack, server)
    await engine.create(COLLECTION)
    await engine.upsert([point("a")])
    for _ in range(2):
        await server.stop()
        await until(lambda: not engine.answers)
        assert await code_of(found(engine)) is Code.DEPENDENCY_UNAVAILABLE
        await server.start()
        await until(lambda: engine.answers)
        assert await found(engine) == ["a"]


async def test_another_server_behind_the_address_is_not_taken_for_a_qdrant(stack: AsyncExitStack) -> None:
    other = grpc.aio.server()
    port = other.add_insecure_port("localhost:0")
    await other.start()
    stack.push_async_callback(other.stop, None)
    nodes = connect([f"http://localhost:{port}"], [port], collection="atlas", pace=PACE)
    stack.push_async_callback(nodes.close)
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(MirageError):
            await QdrantEngine(nodes, name="atlas", facets=FACETS).open()
        await until(lambda: not nodes.answers)
    assert said(logs, "qdrant does not answer")[0]["reason"] == "not a Qdrant"


# Several nodes of one cluster.


async def cluster_of_three(stack: AsyncExitStack) -> tuple[list[Node], QdrantEngine]:
    cluster = Cluster()
    servers = [await started(stack, cluster) for _ in range(3)]
    engine = engine_of(stack, *servers)
    await engine.create(COLLECTION)
    await engine.upsert([point("a")])
    return servers, engine


@pytest.mark.parametrize("dead", [0, 1, 2])
async def test_no_search_fails_when_a_node_dies(stack: AsyncExitStack, dead: int) -> None:
    servers, engine = await cluster_of_three(stack)
    for number in range(30):
        if number == 10:
            await servers[dead].stop()
        assert await found(engine) == ["a"]
    await engine.upsert([point("b")])
    assert await found(engine) == ["a", "b"]


async def test_searches_under_way_on_a_node_that_dies_are_answered_by_another(stack: AsyncExitStack) -> None:
    servers, engine = await cluster_of_three(stack)
    servers[0].slow.add("QueryBatch")
    under_way = [asyncio.create_task(found(engine)) for _ in range(5)]
    await until(lambda: servers[0].calls.count("QueryBatch") == 5)
    await servers[0].stop()
    assert await asyncio.gather(*under_way) == [["a"]] * 5


async def test_searches_under_way_on_a_node_that_freezes_are_answered_by_another(stack: AsyncExitStack) -> None:
    servers, engine = await cluster_of_three(stack)
    servers[0].freeze()
    assert await asyncio.gather(*(found(engine) for _ in range(5))) == [["a"]] * 5
    assert engine.answers
    asked = len(servers[0].calls)
    assert await found(engine) == ["a"]
    assert "QueryBatch" not in servers[0].calls[asked:]


async def test_writes_go_on_when_the_node_that_had_them_freezes(stack: AsyncExitStack) -> None:
    servers, engine = await cluster_of_three(stack)
    servers[0].freeze()
    await engine.upsert([point("b"), point("c")])
    assert await engine.delete(["a"]) == 1
    assert await found(engine) == ["b", "c"]


async def test_a_node_that_fails_inside_is_passed_over_for_that_call(stack: AsyncExitStack) -> None:
    servers, engine = await cluster_of_three(stack)
    servers[0].refusals["QueryBatch"] = (grpc.StatusCode.INTERNAL, "Service internal error: a peer has died")
    assert await found(engine) == ["a"]


async def test_when_all_nodes_are_dead_the_first_that_returns_is_used(stack: AsyncExitStack) -> None:
    servers, engine = await cluster_of_three(stack)
    for server in servers:
        await server.stop()
    await until(lambda: not engine.answers)
    assert await code_of(found(engine)) is Code.DEPENDENCY_UNAVAILABLE
    await servers[2].start()
    await until(lambda: engine.answers)
    assert await found(engine) == ["a"]


# Addresses as they are written in settings.


def test_addresses_have_a_scheme_a_host_and_ports() -> None:
    urls = read_urls("http://a:6333, https://b ,c:7000,http://[::1]:6340")
    assert urls == ["http://a:6333", "https://b:6333", "http://c:7000", "http://[::1]:6340"]
    assert read_ports("", urls) == [6334, 6334, 7001, 6341]
    assert read_ports("9", urls) == [9, 9, 9, 9]
    assert read_ports("1,2,3,4", urls) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text", ["", ",", "ftp://a:1", "http://", "http://a/path", "http://user:secret@a", "http://a?x=1", "http://a:no"]
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        read_urls(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["1,2", "0", "65536"])
def test_ports_fit_the_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        read_ports(text, ["http://a:1", "http://b:1", "http://c:1"])
