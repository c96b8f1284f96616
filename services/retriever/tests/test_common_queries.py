"""Common queries: answered from memory exactly as they would be searched, and never after a write that changed them."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirage_core.channels import invoke, invoke_upload, open_channel
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from mirage_protos.v1 import query_pb2, record_pb2
from mirage_retriever.common_queries import CommonQueries, plain_text, read_list
from mirage_retriever.query import Mode, Query, Term, Text

from .conftest import Stub


def test_a_list_has_comments_blanks_and_doubles(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# ours\n\n  Axial   brain \naxial brain\nT2\n")
    assert read_list(file) == ("Axial brain", "T2")


@pytest.mark.parametrize(
    ("content", "said"),
    [("ok\n" + "x" * 2001, "line 2"), ("\n".join(map(str, range(1001))), "1000 entries"), ("x" * 2**21, "bytes")],
)
def test_a_list_out_of_bounds_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text(content)
    with pytest.raises(ValueError, match=said):
        read_list(file)


def test_only_a_bare_text_can_be_common() -> None:
    term = Term(Text("a"))
    assert plain_text(Query((term,))) == "a"
    for query in (
        Query((term, term)),
        Query((Term(Text("a"), 2.0),)),
        Query((term,), mode=Mode.FUSED),
        Query((term,), where={"plane": ("axial",)}),
        Query((term,), min_score=0.1),
        Query((term,), page_token="x"),
        Query((term,), exclude_ids=("a",)),
    ):
        assert plain_text(query) is None
    assert CommonQueries(["b"]).answer(Query((term,)), None) is None  # type: ignore[arg-type]  # not looked at


@pytest.fixture
async def own(encoder: str, tmp_path: Path, services: Callable[..., str]) -> AsyncIterator[Stub]:
    (tmp_path / "list.txt").write_text("Bright Section\ndark section\n")
    address = services(
        "mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data", common_queries=tmp_path / "list.txt"
    )
    async with open_channel(address, idempotent={}) as channel:
        yield RetrieverServiceStub(channel)


async def store(stub: Stub, *numbers: int) -> None:
    async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
        for number in numbers:
            buffer = io.BytesIO()
            pixels = np.random.default_rng(number).integers(0, 255, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).resize((96, 96)).save(buffer, "PNG")
            record = record_pb2.Record(
                id=f"r{number:03}", caption=f"Section {number}.", licence="CC0-1.0", source="test"
            )
            yield retriever_pb2.UpsertRecordsRequest(
                part=record_pb2.RecordPart(record=record_pb2.RecordHead(record=record))
            )
            yield retriever_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=buffer.getvalue()))

    await invoke_upload(stub.UpsertRecords, stream(), timeout_s=60)


async def search(stub: Stub, text: str, **fields: Any) -> query_pb2.SearchReply:
    request = retriever_pb2.SearchRequest(query=query_pb2.Query(terms=[query_pb2.Term(text=text)], **fields))
    return (await invoke(stub.Search, request, timeout_s=20)).reply


async def until_cached(stub: Stub, text: str) -> query_pb2.SearchReply:
    end = asyncio.get_running_loop().time() + 30
    while not (reply := await search(stub, text)).timings.cached:
        assert asyncio.get_running_loop().time() < end, "never cached"
        await asyncio.sleep(0.05)
    return reply


def plain(reply: query_pb2.SearchReply) -> query_pb2.SearchReply:
    copy = query_pb2.SearchReply()
    copy.CopyFrom(reply)
    copy.ClearField("timings")
    return copy


async def test_a_cached_answer_is_the_searched_one(own: Stub) -> None:
    await store(own, *range(30))
    searched = {k: await search(own, "bright  SECTION", k=k) for k in (1, 7, 30)}
    if any(reply.timings.cached for reply in searched.values()):
        pytest.fail("answered from the cache before it could be filled")
    await until_cached(own, "Bright Section")
    for k, before in searched.items():
        reply = await search(own, "bright  SECTION", k=k)
        assert reply.timings.cached
        assert plain(reply) == plain(before)
    assert (await search(own, "bright section", k=7)).query.terms[0].label == "bright section"


async def test_pages_go_on_from_a_cached_one(own: Stub) -> None:
    await store(own, *range(12))
    first = await until_cached(own, "dark section")
    first = await search(own, "dark section", k=5)
    second = await search(own, "dark section", k=5, page_token=first.next_page_token)
    assert first.timings.cached
    assert not second.timings.cached
    ids = [result.record.id for reply in (first, second) for result in reply.results]
    whole = await search(own, "dark section", k=10)
    assert ids == [result.record.id for result in whole.results]


async def test_no_cached_answer_outlives_a_write(own: Stub) -> None:
    await store(own, *range(5))
    await until_cached(own, "bright section")
    for number in range(20, 30):
        await store(own, number)
        assert len((await search(own, "bright section", k=50)).results) == 5 + number - 19
        if number % 4 == 0:
            await until_cached(own, "bright section")
    await until_cached(own, "bright section")
    await invoke(own.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["r000"]), timeout_s=20)
    assert "r000" not in {result.record.id for result in (await search(own, "bright section", k=50)).results}


async def test_a_switch_of_collections_answers_from_the_new_one(own: Stub) -> None:
    await store(own, *range(5))
    await until_cached(own, "bright section")
    await invoke(own.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=20)
    await invoke(own.ActivateCollection, retriever_pb2.ActivateCollectionRequest(name="next"), timeout_s=20)
    reply = await search(own, "bright section")
    assert not reply.results
    assert (await until_cached(own, "bright section")).results == reply.results


async def test_the_list_is_told(own: Stub) -> None:
    reply = await invoke(own.ListCommonQueries, retriever_pb2.ListCommonQueriesRequest(), timeout_s=10)
    assert list(reply.queries) == ["Bright Section", "dark section"]


@pytest.fixture
async def typical(encoder: str, tmp_path: Path, services: Callable[..., str]) -> AsyncIterator[Stub]:
    """A retriever without a list of the operator's."""
    address = services("mirage_retriever", tmp_path, encoder=encoder, data=tmp_path / "data")
    async with open_channel(address, idempotent={}) as channel:
        yield RetrieverServiceStub(channel)


