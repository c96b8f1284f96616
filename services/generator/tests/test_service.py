"""The service over real gRPC with a real queue and a real worker: what it makes, refuses, tells and forgets."""

import asyncio
import io
import math
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from mirage.provenance import read_provenance
from mirage_protos.generator.v1 import generator_pb2
from mirage_protos.v1 import job_pb2, model_pb2
from tests.support.generator_process import DEADLINE_S, LONG, House, Jobs, details, free_port, house, jobs
from tests.support.paths import TINY_GENERATOR as TINY
from tests.support.waiting import until

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
PENDING, RUNNING = job_pb2.JOB_STATE_PENDING, job_pb2.JOB_STATE_RUNNING
CANCELLED, EXPIRED, FAILED = (
    job_pb2.JOB_STATE_CANCELLED,
    job_pb2.JOB_STATE_EXPIRED,
    job_pb2.JOB_STATE_FAILED,
)


@pytest.fixture(scope="module")
def one() -> Iterator[House]:
    """The service with one worker."""
    with house() as made:
        yield made


@pytest.fixture(scope="module")
def idle() -> Iterator[House]:
    """The service without a worker, three places in the queue and two jobs a client."""
    with house(workers=0, QUEUE="3", PER_CLIENT="2") as made:
        yield made


async def refused(call: Any) -> tuple[str, dict[str, str], float | None, grpc.StatusCode]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return *details(error.value), error.value.code()


