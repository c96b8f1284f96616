import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from mirage_core.errors import Code, MirageError
from mirage_encoder.batching import Batcher
from tests.support.waiting import until_async as until

DEADLINE_S = 10


class Doubler:
    """Doubles numbers and remembers the batches; holds the first one until `release` is set, fails on negatives."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Event()
        self.release = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.started.set()
        if not self.release.wait(DEADLINE_S):
            raise TimeoutError
        if any(item < 0 for item in items):
            raise MirageError(Code.MODEL_FAILED)
        return [item * 2 for item in items]


@asynccontextmanager
async def batching(work: Doubler, **options: Any) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(work, name="test", **{"max_batch": 8, "queue_limit": 16, **options})
    try:
        yield batcher
    finally:
        work.release.set()
        await batcher.close()


async def busy(work: Doubler, batcher: Batcher[int, int]) -> "asyncio.Task[Any]":
    """A first item that runs, so that what comes next waits."""
    task = asyncio.create_task(batcher.run([0]))
    await until(work.started.is_set)
    return task


async def test_results_come_in_the_order_of_the_items() -> None:
    work = Doubler()
    work.release.set()
    async with batching(work, max_batch=2) as batcher:
        results = await batcher.run([1, 2, 3, 4, 5])
    assert [result.value for result in results] == [2, 4, 6, 8, 10]
    assert work.batches == [[1, 2], [3, 4], [5]]


async def test_requests_that_wait_share_a_batch() -> None:
    work = Doubler()
    async with batching(work) as batcher:
        first = await busy(work, batcher)
        others = [asyncio.create_task(batcher.run([number])) for number in (1, 2, 3)]
        await until(lambda: batcher.waiting == 3)
        work.release.set()
        values = [result[0].value for result in await asyncio.gather(first, *others)]
    assert values == [0, 2, 4, 6]
    assert work.batches == [[0], [1, 2, 3]]


async def test_groups_do_not_mix() -> None:
    work = Doubler()
    async with batching(work, group=lambda item: item % 2) as batcher:
        first = await busy(work, batcher)
        rest = asyncio.create_task(batcher.run([1, 2, 3, 4]))
        await until(lambda: batcher.waiting == 4)
        work.release.set()
        await asyncio.gather(first, rest)
    assert work.batches == [[0], [1, 3], [2, 4]]


async def test_a_bad_item_fails_alone() -> None:
    work = Doubler()
    work.release.set()
    async with batching(work) as batcher:
        outcomes = await batcher.gather([1, -1, 2])
    assert [getattr(outcome, "value", None) for outcome in outcomes] == [2, None, 4]
    assert isinstance(outcomes[1], MirageError)


async def test_the_first_failure_is_raised() -> None:
    work = Doubler()
    work.release.set()
    async with batching(work) as batcher:
        with pytest.raises(MirageError) as error:
            await batcher.run([1, -1])
        assert error.value.code is Code.MODEL_FAILED
        assert [result.value for result in await batcher.run([3])] == [6]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_full_queue_refuses_one_and_many_alike(count: int) -> None:
    work = Doubler()
    async with batching(work, queue_limit=4) as batcher:
        first = await busy(work, batcher)
        waiting = asyncio.create_task(batcher.run([1, 2, 3, 4]))
        await until(lambda: batcher.waiting == 4)
        with pytest.raises(MirageError) as error:
            await batcher.run(list(range(count)))
        assert error.value.code is Code.QUEUE_FULL
        assert error.value.retry_after_s is not None
        work.release.set()
        await asyncio.gather(first, waiting)
        assert [result.value for result in await batcher.run([5])] == [10]


async def test_a_request_gets_in_whole_or_not_at_all() -> None:
    work = Doubler()
    async with batching(work, queue_limit=4) as batcher:
        first = await busy(work, batcher)
        with pytest.raises(MirageError):
            await batcher.run([1, 2, 3, 4, 5])
        assert batcher.waiting == 0
        work.release.set()
        await first


async def test_a_cancelled_request_does_not_run_and_frees_its_place() -> None:
    work = Doubler()
    async with batching(work) as batcher:
        first = await busy(work, batcher)
        gone = asyncio.create_task(batcher.run([7]))
        await until(lambda: batcher.waiting == 1)
        gone.cancel()
        await asyncio.wait([gone])
        assert batcher.waiting == 0
        work.release.set()
        await first
        await batcher.run([1])
    assert work.batches == [[0], [1]]


async def test_waiting_and_running_are_timed() -> None:
    work = Doubler()
    async with batching(work) as batcher:
        first = await busy(work, batcher)
        second = asyncio.create_task(batcher.run([1]))
        await until(lambda: batcher.waiting == 1)
        work.release.set()
        (ran,), (waited,) = await asyncio.gather(first, second)
    assert ran.run_ms > 0
    assert waited.queue_ms > 0


async def test_what_waits_or_runs_at_the_end_is_cancelled() -> None:
    work = Doubler()
    async with batching(work) as batcher:
        first = await busy(work, batcher)
        waiting = asyncio.create_task(batcher.run([1]))
        await until(lambda: batcher.waiting == 1)
        closing = asyncio.create_task(batcher.close())
        with pytest.raises(MirageError) as error:
            await waiting
        assert error.value.code is Code.CANCELLED
        with pytest.raises(MirageError):
            await first
        work.release.set()
        await closing


async def test_operators_see_what_waits_and_what_runs() -> None:
    def seen() -> tuple[float | None, ...]:
        return tuple(
            REGISTRY.get_sample_value(f"mirage_queue_{kind}", {"queue": "test"}) for kind in ("waiting", "running")
        )

    work = Doubler()
    async with batching(work) as batcher:
        first = await busy(work, batcher)
        others = [asyncio.create_task(batcher.run([number])) for number in (1, 2, 3)]
        await until(lambda: batcher.waiting == 3)
        assert seen() == (3, 1)
        others[0].cancel()
        await until(lambda: seen() == (2, 1))
        work.release.set()
        await asyncio.gather(first, *others[1:])
        assert seen()[0] == 0
    assert seen() == (0, 0)
