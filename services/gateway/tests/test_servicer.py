import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from mirage_core.errors import Code, MirageError
from mirage_core.vectors import vector_from_proto
from mirage_gateway import generating
from mirage_gateway.compose import FORWARDED
from mirage_protos.generator.v1.generator_pb2 import WatchJobRequest
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import (
    description_pb2,
    facet_pb2,
    flag_pb2,
    image_pb2,
    job_pb2,
    mirage_service_pb2,
    query_pb2,
    record_pb2,
)
from tests.support import scripted_generator
from tests.support.waiting import PATIENCE_S
from tests.support.waiting import until_async as until

from .conftest import Peer, serving_grpc


@pytest.fixture
async def stub(peer: Peer) -> AsyncIterator[Any]:
    async with serving_grpc(peer) as made:
        yield made


async def test_search_and_compare_come_back_whole(stub: Any) -> None:
    query = query_pb2.Query(terms=[query_pb2.Term(text="x")])
    found = await stub.Search(mirage_service_pb2.SearchRequest(query=query))
    assert [result.record.id for result in found.reply.results] == ["r1", "r2"]
    assert found.reply.timings.total_ms > 0
    both = await stub.Compare(
        mirage_service_pb2.CompareRequest(base=query, shift=[query_pb2.Term(text="y", weight=-1)])
    )
    assert (both.base.results[0].record.id, both.shifted.results[0].record.id, both.shift) == ("r1", "r2", 0.25)


async def test_similar_leaves_the_record_itself_out(stub: Any, peer: Peer) -> None:
    where = {"plane": facet_pb2.StringList(values=["axial"])}
    await stub.FindSimilar(mirage_service_pb2.FindSimilarRequest(id="r7", where=where))
    query = peer.script.asked[0].query
    assert (list(query.exclude_ids), query.HasField("k"), list(query.where["plane"].values)) == (
        ["r7"],
        False,
        ["axial"],
    )


async def test_an_image_comes_in_its_parts(stub: Any) -> None:
    request = mirage_service_pb2.GetImageRequest(id="r1", variant=image_pb2.IMAGE_VARIANT_THUMBNAIL)
    parts = [reply.part async for reply in stub.GetImage(request)]
    assert [(part.media_type, part.length, part.chunk) for part in parts] == [
        ("image/webp", 6, b"abc"),
        ("", 0, b"def"),
    ]


async def test_an_upsert_is_streamed_through(stub: Any, peer: Peer) -> None:
    async def requests() -> AsyncIterator[mirage_service_pb2.UpsertRecordsRequest]:
        record = record_pb2.RecordHead(record=record_pb2.Record(id="n1", caption="c"))
        yield mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(record=record))
        yield mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=b"png"))

    reply = await stub.UpsertRecords(requests())
    assert [outcome.id for outcome in reply.outcomes] == ["n1"]
    assert [part.WhichOneof("part") for part in peer.script.asked[0]] == ["record", "image_chunk"]


async def test_the_other_calls_are_passed_on(stub: Any) -> None:
    assert (await stub.GetRecord(mirage_service_pb2.GetRecordRequest(id="r3"))).record.id == "r3"
    assert (await stub.ListFacets(mirage_service_pb2.ListFacetsRequest(limit=3))).facets[0].name == "plane"
    assert (await stub.DeleteRecords(mirage_service_pb2.DeleteRecordsRequest(ids=["a", "b"]))).deleted == 2
    flag = await stub.FlagRecord(
        mirage_service_pb2.FlagRecordRequest(record_id="r1", reason=flag_pb2.FLAG_REASON_OTHER)
    )
    assert flag.flag.record_id == "r1"
    assert (await stub.ListModels(mirage_service_pb2.ListModelsRequest())).models[0].name == "mini-clip"
    assert (await stub.GetCollection(mirage_service_pb2.GetCollectionRequest())).collection.records == 7


async def test_an_error_keeps_its_details_on_the_way(stub: Any, peer: Peer) -> None:
    peer.script.error = MirageError(Code.QUEUE_FULL, retry_after_s=2.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Search(mirage_service_pb2.SearchRequest(query=query_pb2.Query(terms=[query_pb2.Term(text="x")])))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = status_pb2.Status.FromString(details)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, retry.retry_delay.seconds) == ("QUEUE_FULL", 2)


