"""A plain Stable Diffusion over real gRPC, with a real queue and a real worker."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mirage_protos.v1 import job_pb2
from tests.support.generator_process import House, details, house, jobs
from tests.support.oracle_generator import PLAIN
from tests.support.paths import TINY_GENERATOR as TINY

INTERACTIVE, BATCH = job_pb2.JOB_PRIORITY_INTERACTIVE, job_pb2.JOB_PRIORITY_BATCH


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, run as a plain Stable Diffusion."""
    made = Path(shutil.copytree(TINY, tmp_path_factory.mktemp("plain") / "bundle"))
    path = made / "manifest.json"
    changes = {
        "schedule": PLAIN.model_dump(mode="json"),
        "steps": {"least": 10, "most": 50, "default": 25},
        "guidance": {"least": 1, "most": 15, "default": 7.5},
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return made


@pytest.fixture(scope="module")
def one(bundle: Path) -> Iterator[House]:
    """The service with one worker."""
    with house(BUNDLE=str(bundle)) as made:
        yield made


async def test_dozens_of_steps_are_made_and_followed_with_a_negative_prompt(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(negative_prompt="kidney", seed=3, priority=INTERACTIVE)
        assert (made.request.steps, made.request.guidance_scale, made.request.priority) == (25, 7.5, BATCH)
        events = [event async for event in client.watch(made.id, previews=True)]
        done = events[-1].done
        assert (done.state, done.step, done.steps) == (job_pb2.JOB_STATE_SUCCEEDED, 25, 25)
        assert any(event.HasField("preview") for event in events)
        other = await client.end_of((await client.create(seed=3)).id)
        assert other.images[0].sha256 != done.images[0].sha256


async def test_a_job_is_cancelled_between_two_steps(one: House) -> None:
    async with jobs(one) as client:
        made = await client.create(width=768, height=768, steps=50, images=4)
        await client.running(made.id, step=2)
        ended = await client.cancel(made.id)
        assert ended.state == job_pb2.JOB_STATE_CANCELLED
        assert 2 <= ended.step < 200
        # The worker is free for the next one.
        assert (await client.end_of((await client.create(steps=10)).id)).state == job_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("steps", [9, 51])
async def test_steps_out_of_the_models_range_are_refused(one: House, steps: int) -> None:
    async with jobs(one) as client:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.create(steps=steps)
        code, metadata, _ = details(refused.value)
        assert (code, metadata["field"]) == ("OPTION_OUT_OF_RANGE", "steps")


async def test_a_slow_job_does_not_stand_before_one_that_somebody_waits_for(bundle: Path) -> None:
    with house(workers=0, BUNDLE=str(bundle)) as slow, house(workers=0, REDIS=slow.settings["REDIS"]) as quick:
        async with jobs(slow) as first, jobs(quick) as second:
            waiting = await first.create(priority=INTERACTIVE)
            asked = await second.create()
            assert asked.request.priority == INTERACTIVE
            assert (await second.get(asked.id)).queue_position == 0
            assert (await first.get(waiting.id)).queue_position == 1
