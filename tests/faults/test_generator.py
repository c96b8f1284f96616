"""The generator's parts are killed, stopped and starved while it works: no accepted job is lost, and each has one result."""

import asyncio
import importlib.util
import json
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
import pytest

from mirage.provenance import read_provenance
from mirage_protos.v1 import job_pb2
from tests.support import generator_process
from tests.support.generator_process import LONG, jobs
from tests.support.waiting import until

SUCCEEDED, FAILED = job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
PENDING, RUNNING = job_pb2.JOB_STATE_PENDING, job_pb2.JOB_STATE_RUNNING
CANCELLED = job_pb2.JOB_STATE_CANCELLED


# A few seconds of work, for jobs that are lost and made again.
MEDIUM: dict[str, Any] = {"width": 768, "height": 768, "steps": 10}


@pytest.fixture(scope="module")
def place() -> Iterator[Any]:
    """Queue and service; workers come and go. Leases of two seconds."""
    with generator_process.house(workers=0, LEASE_S="2", QUEUE="200", PER_CLIENT="100") as made:
        yield made


@pytest.fixture
def house(place: Any) -> Iterator[Any]:
    """The same with one worker, whatever the test before left."""
    _workers(place, 1)
    yield place
    for worker in place.workers:
        worker.send_signal(signal.SIGCONT)


