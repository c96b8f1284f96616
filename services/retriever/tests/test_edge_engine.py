"""The embedded engine's own business: processes that die, graphs that are built while everything goes on."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import Collection, Filter, Graph, Nearest, Point, Space
from mirage_retriever.engines.edge.activity import Activity
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.processes import ProcessLostError
from mirage_retriever.engines.edge.shard import ShardPolicy
from tests.support.waiting import until_async as until

DIMENSION = 32
# 100 KB of vectors of 32 components: a graph from 800 points on.
GRAPH = Graph(indexing_threshold_kb=100)


def make(path: Path, *, quiet_s: float = 3600, wait_s: float = 20, hang_s: float = 0.5) -> EdgeEngine:
    policy = ShardPolicy(
        restart_wait_s=wait_s,
        queue_limit=64,
        build_quiet_s=quiet_s,
        build_share=0.1,
        build_points=100_000,
        hang_s=hang_s,
    )
    return EdgeEngine(path, facets=("plane",), policy=policy, graph=GRAPH)


async def created(path: Path, **options: float) -> EdgeEngine:
    engine = make(path, **options)
    assert await engine.open() is None
    await engine.create(Collection(name="test", dimension=DIMENSION, fingerprint="f" * 64))
    return engine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EdgeEngine]:
    engine = await created(tmp_path / "edge")
    yield engine
    await engine.close()


def vectors(count: int, *, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    units: np.ndarray = values / np.linalg.norm(values, axis=1, keepdims=True)
    return units


def points(count: int, *, seed: int = 0, first: int = 0) -> list[Point]:
    return [
        Point(f"p{first + n:05}", vector, vector, "{}", {"plane": ("axial",)}, "a" * 64)
        for n, vector in enumerate(vectors(count, seed=seed))
    ]


async def nearest(engine: EdgeEngine, vector: np.ndarray, k: int = 1) -> list[str]:
    [hits] = await engine.search([Nearest(vector, Space.IMAGE, k)])
    return [hit.id for hit in hits]


def builders() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if "mirage_retriever.engines.edge.builder" in " ".join(child.cmdline())]


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    engine = await created(tmp_path)
    await engine.upsert(points(100))
    await engine.close()
    again = make(tmp_path)
    collection = await again.open()
    assert collection == Collection(name="test", dimension=DIMENSION, fingerprint="f" * 64)
    assert (await again.status()).records == 100
    await again.close()


async def test_a_search_finds_a_record_as_it_was_written_last_and_none_that_was_deleted(engine: EdgeEngine) -> None:
    before = points(3)
    await engine.upsert(before)
    request = Nearest(before[0].image, Space.IMAGE, 3)
    [hits] = await engine.search([request])
    assert {hit.record for hit in hits} == {"{}"}
    await engine.upsert([replace(before[0], record='{"changed":1}')])
    await engine.delete([before[1].id])
    for _ in range(2):
        [hits] = await engine.search([request])
        assert {hit.id: hit.record for hit in hits} == {before[0].id: '{"changed":1}', before[2].id: "{}"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_searcher_does_not_hold_the_pages_of_its_index_files(engine: EdgeEngine) -> None:
    await engine.upsert(points(100))
    assert await engine.facets(["plane"], Filter(), 10) == {"plane": [("axial", 100)]}
    [pid] = engine.searcher_pids
    held = [part.pss for part in psutil.Process(pid).memory_maps() if "/payload_index/" in part.path]
    assert len(held) > 10
    assert sum(held) < 10 * 2**20


async def test_a_path_has_one_engine_at_a_time(engine: EdgeEngine, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        await make(tmp_path / "edge").open()


async def test_calls_wait_for_a_searcher_that_was_killed(engine: EdgeEngine) -> None:
    await engine.upsert(points(100))
    [pid] = engine.searcher_pids
    os.kill(pid, signal.SIGKILL)
    assert await nearest(engine, points(1)[0].image) == ["p00000"]
    assert (await engine.status()).records == 100
    assert engine.searcher_pids != [pid]


async def test_writes_under_way_at_a_kill_are_finished_on_the_next_searcher(engine: EdgeEngine) -> None:
    writing = asyncio.create_task(engine.upsert(points(3_000)))
    [pid] = engine.searcher_pids
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    await writing
    assert (await engine.status()).records == 3_000


async def test_without_a_searcher_in_time_calls_fail_and_may_be_tried_again(tmp_path: Path) -> None:
    engine = await created(tmp_path, wait_s=0.05)
    [pid] = engine.searcher_pids
    process = psutil.Process(pid)
    process.kill()
    await until(lambda: not engine.searcher_pids or not process.is_running())
    with pytest.raises(MirageError) as caught:
        await engine.status()
    assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
    assert caught.value.retry_after_s
    await until(lambda: engine.searcher_pids not in ([], [pid]))
    await engine.close()


async def test_calls_wait_for_a_searcher_that_is_frozen(engine: EdgeEngine) -> None:
    await engine.upsert(points(100))
    [pid] = engine.searcher_pids
    os.kill(pid, signal.SIGSTOP)
    writing = asyncio.create_task(engine.upsert(points(1, seed=3, first=500)))
    assert await asyncio.gather(*(nearest(engine, points(1)[0].image) for _ in range(10))) == [["p00000"]] * 10
    await writing
    assert (await engine.status()).records == 101
    assert engine.searcher_pids != [pid]


async def test_a_frozen_searcher_is_replaced_when_nobody_asks_it_anything(engine: EdgeEngine) -> None:
    [pid] = engine.searcher_pids
    assert engine.answers
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: not engine.answers)
    await until(lambda: engine.answers)
    assert engine.searcher_pids != [pid]


async def test_a_frozen_searcher_is_replaced_when_its_callers_have_left(engine: EdgeEngine) -> None:
    [pid] = engine.searcher_pids
    os.kill(pid, signal.SIGSTOP)
    callers = [asyncio.create_task(engine.status()) for _ in range(3)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await until(lambda: engine.searcher_pids not in ([], [pid]) and engine.answers)
    assert (await engine.status()).records == 0


@pytest.mark.parametrize(
    ("hang_s", "code"),
    [(2.0, Code.DEPENDENCY_UNAVAILABLE), (600.0, Code.DEADLINE_EXCEEDED)],
    ids=["noticed", "not yet"],
)
async def test_a_caller_of_a_frozen_searcher_gets_a_code_before_its_deadline(
    tmp_path: Path, hang_s: float, code: Code
) -> None:
    engine = await created(tmp_path, hang_s=hang_s)
    [pid] = engine.searcher_pids
    os.kill(pid, signal.SIGSTOP)

    async def asked() -> Code:
        context.deadline.set(time.monotonic() + 1.9)
        with pytest.raises(MirageError) as caught:
            await engine.status()
        return caught.value.code

    assert await asyncio.create_task(asked()) is code
    os.kill(pid, signal.SIGCONT)
    assert (await engine.status()).records == 0
    await engine.close()


async def test_a_searcher_that_does_not_come_back_is_not_waited_for_by_every_caller(tmp_path: Path) -> None:
    engine = await created(tmp_path, wait_s=1)
    generation = next((tmp_path / "shards" / "0").glob("g*"))
    generation.rename(generation.with_name("away"))
    [pid] = engine.searcher_pids
    os.kill(pid, signal.SIGKILL)
    codes = []
    for _ in range(50):
        with pytest.raises(MirageError) as caught:
            await engine.status()
        codes.append(caught.value.code)
    # Of 50 waits of a second each, only the first is one: the rest would take most of a minute.
    assert set(codes) == {Code.DEPENDENCY_UNAVAILABLE}
    generation.with_name("away").rename(generation)
    await until(lambda: engine.answers)
    assert (await engine.status()).records == 0
    await engine.close()


async def test_a_builder_that_freezes_is_given_up_and_writes_go_on(tmp_path: Path) -> None:
    engine = await created(tmp_path, hang_s=0.2)
    await engine.upsert(points(2_000))
    building = asyncio.create_task(engine.rebuild())
    await until(lambda: bool(builders()))
    for process in builders():
        process.suspend()
    await engine.upsert(points(1, seed=9, first=5_000))
    with pytest.raises(ProcessLostError):
        await building
    assert (await engine.status()).records == 2_001
    await engine.rebuild()
    assert (await engine.status()).records == 2_001
    await engine.close()


async def test_a_builder_that_freezes_in_the_making_of_a_collection_is_reported(tmp_path: Path) -> None:
    engine = make(tmp_path, hang_s=0.2)
    assert await engine.open() is None
    making = asyncio.create_task(engine.create(Collection(name="test", dimension=DIMENSION, fingerprint="f" * 64)))
    await until(lambda: bool(builders()))
    for process in builders():
        process.suspend()
    with pytest.raises(MirageError) as caught:
        await making
    assert caught.value.code is Code.DEPENDENCY_UNAVAILABLE
    await engine.create(Collection(name="test", dimension=DIMENSION, fingerprint="f" * 64))
    assert (await engine.status()).records == 0
    await engine.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells")
@pytest.mark.parametrize(
    ("program", "works"),
    [
        ("while True: pass", True),
        ("import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()", False),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", False),
    ],
    ids=["busy", "deadlocked", "stopped"],
)
async def test_a_process_that_works_is_told_from_one_that_hangs(program: str, works: bool) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    try:
        activity = Activity(process.pid)
        if works:
            for _ in range(20):
                await asyncio.sleep(0.05)
                assert activity.seen()
        else:
            await until(lambda: not activity.seen())
    finally:
        process.kill()
        await process.wait()


async def test_too_many_waiting_calls_are_refused_and_the_rest_answered(engine: EdgeEngine) -> None:
    answers = await asyncio.gather(*(engine.status() for _ in range(200)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, MirageError)]
    assert refused
    assert {error.code for error in refused} == {Code.QUEUE_FULL}
    assert len(answers) - len(refused) >= 60
    assert (await engine.status()).records == 0


async def test_a_caller_that_goes_away_harms_no_other(engine: EdgeEngine) -> None:
    await engine.upsert(points(50))
    for _ in range(20):
        task = asyncio.create_task(nearest(engine, points(1)[0].image))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await nearest(engine, points(50)[7].image) == ["p00007"]


async def test_a_graph_is_built_by_itself_once_there_is_enough(tmp_path: Path) -> None:
    engine = await created(tmp_path, quiet_s=0.05)
    await engine.upsert(points(2_000))
    end = time.monotonic() + 60
    while (await engine.status()).indexed < 2_000:
        assert time.monotonic() < end, "no graph"
        await asyncio.sleep(0.05)
    everything = points(2_000)
    for point in everything[::100]:
        assert await nearest(engine, point.image) == [point.id]
    await engine.close()


async def test_searches_and_writes_go_on_while_a_graph_is_built(engine: EdgeEngine) -> None:
    await engine.upsert(points(3_000))
    building = asyncio.create_task(engine.rebuild())
    changed = points(300, seed=7, first=100)
    added = points(500, seed=8, first=3_000)
    searches = 0

    async def search() -> None:
        nonlocal searches
        sample = points(3_000)[50]
        while not building.done():
            assert await nearest(engine, sample.image) == [sample.id]
            searches += 1

    searching = asyncio.create_task(search())
    for start in range(0, 300, 20):
        await engine.upsert(changed[start : start + 20])
    for start in range(0, 500, 20):
        await engine.upsert(added[start : start + 20])
    assert await engine.delete([f"p{n:05}" for n in range(1_000, 1_200)]) == 200
    await building
    await searching
    assert searches
    status = await engine.status()
    assert status.records == 3_300
    assert status.indexed >= 2_500
    # What came during the build is in the new generation, what went is not.
    for point in (*changed[::50], *added[::50]):
        assert await nearest(engine, point.image) == [point.id]
    assert await engine.fetch([f"p{n:05}" for n in range(1_000, 1_200)]) == {}
    assert len(await nearest(engine, changed[0].image, 1_000)) == 1_000


async def test_a_build_that_dies_leaves_the_old_graph_and_no_rubbish(engine: EdgeEngine, tmp_path: Path) -> None:
    await engine.upsert(points(2_000))
    building = asyncio.create_task(engine.rebuild())

    await until(lambda: bool(builders()) or building.done())
    for process in builders():
        process.kill()
    with pytest.raises(ProcessLostError):
        await building
    assert (await engine.status()).records == 2_000
    shard = tmp_path / "edge" / "shards" / "0"
    assert sorted(path.name for path in shard.iterdir()) == ["CURRENT", "g00000001"]
    await engine.upsert(points(1, seed=9, first=5_000))
    await engine.rebuild()
    assert sorted(path.name for path in shard.iterdir()) == ["CURRENT", "g00000002"]
    assert (await engine.status()).records == 2_001


async def test_leftovers_of_a_crash_are_cleaned_at_the_start(tmp_path: Path) -> None:
    engine = await created(tmp_path)
    await engine.upsert(points(10))
    await engine.close()
    shard = tmp_path / "shards" / "0"
    (shard / "g00000002").mkdir()
    (shard / "g00000002" / "half").write_bytes(b"a copy that was cut short")
    again = make(tmp_path)
    await again.open()
    assert (await again.status()).records == 10
    assert not (shard / "g00000002").exists()
    await again.close()


async def test_a_collection_that_was_cut_short_in_the_making_is_made_again(tmp_path: Path) -> None:
    engine = await created(tmp_path)
    await engine.upsert(points(10))
    await engine.close()
    (tmp_path / "collection.json").unlink()
    again = await created(tmp_path)
    assert (await again.status()).records == 0
    await again.close()


async def test_an_operation_that_the_engine_refuses_ends_nothing(engine: EdgeEngine) -> None:
    with pytest.raises(MirageError) as caught:
        await nearest(engine, np.ones(DIMENSION + 1, np.float32))
    assert caught.value.code is Code.INTERNAL
    assert (await engine.status()).records == 0
