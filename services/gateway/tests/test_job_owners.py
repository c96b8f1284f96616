"""Whose jobs are, over the gateway's gRPC with keys; and seeds that no message or no server takes."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from mirage_protos.v1 import job_pb2, mirage_service_pb2

from .conftest import Peer, serving_grpc

KEYS = "ann:" + "a" * 24 + ",bob:" + "b" * 24 + ",head:" + "h" * 24 + ":admin"
ANN, BOB, HEAD = ((("authorization", f"Bearer {letter * 24}"),) for letter in "abh")
# Who asks for nothing of the kind, and who claims to be somebody else.
STRANGERS = {"another": BOB, "an impostor": (*BOB, ("x-mirage-client", "ann"), ("x-mirage-admin", "true"))}


@pytest.fixture
async def stub(peer: Peer) -> AsyncIterator[Any]:
    async with serving_grpc(peer, api_keys=KEYS) as made:
        yield made


async def made(stub: Any) -> job_pb2.Job:
    """A job of ann's that is done, with an image."""
    spec = job_pb2.JobSpec(prompt="axial T1")
    job = (await stub.CreateJob(mirage_service_pb2.CreateJobRequest(spec=spec), metadata=ANN)).job
    watch = stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=job.id), metadata=ANN)
    done: job_pb2.Job = [each.event async for each in watch][-1].done
    return done


# The calls that name a job; a stream's first message is its answer.
CALLS: dict[str, Callable[[Any, str, Any], Any]] = {
    "GetJob": lambda stub, id_, who: stub.GetJob(mirage_service_pb2.GetJobRequest(id=id_), metadata=who),
    "CancelJob": lambda stub, id_, who: stub.CancelJob(mirage_service_pb2.CancelJobRequest(id=id_), metadata=who),
    "WatchJob": lambda stub, id_, who: stub.WatchJob(mirage_service_pb2.WatchJobRequest(id=id_), metadata=who).read(),
    "GetJobImage": lambda stub, id_, who: stub.GetJobImage(
        mirage_service_pb2.GetJobImageRequest(id=id_, index=0), metadata=who
    ).read(),
}


@pytest.mark.parametrize("who", STRANGERS)
async def test_another_clients_job_and_image_are_not_there(stub: Any, who: str) -> None:
    job = await made(stub)
    for call in CALLS.values():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(stub, job.id, STRANGERS[who])
        assert (caught.value.code(), _reason(caught.value)) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    assert not (await stub.ListJobs(mirage_service_pb2.ListJobsRequest(), metadata=STRANGERS[who])).jobs


async def test_its_own_client_and_an_admin_see_it(stub: Any) -> None:
    job = await made(stub)
    for call in CALLS.values():
        await call(stub, job.id, ANN)
        await call(stub, job.id, HEAD)
    assert (await CALLS["GetJob"](stub, job.id, ANN)).job.client == ""
    assert (await CALLS["GetJob"](stub, job.id, HEAD)).job.client == "ann"
    assert [each.id for each in (await stub.ListJobs(mirage_service_pb2.ListJobsRequest(), metadata=HEAD)).jobs] == [
        job.id
    ]


async def test_without_a_key_nobody_sees_any(stub: Any) -> None:
    job = await made(stub)
    for call in CALLS.values():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(stub, job.id, ())
        assert (caught.value.code(), _reason(caught.value)) == (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_MISSING")


@pytest.mark.parametrize("seed", [2**63, 2**70, -(2**63) - 1])
def test_no_message_holds_a_seed_beyond_64_bits(seed: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        job_pb2.JobSpec(prompt="x", seed=seed)


@pytest.mark.parametrize("seed", [-1, -(2**63)])
async def test_a_seed_below_0_fits_into_a_message_and_is_refused(stub: Any, peer: Peer, seed: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CreateJob(
            mirage_service_pb2.CreateJobRequest(spec=job_pb2.JobSpec(prompt="x", seed=seed)), metadata=ANN
        )
    assert (caught.value.code(), _reason(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "OPTION_OUT_OF_RANGE")
    assert not peer.generator.asked


def _reason(error: grpc.aio.AioRpcError) -> str:
    details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    return str(info.reason)