async def offered(stub: Stub) -> list[str]:
    return list((await invoke(stub.ListCommonQueries, retriever_pb2.ListCommonQueriesRequest(), timeout_s=10)).queries)


async def store_kinds(stub: Stub) -> None:
    """Two kinds of examination, with named structures and titles; and a single image of another kind."""
    kinds: list[tuple[str, str, str, tuple[str, ...], str]] = [
        ("ct", "chest", "axial", ("left lung", "right lung", "vertebra t8", "vertebra t9"), "CT of the chest, T8")
    ] * 3
    kinds += [("mr", "brain", "sagittal", ("thalamus",), "MRI of the brain")] * 2
    kinds += [("us", "heart", "axial", ("mitral valve",), "Echo")]

    async def stream() -> AsyncIterator[retriever_pb2.UpsertRecordsRequest]:
        for number, (modality, part, plane, structures, title) in enumerate(kinds):
            buffer = io.BytesIO()
            pixels = np.random.default_rng(number).integers(0, 255, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).resize((96, 96)).save(buffer, "PNG")
            record = record_pb2.Record(
                id=f"k{number}", caption=f"Section {number}.", licence="CC0-1.0", source="test", title=title
            )
            labels = {"modality": (modality,), "body_part": (part,), "plane": (plane,), "structure": structures}
            for name, values in {**labels, "finding": ("none",)}.items():
                record.labels[name].values.extend(values)
            head = record_pb2.RecordHead(record=record)
            yield retriever_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(record=head))
            yield retriever_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=buffer.getvalue()))

    await invoke_upload(stub.UpsertRecords, stream(), timeout_s=60)


async def until_offered(stub: Stub, wanted: Callable[[list[str]], bool]) -> list[str]:
    end = asyncio.get_running_loop().time() + 60
    while not wanted(queries := await offered(stub)):
        assert asyncio.get_running_loop().time() < end, queries
        await asyncio.sleep(0.05)
    return queries


async def test_without_a_list_the_commonest_things_of_the_collection_are_offered(typical: Stub) -> None:
    assert await offered(typical) == []
    await store_kinds(typical)
    queries = await until_offered(typical, lambda found: len(found) > 3)
    # One of each kind in turn, none twice for its side or number, and nothing that only one record has.
    assert queries[:3] == ["chest CT", "lung", "CT of the chest"]
    assert {"brain MRI", "thalamus", "MRI of the brain", "axial chest CT", "sagittal brain MRI"} <= set(queries)
    assert sum("vertebra" in query for query in queries) == 1
    assert not any("heart" in query or "mitral" in query or query == "none" for query in queries)
    for query in queries:
        assert (await search(typical, query)).results
    await until_cached(typical, "Chest  CT")


async def test_what_is_offered_follows_the_collection(typical: Stub) -> None:
    await store_kinds(typical)
    await until_offered(typical, lambda found: "brain MRI" in found)
    request = retriever_pb2.DeleteRecordsRequest(ids=["k3", "k4"])
    await invoke(typical.DeleteRecords, request, timeout_s=20)
    await until_offered(typical, lambda found: "chest CT" in found and "brain MRI" not in found)
    await invoke(typical.CreateCollection, retriever_pb2.CreateCollectionRequest(name="next"), timeout_s=20)
    await invoke(typical.ActivateCollection, retriever_pb2.ActivateCollectionRequest(name="next"), timeout_s=20)
    await until_offered(typical, lambda found: not found)
