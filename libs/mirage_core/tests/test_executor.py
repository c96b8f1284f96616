import asyncio
import threading

import pytest
from prometheus_client import REGISTRY

from mirage_core.errors import Code, MirageError
from mirage_core.executor import BoundedExecutor


async def test_a_full_queue_refuses_at_once_and_says_when_to_try_again() -> None:
    executor = BoundedExecutor(workers=1, queue_limit=1, name="test")
    release = threading.Event()
    running = asyncio.create_task(executor.run(release.wait))
    waiting = asyncio.create_task(executor.run(release.wait))
    await asyncio.sleep(0)
    with pytest.raises(MirageError) as caught:
        await executor.run(release.wait)
    release.set()
    await asyncio.gather(running, waiting)
    assert caught.value.code is Code.QUEUE_FULL
    assert caught.value.retry_after_s is not None
    executor.close()


async def test_places_are_free_again_after_failures() -> None:
    executor = BoundedExecutor(workers=1, queue_limit=0, name="test")

    def fail() -> None:
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            await executor.run(fail)
        # The place is given back by a callback of the thread's future.
        await asyncio.to_thread(int)
        await asyncio.sleep(0)
    assert (await executor.run(lambda: 7)).value == 7
    executor.close()


async def test_a_cancelled_call_that_waits_never_starts() -> None:
    executor = BoundedExecutor(workers=1, queue_limit=1, name="test")
    release, started = threading.Event(), threading.Event()
    running = asyncio.create_task(executor.run(release.wait))
    waiting = asyncio.create_task(executor.run(started.set))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release.set()
    await running
    await executor.run(int)
    assert not started.is_set()
    executor.close()


async def test_the_retry_time_follows_what_calls_take() -> None:
    executor = BoundedExecutor(workers=1, queue_limit=4, name="test", typical_ms=60_000)
    assert executor.retry_after_s() == 0.1
    await executor.run(int)
    release = threading.Event()
    running = asyncio.create_task(executor.run(release.wait))
    await asyncio.sleep(0)
    assert executor.retry_after_s() < 1
    release.set()
    await running
    executor.close()


async def test_operators_see_what_waits_and_what_runs() -> None:
    def seen() -> tuple[float | None, ...]:
        return tuple(
            REGISTRY.get_sample_value(f"mirage_queue_{kind}", {"queue": "seen"}) for kind in ("waiting", "running")
        )

    executor = BoundedExecutor(workers=1, queue_limit=2, name="seen")
    release = threading.Event()
    calls = [asyncio.create_task(executor.run(release.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    assert seen() == (2, 1)
    release.set()
    await asyncio.gather(*calls)
    assert seen() == (0, 0)
    executor.close()