@pytest.fixture(params=["onnxruntime", "auto"])
def any_engine(place: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The same with one worker on each engine: `auto`, the default, is OpenVINO for UNet and decoder where that is installed."""
    pinned = place.settings["ENGINE"]
    _workers(place, 0)
    place.settings["ENGINE"] = request.param
    try:
        _workers(place, 1)
        described = place.redis().get("mirage:engine").decode()
        assert ("openvino" in described.lower()) == (request.param == "auto" and HAS_OPENVINO), described
        yield place
    finally:
        _workers(place, 0)
        place.settings["ENGINE"] = pinned


def _workers(place: Any, count: int) -> list[Any]:
    place.workers = [worker for worker in place.workers if worker.poll() is None]
    while len(place.workers) > count:
        worker = place.workers.pop()
        worker.send_signal(signal.SIGCONT)
        worker.terminate()
        worker.wait(60)
    while len(place.workers) < count:
        place.start_worker()
    return list(place.workers)


async def _one_result(house: Any, client: Any, id_: str) -> None:
    """The job succeeded, and the images that it names are all that there are of it."""
    job = await client.end_of(id_)
    assert job.state == SUCCEEDED, job
    assert job.step == job.steps
    assert len(job.images) == job.request.images
    named = {image.sha256 for image in job.images}
    made = {
        path.stem
        for path in house.images.rglob("*.png")
        if (said := read_provenance(path.read_bytes())) is not None and said.job_id == id_
    }
    assert made == named
    for image in job.images:
        assert await client.image(id_, image.index)


async def test_a_job_whose_worker_is_killed_is_finished_by_the_next(any_engine: Any) -> None:
    house = any_engine
    (worker,) = house.workers
    async with jobs(house) as client:
        made = await client.create(**MEDIUM, images=2)
        await client.running(made.id, step=3)
        house.kill(worker)
        await asyncio.to_thread(_workers, house, 1)
        await _one_result(house, client, made.id)
    # All that happened to it is found by the id of the call that made it.
    written = [
        json.loads(line) for name in ("api", "worker") for line in house.log(name).splitlines() if made.id in line
    ]
    assert [line["event"] for line in written].count("job begun") == 2
    assert "a job's worker is lost: the job waits again" in [line["event"] for line in written]
    assert len({line["request_id"] for line in written}) == 1


async def test_a_worker_that_comes_back_late_changes_nothing(house: Any) -> None:
    (late,) = house.workers
    async with jobs(house) as client:
        made = await client.create(**MEDIUM)
        await client.running(made.id, step=2)
        late.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(house.start_worker)
        await _one_result(house, client, made.id)
        before = await client.get(made.id)
        late.send_signal(signal.SIGCONT)
        # It notices, drops the job and takes others again.
        log = house.folder / "worker.log"
        await asyncio.to_thread(until, lambda: f'"job": "{made.id}", "outcome": "stopped"' in log.read_text())
        assert await client.get(made.id) == before
        await _one_result(house, client, made.id)


async def test_a_worker_that_is_told_to_end_hands_its_job_back(house: Any) -> None:
    (worker,) = house.workers
    async with jobs(house) as client:
        made = await client.create(**MEDIUM)
        await client.running(made.id)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
        assert (await client.get(made.id)).state == PENDING
        assert int(house.redis().hget(f"mirage:job:{made.id}", "attempts") or -1) == 0
        await asyncio.to_thread(_workers, house, 1)
        await _one_result(house, client, made.id)


async def test_no_job_is_lost_when_redis_is_killed(house: Any) -> None:
    async with jobs(house) as client:
        running = await client.create(**MEDIUM)
        waiting = [await client.create() for _ in range(5)]
        await client.running(running.id)
        watch = asyncio.create_task(client.end_of(running.id))
        await asyncio.to_thread(house.kill, house.queue)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await client.create()
        assert generator_process.details(error.value)[0] == "DEPENDENCY_UNAVAILABLE"
        await asyncio.to_thread(house.start_queue)
        await asyncio.to_thread(until, house.serving)
        for job in (running, *waiting):
            await _one_result(house, client, job.id)
        # A watch that Redis left without news may end; begun again it tells how it is.
        await asyncio.gather(watch, return_exceptions=True)
        assert (await client.end_of(running.id)).state == SUCCEEDED
        after = await client.create()
        await _one_result(house, client, after.id)


async def test_a_frozen_redis_is_a_clear_error_and_work_goes_on_after_it(house: Any) -> None:
    async with jobs(house) as client:
        before = await client.create()
        assert (await client.end_of(before.id)).state == SUCCEEDED
        house.queue.send_signal(signal.SIGSTOP)
        try:
            until(lambda: not house.serving())
            # Far more callers than there are threads: one of them waits, and the others do not wait for it.
            asked = await asyncio.gather(*(client.get(before.id) for _ in range(100)), return_exceptions=True)
            found = {generator_process.details(error)[0] for error in asked if isinstance(error, grpc.aio.AioRpcError)}
            assert found == {"DEPENDENCY_UNAVAILABLE"}
            assert all(isinstance(error, grpc.RpcError) for error in asked)
        finally:
            house.queue.send_signal(signal.SIGCONT)
        until(house.serving)
        assert (await client.get(before.id)).state == SUCCEEDED
        after = await client.create()
        assert (await client.end_of(after.id)).state == SUCCEEDED


async def test_tickets_that_are_lost_are_issued_again(place: Any) -> None:
    _workers(place, 0)
    async with jobs(place) as client:
        made = [await client.create() for _ in range(3)]
        place.redis().delete("mirage.tickets")
        await asyncio.to_thread(_workers, place, 1)
        for job in made:
            await _one_result(place, client, job.id)


async def test_watchers_go_on_after_the_service_was_killed(house: Any) -> None:
    async with jobs(house) as client:
        made = await client.create(**LONG)
        queued = await client.create()
        seen: list[Any] = []

        async def watch() -> None:
            async for event in client.watch(made.id):
                seen.append(event)
                if len(seen) == 3:
                    await asyncio.to_thread(house.kill, house.api)

        with pytest.raises(grpc.aio.AioRpcError):
            await watch()
        await asyncio.to_thread(house.start_api)
    async with jobs(house) as client:
        events = [event async for event in client.watch(made.id)]
        assert events[0].progress.revision >= seen[-1].progress.revision
        assert events[-1].done.state == SUCCEEDED
        await _one_result(house, client, made.id)
        await _one_result(house, client, queued.id)


async def test_a_full_disk_fails_the_job_and_not_the_worker(place: Any) -> None:
    _workers(place, 0)
    # No file above 12 kB, be it an image or the log: room for a small image, not for a large one.
    worker = await asyncio.to_thread(place.start_worker, preface=("prlimit", "--fsize=12000"), log="crammed")
    async with jobs(place) as client:
        job = await client.end_of((await client.create(width=768, height=768)).id)
        assert (job.state, job.problem.code, len(job.images)) == (FAILED, "STORAGE_FULL", 0)
        # So many that the log is full as well.
        for job in [await client.create() for _ in range(80)]:
            await _one_result(place, client, job.id)
        assert (place.folder / "crammed.log").stat().st_size > 11_000
    assert worker.poll() is None
    assert not [path for path in place.images.rglob("*") if path.is_file() and path.suffix != ".png"]


async def test_a_job_that_loses_every_worker_is_given_up() -> None:
    with generator_process.house(LEASE_S="1", ATTEMPTS="1") as house:
        async with jobs(house) as client:
            made = await client.create(**LONG)
            await client.running(made.id)
            house.kill(house.workers[0])
            job = await client.end_of(made.id)
            assert (job.state, job.problem.code, dict(job.problem.metadata)) == (
                FAILED,
                "WORKER_LOST",
                {"attempts": "1"},
            )


async def test_two_hundred_jobs_at_once_are_bounded_and_fair(place: Any) -> None:
    _workers(place, 0)
    async with jobs(place, client="anna") as anna, jobs(place, client="ben") as ben:
        # All of one client's before any of the other's.
        hers = await asyncio.gather(*(anna.create(steps=1) for _ in range(100)))
        his = await asyncio.gather(*(ben.create(steps=1) for _ in range(100)))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await ben.create()
        reason, _, retry_s = generator_process.details(error.value)
        assert reason == "TOO_MANY_JOBS"
        assert retry_s
        async with jobs(place, client="cleo") as cleo:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await cleo.create()
            assert generator_process.details(error.value)[0] == "QUEUE_FULL"
        places = [(await anna.get(job.id)).queue_position for job in hers[:3]]
        assert len(set(places)) == 3
        await asyncio.to_thread(_workers, place, 2)
        done = [(await anna.end_of(job.id), "anna") for job in hers] + [
            (await ben.end_of(job.id), "ben") for job in his
        ]
    assert {job.state for job, _ in done} == {SUCCEEDED}
    order = [name for _, name in sorted(done, key=lambda pair: pair[0].start_time.ToDatetime())]
    # Clients take turns: at no time is one more than a job ahead, two where both workers have just taken one.
    for count in range(0, 201, 10):
        assert abs(order[:count].count("anna") - order[:count].count("ben")) <= 2


async def test_a_job_that_runs_is_cancelled_and_the_next_one_made(any_engine: Any) -> None:
    house = any_engine
    async with jobs(house) as client:
        made = await client.create(**LONG)
        job = await client.running(made.id)
        assert job.step < job.steps
        assert (await client.cancel(made.id)).state == CANCELLED
        await _one_result(house, client, (await client.create()).id)
        assert (await client.get(made.id)).state == CANCELLED
        assert not [path for path in house.images.rglob("*.png") if made.id.encode() in path.read_bytes()]


async def test_cancelling_jobs_that_wait_stops_no_other(house: Any) -> None:
    async with jobs(house) as client:
        running = await client.create(**MEDIUM)
        await client.running(running.id)
        waiting = [await client.create(seed=number) for number in range(20)]
        cancelled = await asyncio.gather(*(client.cancel(job.id) for job in waiting[::2]))
        assert {job.state for job in cancelled} == {CANCELLED}
        for job in (running, *waiting[1::2]):
            await _one_result(house, client, job.id)
        for job in waiting[::2]:
            assert (await client.get(job.id)).state == CANCELLED
        assert house.redis().llen("mirage.tickets") == 0


async def test_two_workers_share_the_queue(place: Any) -> None:
    _workers(place, 2)
    async with jobs(place) as client:
        made = [await client.create(**LONG) for _ in range(2)]
        for job in made:
            assert (await client.running(job.id)).state == RUNNING
        assert [(await client.get(job.id)).state for job in made] == [RUNNING, RUNNING]
        workers = {place.redis().hget(f"mirage:job:{job.id}", "worker") for job in made}
        assert len(workers) == 2
        for job in made:
            await client.cancel(job.id)


async def test_a_worker_keeps_its_size_over_fifty_jobs(any_engine: Any) -> None:
    house = any_engine
    (worker,) = house.workers

    # One process, and one model in it.
    assert not psutil.Process(worker.pid).children()
    async with jobs(house) as client:

        async def several(count: int) -> None:
            made = [await client.create(seed=seed, width=64 * (1 + seed % 3)) for seed in range(count)]
            for job in made:
                assert (await client.end_of(job.id)).state == SUCCEEDED

        await several(20)
        before = psutil.Process(worker.pid).memory_info().rss
        await several(50)
        assert psutil.Process(worker.pid).memory_info().rss - before < 8 * 2**20