async def test_what_is_new_beside_searches_comes_back_over_grpc_too(stub: Any, peer: Peer) -> None:
    found = await stub.LookupRecords(
        mirage_service_pb2.LookupRecordsRequest(keys=[record_pb2.RecordKey(id="r1")], collection="next")
    )
    assert [each.HasField("record") for each in found.records] == [True, False]
    assert peer.script.asked[-1].collection == "next"
    page = await stub.ListRecords(mirage_service_pb2.ListRecordsRequest(page_size=3, vectors=True, page_token="t"))
    assert (list(vector_from_proto(page.records[0].image_vector)), page.next_page_token) == ([1.0, 0.0], "more")
    assert (peer.script.asked[-1].page_size, peer.script.asked[-1].page_token) == (3, "t")
    listed = await stub.ListCollections(mirage_service_pb2.ListCollectionsRequest())
    assert [each.name for each in listed.collections] == ["atlas"]
    made = await stub.CreateCollection(mirage_service_pb2.CreateCollectionRequest(name="next"))
    assert made.collection.name == "next"
    turned = await stub.ActivateCollection(mirage_service_pb2.ActivateCollectionRequest(name="next"))
    assert (turned.collection.name, turned.previous) == ("next", "atlas")
    assert (await stub.DeleteCollection(mirage_service_pb2.DeleteCollectionRequest(name="old"))).records == 7
    assert list((await stub.ListCommonQueries(mirage_service_pb2.ListCommonQueriesRequest())).queries) == ["brain MRI"]
    assert [each.id for each in (await stub.ListFlags(mirage_service_pb2.ListFlagsRequest(page_size=5))).flags] == [
        "f1"
    ]
    guess = (await stub.ClassifyImage(mirage_service_pb2.ClassifyImageRequest(image=b"x"))).guess
    assert guess.kind == image_pb2.IMAGE_KIND_MEDICAL


async def test_an_image_that_is_not_medical_is_declined_over_grpc_too(stub: Any, peer: Peer) -> None:
    peer.script.image_kind = image_pb2.IMAGE_KIND_NOT_MEDICAL
    query = query_pb2.Query(terms=[query_pb2.Term(image=b"x")])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Search(mirage_service_pb2.SearchRequest(query=query))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    query.accept_any_image = True
    assert (await stub.Search(mirage_service_pb2.SearchRequest(query=query))).reply.results


async def test_an_upsert_names_its_collection_in_its_first_message(stub: Any, peer: Peer) -> None:
    async def messages() -> AsyncIterator[Any]:
        head = record_pb2.RecordPart(record=record_pb2.RecordHead(record=record_pb2.Record(id="a")))
        yield mirage_service_pb2.UpsertRecordsRequest(part=head, collection="next")
        yield mirage_service_pb2.UpsertRecordsRequest(
            part=record_pb2.RecordPart(image_chunk=b"x"), collection="ignored"
        )

    await stub.UpsertRecords(messages())
    assert peer.script.collections == ["next"]


async def test_a_description_comes_event_by_event(stub: Any, peer: Peer) -> None:
    peer.script.second = ("r2", "r9")
    request = mirage_service_pb2.DescribeRequest(
        query=query_pb2.Query(terms=[query_pb2.Term(text="x")]), options=description_pb2.DescribeOptions(seed=1)
    )
    found = [event async for event in stub.Describe(request)]
    names = [event.WhichOneof("event") for event in found]
    assert (names[:3], names[-2:]) == (["retrieval", "start", "sentence"], ["ranking", "done"])
    end = found[-1].done
    assert end.text == " ".join(event.sentence.text for event in found if event.HasField("sentence"))
    assert (end.source, len(end.sentences)) == (description_pb2.DESCRIPTION_SOURCE_MODEL, 3)
    assert (list(found[-2].ranking.first), found[-2].ranking.best) == (["r1", "r2"], "r2")
    assert peer.llm.asked[0].options.seed == 1