async def test_a_job_is_queued_followed_and_fetched(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(seed=5, images=2, width=128, request_id="lesson-1")
        assert made.state in (PENDING, RUNNING)
        assert made.request_id == "lesson-1"
        assert (made.request.steps, made.request.height, made.request.guidance_scale, made.steps) == (4, 64, 1.0, 8)
        assert (made.prompt_tokens, made.prompt_truncated) == (8, False)
        assert made.expire_time.ToDatetime() > made.deadline_time.ToDatetime() > made.create_time.ToDatetime()
        assert made.create_time.seconds > 1_700_000_000
        assert not made.HasField("end_time")
        events = [event async for event in client.watch(made.id, previews=True)]
        assert [event.WhichOneof("event") for event in events].count("done") == 1
        assert events[0].HasField("progress")
        done = events[-1].done
        assert (done.state, done.step, done.queue_position) == (SUCCEEDED, 8, 0)
        assert done.end_time.ToDatetime() >= done.start_time.ToDatetime() >= done.create_time.ToDatetime()
        assert [(image.index, image.seed) for image in done.images] == [(0, 5), (1, 6)]
        for event in events:
            if event.HasField("preview"):
                assert len(event.preview.image) <= 2**16
                assert Image.open(io.BytesIO(event.preview.image)).size == (16, 8)
        assert any(event.HasField("preview") for event in events)
        steps = [event.progress.step for event in events if event.HasField("progress")]
        assert steps == sorted(steps)
        for image in done.images:
            data = await client.image(made.id, image.index)
            assert len(data) == image.bytes
            picture = Image.open(io.BytesIO(data))
            assert picture.size == (image.width, image.height) == (128, 64)
            said = read_provenance(data)
            assert said is not None
            assert (said.seed, said.job_id, said.steps) == (image.seed, made.id, 4)
            assert said.fingerprint == done.fingerprint
            assert said.visible_mark


async def test_the_same_seed_gives_the_same_picture(one: House) -> None:
    async with jobs(one) as client:
        digests = []
        orders: tuple[dict[str, Any], ...] = ({"seed": 1, "images": 2}, {"seed": 2})
        for fields in orders:
            made = await client.create(**fields)
            done = await client.end_of(made.id)
            said = read_provenance(await client.image(made.id, len(done.images) - 1))
            assert said is not None
            digests.append(said.pixels_sha256)
    assert digests[0] == digests[1]


async def test_the_last_seed_is_followed_by_the_first(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(seed=2**63 - 1, images=2)
        assert [image.seed for image in (await client.end_of(made.id)).images] == [2**63 - 1, 0]


async def test_a_prompt_that_is_too_long_for_the_model_is_reported(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(prompt="axial brain " * 20)
        assert (made.prompt_tokens, made.prompt_truncated) == (42, True)
        assert (await client.end_of(made.id)).state == SUCCEEDED


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "steps of 0": ({"steps": 0}, "OPTION_OUT_OF_RANGE", "steps"),
    "more steps than the model takes": ({"steps": 11}, "OPTION_OUT_OF_RANGE", "steps"),
    "a million steps": ({"steps": 10**6}, "OPTION_OUT_OF_RANGE", "steps"),
    "a guidance that is no number": ({"guidance_scale": math.nan}, "OPTION_OUT_OF_RANGE", "guidance_scale"),
    "an infinite guidance": ({"guidance_scale": math.inf}, "OPTION_OUT_OF_RANGE", "guidance_scale"),
    "a guidance that the model was not made for": ({"guidance_scale": 2.5}, "OPTION_OUT_OF_RANGE", "guidance_scale"),
    "a width of 511": ({"width": 511}, "OPTION_OUT_OF_RANGE", "width"),
    "a height of 100,000": ({"height": 10**5}, "OPTION_OUT_OF_RANGE", "height"),
    "a negative seed": ({"seed": -1}, "OPTION_OUT_OF_RANGE", "seed"),
    "no image": ({"images": 0}, "OPTION_OUT_OF_RANGE", "images"),
    "five images": ({"images": 5}, "OPTION_OUT_OF_RANGE", "images"),
    "an empty prompt": ({"prompt": ""}, "PROMPT_EMPTY", "prompt"),
    "a blank prompt": ({"prompt": " \n"}, "PROMPT_EMPTY", "prompt"),
    "10,000 characters": ({"prompt": "x" * 10_000}, "TEXT_TOO_LONG", "prompt"),
    "a zero character": ({"prompt": "a\0b"}, "OPTION_OUT_OF_RANGE", "prompt"),
    "a deadline of no time": ({"deadline": Duration()}, "OPTION_OUT_OF_RANGE", "deadline_s"),
    "a priority of 7": ({"priority": 7}, "OPTION_OUT_OF_RANGE", "priority"),
    "a priority that is not one": ({"priority": job_pb2.JOB_PRIORITY_UNSPECIFIED}, "OPTION_OUT_OF_RANGE", "priority"),
    "a deadline before now": ({"deadline": Duration(seconds=-5)}, "OPTION_OUT_OF_RANGE", "deadline_s"),
    "a deadline of ages": ({"deadline": Duration(seconds=2**62)}, "OPTION_OUT_OF_RANGE", "deadline_s"),
    "a request id with a space": ({"request_id": "a b"}, "OPTION_OUT_OF_RANGE", "request_id"),
    "a request id of 65 characters": ({"request_id": "a" * 65}, "OPTION_OUT_OF_RANGE", "request_id"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_is_refused_with_its_field_and_queues_nothing(idle: House, case: str) -> None:
    fields, code, field = BAD[case]
    async with jobs(idle, client="careless") as client:
        reason, metadata, _, status = await refused(client.create(**fields))
        assert (reason, metadata["field"], status) == (code, field, grpc.StatusCode.INVALID_ARGUMENT)
        assert not (await client.list()).jobs


async def test_a_negative_prompt_without_effect_is_refused(idle: House) -> None:
    async with jobs(idle, client="careless") as client:
        _, metadata, _, status = await refused(client.create(negative_prompt="lesion"))
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert metadata["field"] == "negative_prompt"


async def test_a_negative_prompt_with_an_effect_changes_the_picture(one: House) -> None:
    async with jobs(one) as client:
        seen = set()
        for negative in ("", "left lesion"):
            made = await client.create(seed=3, guidance_scale=2.0, negative_prompt=negative)
            await client.end_of(made.id)
            said = read_provenance(await client.image(made.id))
            assert said is not None
            seen.add(said.pixels_sha256)
    assert len(seen) == 2


@pytest.mark.parametrize("id_", ["", "nothing", "x" * 5000, "../../etc/passwd", "0" * 24])
async def test_an_unknown_job_is_not_found(idle: House, id_: str) -> None:
    async with jobs(idle) as client:
        for call in (client.get(id_), client.cancel(id_), client.end_of(id_), client.image(id_)):
            reason, _, _, status = await refused(call)
            assert (reason, status) == ("JOB_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


async def test_a_job_of_another_client_is_not_there(one: House) -> None:
    async with jobs(one, client="anna") as anna, jobs(one, client="ben") as ben:
        made = await anna.create()
        assert (await anna.end_of(made.id)).state == SUCCEEDED
        for call in (ben.get(made.id), ben.cancel(made.id), ben.end_of(made.id), ben.image(made.id)):
            assert (await refused(call))[0] == "JOB_NOT_FOUND"
        assert made.id not in {job.id for job in (await ben.list()).jobs}
        assert await anna.image(made.id)


async def test_an_image_that_was_not_made_is_not_there(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create()
        await client.end_of(made.id)
        for index in (1, -1, 2**31 - 1):
            reason, metadata, *_ = await refused(client.image(made.id, index))
            assert (reason, metadata["index"]) == ("JOB_IMAGE_NOT_FOUND", str(index))


async def test_a_full_queue_refuses_and_says_when_to_come_again(idle: House) -> None:
    async with jobs(idle, client="a") as a, jobs(idle, client="b") as b:
        waiting = [(a, (await a.create()).id), (a, (await a.create()).id)]
        reason, metadata, retry_s, status = await refused(a.create())
        assert (reason, metadata["max"], status) == ("TOO_MANY_JOBS", "2", grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert retry_s is not None
        assert retry_s > 0
        waiting.append((b, (await b.create()).id))
        reason, _, retry_s, status = await refused(b.create())
        assert (reason, status) == ("QUEUE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert retry_s is not None
        assert retry_s > 0
        for client, id_ in waiting:
            assert (await client.cancel(id_)).state == CANCELLED


async def test_without_a_worker_jobs_wait_and_nobody_promises_a_time(idle: House) -> None:
    async with jobs(idle, client="a") as client:
        first, second = await client.create(), await client.create()
        assert [(job.state, job.queue_position, job.HasField("eta")) for job in (first, second)] == [
            (PENDING, 0, False),
            (PENDING, 1, False),
        ]
        assert (await client.cancel(first.id)).state == CANCELLED
        assert (await client.get(second.id)).queue_position == 0
        assert (await client.cancel(second.id)).state == CANCELLED


def metrics(house: House) -> dict[str, float]:
    """What the service's /metrics says of jobs."""
    with urllib.request.urlopen(f"http://127.0.0.1:{house.settings['METRICS_PORT']}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("mirage_generator_")
    }


async def test_operators_see_how_many_jobs_wait_and_how_others_ended() -> None:
    waiting, running = (f'mirage_generator_queue_jobs{{state="{state}"}}' for state in ("pending", "running"))
    cancelled = 'mirage_generator_ended_jobs{state="cancelled"}'
    with house(workers=0, METRICS_PORT=str(free_port())) as idle:
        async with jobs(idle) as client:
            made = [await client.create() for _ in range(2)]
            await asyncio.to_thread(until, lambda: metrics(idle).get(waiting) == 2)
            await client.cancel(made[0].id)
            await asyncio.to_thread(until, lambda: metrics(idle)[waiting] == 1)
        found = metrics(idle)
    assert (found[running], found[cancelled]) == (0, 1)


async def test_a_request_id_that_is_sent_twenty_times_at_once_makes_one_job(idle: House) -> None:
    async with jobs(idle, client="eager") as client:
        made = await asyncio.gather(*(client.create("again", seed=1) for _ in range(20)))
        assert len({job.id for job in made}) == 1
        assert len((await client.list()).jobs) == 1
        reason, metadata, _, status = await refused(client.create("again", seed=2))
        assert (reason, metadata["request_id"]) == ("REQUEST_ID_REUSED", "again")
        assert status is grpc.StatusCode.ALREADY_EXISTS
        await client.cancel(made[0].id)
        # It belongs to the job still, not to the queue.
        assert (await client.create("again", seed=1)).id == made[0].id
    async with jobs(idle, client="other") as other:
        its = await other.create("again", seed=2)
        assert its.id != made[0].id
        await other.cancel(its.id)


async def test_a_seed_of_the_servers_choice_is_told_and_kept_for_the_same_request(idle: House) -> None:
    async with jobs(idle, client="seedless") as client:
        made, again = await client.create("s"), await client.create("s")
        assert made.request.HasField("seed")
        assert made.request.seed == again.request.seed
        await client.cancel(made.id)


async def test_a_running_job_stops_by_its_next_step(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(**LONG)
        job = await client.running(made.id)
        assert job.step < job.steps
        cancelled = await client.cancel(made.id)
        assert cancelled.state == CANCELLED
        following = await client.create()
        assert (await client.end_of(following.id)).state == SUCCEEDED
        assert (await client.get(made.id)).step <= job.step + 2
        assert (await client.cancel(made.id)).state == CANCELLED
        assert (await client.end_of(made.id)).state == CANCELLED
        assert (await client.cancel(following.id)).state == SUCCEEDED


async def test_places_and_times_come_from_measured_steps(one: House) -> None:
    async with jobs(one) as client:
        await client.end_of((await client.create()).id)
        long = await client.create(**LONG)
        await client.running(long.id)
        second = await client.create()
        first, batch = await client.create(), await client.create(priority=job_pb2.JOB_PRIORITY_BATCH)
        assert (await client.get(long.id)).queue_position == 0
        found = [await client.get(job.id) for job in (second, first, batch)]
        assert [job.queue_position for job in found] == [0, 1, 2]
        times = [job.eta.ToTimedelta().total_seconds() for job in (await client.get(long.id), *found)]
        assert times == sorted(times)
        assert 1 < times[0] < 600
        await client.cancel(long.id)
        ends = [await client.end_of(job.id) for job in found]
        assert [end.state for end in ends] == [SUCCEEDED] * 3
        assert [end.start_time.ToDatetime() for end in ends] == sorted(end.start_time.ToDatetime() for end in ends)


async def test_a_job_that_waits_tells_its_time_left_and_its_place_as_they_change(one: House) -> None:
    async with jobs(one) as client:
        await client.end_of((await client.create()).id)
        long = [await client.create(**LONG) for _ in range(3)]
        await client.running(long[0].id)
        made = await client.create()
        events = client.watch(made.id)

        async def next_one(wanted: Callable[[job_pb2.Job], bool]) -> job_pb2.Job:
            async with asyncio.timeout(DEADLINE_S):
                async for event in events:
                    assert event.progress.state == PENDING, event
                    if wanted(event.progress):
                        return event.progress
            raise AssertionError("the watch ended")

        first = await next_one(lambda job: job.HasField("eta"))
        later = await next_one(lambda job: job.eta.ToTimedelta() != first.eta.ToTimedelta())
        assert later.revision == first.revision
        await client.cancel(long[2].id)
        moved = await next_one(lambda job: job.queue_position < later.queue_position)
        assert moved.revision == first.revision
        for job in (*long[:2], made):
            await client.cancel(job.id)


async def test_a_deadline_ends_a_waiting_job_and_a_running_one(one: House) -> None:
    async with jobs(one) as client:
        running = await client.create(**LONG, deadline=Duration(seconds=2))
        waiting = await client.create(deadline=Duration(seconds=1))
        for job in (running, waiting):
            ended = await client.end_of(job.id)
            assert (ended.state, len(ended.images)) == (EXPIRED, 0)
        assert (await client.end_of((await client.create()).id)).state == SUCCEEDED


async def test_jobs_are_listed_newest_first_page_by_page(idle: House) -> None:
    async with jobs(idle, client="lister") as client:
        made = []
        for _ in range(5):
            made.append((await client.create()).id)
            await client.cancel(made[-1])
        seen, token = [], ""
        while True:
            page = await client.list(page_size=2, page_token=token)
            seen += [job.id for job in page.jobs]
            token = page.next_page_token
            if not token:
                break
        assert seen == made[::-1]
        assert not (await client.list(states=[SUCCEEDED])).jobs
        assert len((await client.list(states=[SUCCEEDED, CANCELLED])).jobs) == 5
        for fields, code in (
            ({"page_size": 0}, "OPTION_OUT_OF_RANGE"),
            ({"page_size": 101}, "OPTION_OUT_OF_RANGE"),
            ({"page_token": "one"}, "PAGE_TOKEN_INVALID"),
            ({"page_token": "9" * 400}, "PAGE_TOKEN_INVALID"),
            ({"states": [99]}, "OPTION_OUT_OF_RANGE"),
        ):
            assert (await refused(client.list(**fields)))[0] == code


async def test_a_client_that_goes_leaves_its_job_to_be_finished(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(images=4, width=256, height=256)
        async for _ in client.watch(made.id):
            break
    async with jobs(one) as client:
        assert (await client.end_of(made.id)).state == SUCCEEDED


async def test_the_model_says_what_it_is(one: House) -> None:
    async with jobs(one) as client:
        reply = await client.stub.GetModel(generator_pb2.GetModelRequest(), timeout=DEADLINE_S)
    assert (reply.model.kind, reply.model.name) == (model_pb2.MODEL_KIND_GENERATOR, "tiny-generator")
    assert reply.model.engine.startswith("onnxruntime ")
    assert '"guidance"' in reply.model.manifest_json


def test_what_is_over_is_forgotten_with_its_images() -> None:
    async def make(made: House) -> str:
        async with jobs(made) as client:
            job = await client.end_of((await client.create("r", seed=1)).id)
            assert job.state == SUCCEEDED
            return str(job.id)

    async def gone(made: House, id_: str) -> None:
        async with jobs(made) as client:
            assert (await refused(client.get(id_)))[0] == "JOB_NOT_FOUND"
            assert not (await client.list()).jobs
            # Its request id is free again.
            assert (await client.create("r", seed=2)).id != id_

    with house(TTL_S="0.5") as made:
        id_ = asyncio.run(make(made))
        until(lambda: not list(made.images.rglob("*.png")))
        asyncio.run(gone(made, id_))


def test_the_oldest_jobs_make_room_for_new_ones() -> None:
    async def three(made: House) -> list[str]:
        async with jobs(made) as client:
            ids = []
            for _ in range(3):
                ids.append((await client.create()).id)
                await client.cancel(ids[-1])
            async with asyncio.timeout(DEADLINE_S):
                while len(listed := [job.id for job in (await client.list()).jobs]) > 2:
                    await asyncio.sleep(0.05)  # upkeep comes round by itself
            assert listed == ids[:0:-1]
            return ids

    with house(workers=0, KEPT_PER_CLIENT="2") as made:
        asyncio.run(three(made))


KEYS = {name: f"{name}-key-0123456789" for name in ("anna", "ben", "root")}


def test_an_admin_key_sees_whose_jobs_there_are() -> None:
    async def check(made: House) -> None:
        async with grpc.aio.insecure_channel(made.address) as channel:
            anna, ben, root = (Jobs(channel, key=KEYS[name]) for name in KEYS)
            job = await anna.create()
            assert (job.client, (await anna.get(job.id)).client) == ("", "")
            assert (await refused(ben.get(job.id)))[0] == "JOB_NOT_FOUND"
            assert (await root.get(job.id)).client == "anna"
            assert [each.client for each in (await root.list()).jobs] == ["anna"]
            # Only an admin's key may speak for others.
            assert (await refused(Jobs(channel, "anna", key=KEYS["ben"]).get(job.id)))[0] == "JOB_NOT_FOUND"
            assert (await Jobs(channel, "anna", key=KEYS["root"]).get(job.id)).client == ""
            assert (await refused(Jobs(channel, "ben", key=KEYS["root"]).get(job.id)))[0] == "JOB_NOT_FOUND"
            assert (await refused(Jobs(channel, "%00", key=KEYS["root"]).get(job.id)))[0] == "REQUEST_MALFORMED"
            assert (await refused(Jobs(channel, key="wrong").get(job.id)))[0] == "API_KEY_INVALID"

    keys = ",".join(f"{name}:{key}" for name, key in KEYS.items()) + ":admin"
    with house(workers=0, env_MIRAGE_API_KEYS=keys) as made:
        asyncio.run(check(made))


def test_only_workers_load_an_engine(one: House) -> None:
    def engines(process: "subprocess.Popen[bytes] | None") -> set[str]:
        assert process is not None
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        return {name for name in ("onnxruntime", "openvino") if f"/{name}/" in loaded}

    assert engines(one.api) == set()
    assert "onnxruntime" in engines(one.workers[0])


def test_the_mark_can_be_switched_off_by_the_operator_alone() -> None:
    async def visible(made: House) -> bool:
        async with jobs(made) as client:
            job = await client.create()
            await client.end_of(job.id)
            said = read_provenance(await client.image(job.id))
            assert said is not None
            return said.visible_mark

    with house(VISIBLE_MARK="false") as made:
        assert asyncio.run(visible(made)) is False


def test_neither_part_starts_with_a_damaged_bundle(tmp_path: Path) -> None:
    broken = shutil.copytree(TINY, tmp_path / "bundle")
    (broken / "tokenizer.json").write_text("{}")
    with house(workers=0, api=False, BUNDLE=str(broken)) as made:
        made.start_api(wait=False)
        assert made.api is not None
        assert made.start_worker(wait=False).wait(DEADLINE_S) == made.api.wait(DEADLINE_S) == 1
        for part in ("api", "worker"):
            assert "BUNDLE_INVALID" in made.log(part)