async def test_a_bad_option_is_refused_over_grpc_too(stub: Any, peer: Peer) -> None:
    query = query_pb2.Query(terms=[query_pb2.Term(text="x")])
    for options in (
        description_pb2.DescribeOptions(max_tokens=0),
        description_pb2.DescribeOptions(temperature=float("nan")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Describe(mirage_service_pb2.DescribeRequest(query=query, options=options)).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not peer.script.asked


async def test_a_caller_who_cancels_stops_the_model(stub: Any, peer: Peer) -> None:
    peer.llm.token_s, peer.llm.repeat = 0.02, 20
    call = stub.Describe(mirage_service_pb2.DescribeRequest(query=query_pb2.Query(terms=[query_pb2.Term(text="x")])))
    async for event in call:
        if event.WhichOneof("event") == "sentence":
            break
    call.cancel()
    await asyncio.wait_for(peer.llm.ended.wait(), timeout=PATIENCE_S)
    assert peer.llm.tokens < 100


async def test_a_job_is_made_followed_and_fetched(stub: Any, peer: Peer) -> None:
    spec = job_pb2.JobSpec(prompt="axial T1", seed=5, images=2)
    job = (await stub.CreateJob(mirage_service_pb2.CreateJobRequest(spec=spec, request_id="r-1"))).job
    assert (job.request.seed, job.request_id, job.client) == (5, "r-1", "")
    last = [each.event async for each in stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=job.id, previews=True))][
        -1
    ]
    assert (last.done.state, len(last.done.images)) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    assert (await stub.GetJob(mirage_service_pb2.GetJobRequest(id=job.id))).job == last.done
    assert [each.id for each in (await stub.ListJobs(mirage_service_pb2.ListJobsRequest(page_size=5))).jobs] == [job.id]
    parts = [each.part async for each in stub.GetJobImage(mirage_service_pb2.GetJobImageRequest(id=job.id, index=1))]
    assert (parts[0].media_type, parts[0].length) == ("image/png", last.done.images[1].bytes)
    assert b"".join(part.chunk for part in parts) == peer.generator.files[job.id, 1]
    assert (
        await stub.CancelJob(mirage_service_pb2.CancelJobRequest(id=job.id))
    ).job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert set(peer.generator.clients) == {"127.0.0.1"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that a watch's patience is measured in: it stands still unless a test puts it forward."""
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(generating, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


async def test_a_watch_that_was_quiet_for_an_hour_goes_on_over_a_restart(
    stub: Any, peer: Peer, clock: SimpleNamespace
) -> None:
    job = (await stub.CreateJob(mirage_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec(prompt="waiting")))).job
    watch = stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=job.id))
    assert (await watch.read()).event.progress.state == job_pb2.JOB_STATE_PENDING
    clock.now += 3600
    await peer.generator_server.stop(0)
    port = int(peer.generator_address.rpartition(":")[2])
    peer.generator_server, _, _, working = await scripted_generator.serve(peer.generator, port)
    async with asyncio.timeout(PATIENCE_S):
        await until(lambda: peer.generator.watching == 1)
        await stub.CancelJob(mirage_service_pb2.CancelJobRequest(id=job.id))
        assert (await watch.read()).event.done.state == job_pb2.JOB_STATE_CANCELLED
    working.cancel()


async def test_a_watch_outlives_the_deadlines_of_its_calls(
    stub: Any, peer: Peer, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "_WATCH_S", 1.0)
    asked = peer.generator.asked
    job = (await stub.CreateJob(mirage_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec(prompt="waiting")))).job
    watch = stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=job.id))
    assert (await watch.read()).event.progress.state == job_pb2.JOB_STATE_PENDING
    clock.now += 3600
    async with asyncio.timeout(PATIENCE_S):
        await until(lambda: sum(isinstance(each, WatchJobRequest) for each in asked) >= 3)
        await stub.CancelJob(mirage_service_pb2.CancelJobRequest(id=job.id))
        assert (await watch.read()).event.done.state == job_pb2.JOB_STATE_CANCELLED


async def test_a_watch_tells_a_place_in_the_queue_and_a_time_left_that_change(stub: Any, peer: Peer) -> None:
    waiting = mirage_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec(prompt="waiting"))
    first, second = (await stub.CreateJob(waiting)).job, (await stub.CreateJob(waiting)).job
    watch = stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=second.id))

    async def told() -> job_pb2.Job:
        async with asyncio.timeout(PATIENCE_S):
            progress: job_pb2.Job = (await watch.read()).event.progress
            return progress

    assert (await told()).queue_position == 1
    await stub.CancelJob(mirage_service_pb2.CancelJobRequest(id=first.id))
    moved = await told()
    assert (moved.queue_position, moved.HasField("eta")) == (0, False)
    peer.generator.jobs[second.id].eta.FromSeconds(7)
    async with peer.generator.changed:
        peer.generator.changed.notify_all()
    assert (await told()).eta.seconds == 7
    watch.cancel()


async def test_cancelling_the_watch_does_not_cancel_the_job(stub: Any, peer: Peer) -> None:
    job = (await stub.CreateJob(mirage_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec(prompt="waiting")))).job
    watch = stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=job.id))
    assert (await watch.read()).event.progress.id == job.id
    watch.cancel()
    for _ in range(500):
        if not peer.generator.watching:
            break
        await asyncio.sleep(0.01)
    assert peer.generator.watching == 0
    assert (await stub.GetJob(mirage_service_pb2.GetJobRequest(id=job.id))).job.state == job_pb2.JOB_STATE_PENDING


@pytest.mark.parametrize(
    ("spec", "code", "field"),
    [
        ({"steps": 0}, "OPTION_OUT_OF_RANGE", "steps"),
        ({"steps": 51}, "OPTION_OUT_OF_RANGE", "steps"),
        ({"steps": 10**6}, "OPTION_OUT_OF_RANGE", "steps"),
        ({"guidance_scale": float("nan")}, "OPTION_OUT_OF_RANGE", "guidance_scale"),
        ({"width": 511}, "OPTION_OUT_OF_RANGE", "width"),
        ({"height": 10**5}, "OPTION_OUT_OF_RANGE", "height"),
        ({"seed": -1}, "OPTION_OUT_OF_RANGE", "seed"),
        ({"deadline": Duration(seconds=0, nanos=5)}, "OPTION_OUT_OF_RANGE", "deadline_s"),
        ({"deadline": Duration(seconds=2**62, nanos=-(2**31))}, "OPTION_OUT_OF_RANGE", "deadline_s"),
        ({"prompt": ""}, "PROMPT_EMPTY", "prompt"),
        ({"prompt": "x" * 10_000}, "TEXT_TOO_LONG", "prompt"),
    ],
)
async def test_a_bad_job_is_refused_over_grpc_as_over_http(
    stub: Any, peer: Peer, spec: dict[str, Any], code: str, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateJob(mirage_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec(**{"prompt": "x", **spec})))
    info = _error_info(caught.value)
    assert (info.reason, info.metadata["field"]) == (code, field)
    assert not peer.generator.asked


async def test_an_unknown_job_is_not_found_over_grpc(stub: Any) -> None:
    calls = [
        stub.GetJob(mirage_service_pb2.GetJobRequest(id="none")),
        stub.CancelJob(mirage_service_pb2.CancelJobRequest(id="none")),
        stub.WatchJob(mirage_service_pb2.WatchJobRequest(id="none")).read(),
        stub.GetJobImage(mirage_service_pb2.GetJobImageRequest(id="none")).read(),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert _error_info(caught.value).reason == "JOB_NOT_FOUND"


def _error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    return info


PUBLIC = mirage_service_pb2.DESCRIPTOR.services_by_name["MirageService"].methods_by_name
# Experts rate over HTTP alone.
ONLY_HTTP = {name for name in FORWARDED if "Rating" in name}


def test_all_that_is_forwarded_is_public_but_ratings() -> None:
    assert FORWARDED.keys() - PUBLIC.keys() == ONLY_HTTP


@pytest.mark.parametrize("name", sorted(FORWARDED.keys() - ONLY_HTTP))
@pytest.mark.parametrize("side", ["Request", "Response"])
def test_what_is_forwarded_has_the_same_fields_on_both_sides(name: str, side: str) -> None:
    def fields(module: Any) -> list[tuple[str, int, int, str]]:
        message = module.DESCRIPTOR.message_types_by_name[f"{name}{side}"]
        return [
            (
                each.name,
                each.number,
                each.type,
                each.message_type.full_name.rpartition(".v1.")[2] if each.message_type else "",
            )
            for each in message.fields
        ]

    assert fields(mirage_service_pb2) == fields(retriever_pb2)
