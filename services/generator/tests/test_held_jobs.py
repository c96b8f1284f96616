"""A worker's hold on a job, on a real queue: an answer of Redis that is lost loses nothing else, and a sweep holds nothing up."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from mirage_core.errors import Code, MirageError
from mirage_generator import runner
from mirage_generator.agreement import AgreementCheck
from mirage_generator.estimates import work_of
from mirage_generator.heartbeat import Heartbeat
from mirage_generator.image_folder import ImageFolder
from mirage_generator.job_validator import AcceptedJob
from mirage_generator.jobs import AspectCheck, Claim, Job, JobImage, Origin, Priority, Spec, State
from mirage_generator.runner import Making, Runner
from mirage_generator.store.connection import connect
from mirage_generator.store.jobs import JobStore, StoreLimits
from mirage_generator.tickets import TicketQueue, make_app
from mirage_generator.upkeep import Upkeep
from mirage_inference.bundles import Draws
from mirage_inference.generator.model import GeneratorModel
from mirage_inference.generator.pipeline import Pixels
from tests.support.generator_process import house
from tests.support.waiting import PATIENCE_S

BOUNDS = StoreLimits(queue=10, per_client=10, kept_per_client=10, ttl_s=60.0, attempts=2, lease_s=10.0)
SPEC = Spec("axial brain", "", 1, 1.0, 7, 64, 64, 1, Priority.INTERACTIVE, 600.0)
ID = "job1"


@dataclass(frozen=True)
class Queue:
    """A Redis of the test's own, with one job that waits."""

    url: str

    @property
    def redis(self) -> "redis.Redis":
        return connect(self.url)

    def store(self, kind: type[JobStore] = JobStore, **bounds: int) -> JobStore:
        return kind(self.redis, replace(BOUNDS, **bounds))

    def job(self) -> Job:
        found = self.store().get(ID)
        assert found is not None
        return found


@pytest.fixture
def queue() -> Iterator[Queue]:
    with house(workers=0, api=False) as made:
        found = Queue(f"unix://{made.socket}")
        found.store().create(
            ID,
            client="anna",
            request_id="",
            digest="",
            accepted=AcceptedJob(SPEC, 4, prompt_truncated=False),
            work=work_of(SPEC, two_passes=False),
            fingerprint="f",
            origin=Origin("call", ""),
        )
        yield found


def test_a_claim_that_the_connection_sends_again_is_the_same_attempt(queue: Queue) -> None:
    store = queue.store(attempts=1)
    first = store.claim("t", worker="w", fingerprint="f")
    assert first is not None
    queue.redis.zadd("mirage:running", {ID: 1})
    assert store.claim("t", worker="w", fingerprint="f") == first
    assert queue.redis.hget(f"mirage:job:{ID}", "attempts") == b"1"
    # Its lease begins again.
    assert (queue.redis.zscore("mirage:running", ID) or 0) > 1
    assert store.finish(first, [])
    assert queue.job().state is State.SUCCEEDED


def test_a_ticket_that_another_worker_brings_again_is_another_attempt(queue: Queue) -> None:
    store = queue.store()
    first, second = (store.claim("t", worker=worker, fingerprint="f") for worker in ("w1", "w2"))
    assert first is not None
    assert second is not None
    assert second.fence == first.fence + 1
    assert (store.alive(first), store.alive(second)) == (False, True)
    assert store.claim("t", worker="w3", fingerprint="f") is None
    failure = queue.job().failure
    assert failure is not None
    assert failure.code == Code.WORKER_LOST


def test_a_job_whose_time_is_over_is_not_held_by_asking_again(queue: Queue) -> None:
    store = queue.store()
    assert store.claim("t", worker="w", fingerprint="f") is not None
    queue.redis.hset(f"mirage:job:{ID}", "deadline_time", 1)
    assert store.claim("t", worker="w", fingerprint="f") is None
    assert queue.job().state is State.EXPIRED


class Mute(JobStore):
    """A store that hears that a job is done, and whose answers are lost."""

    def finish(self, claim: Claim, images: Sequence[JobImage]) -> bool:
        super().finish(claim, images)
        raise MirageError(Code.DEPENDENCY_UNAVAILABLE, service="queue")


class Late(JobStore):
    """A store whose job was cancelled just before it is done."""

    def finish(self, claim: Claim, images: Sequence[JobImage]) -> bool:
        self.cancel(claim.id)
        return super().finish(claim, images)


@pytest.mark.parametrize(("kind", "state", "files"), [(Mute, State.SUCCEEDED, 1), (Late, State.CANCELLED, 0)])
def test_images_go_only_where_they_are_surely_nobodys(
    queue: Queue,
    make_model: Callable[..., GeneratorModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[JobStore],
    state: State,
    files: int,
) -> None:
    monkeypatch.setattr(runner, "_KEEP_TRYING_S", 0.0)
    store = queue.store(kind)
    folder = ImageFolder(tmp_path)
    heartbeat = Heartbeat(store, worker="w", engine="oracle", lease_s=BOUNDS.lease_s)
    making = Making("w", threads=1, tiny_decoder=False, visible_mark=False)
    Runner(store, folder, make_model(), heartbeat, making, stopping=lambda: False, issue_ticket=lambda: None).take("t")
    job = queue.job()
    assert job.state is state
    assert len(list(tmp_path.rglob("*.png"))) == len(job.images) == files
    assert all(folder.path(image.sha256).exists() for image in job.images)


def test_a_worker_declines_what_its_own_bundle_cannot_draw(
    queue: Queue, make_model: Callable[..., GeneratorModel], tmp_path: Path
) -> None:
    store = queue.store()
    heartbeat = Heartbeat(store, worker="w", engine="oracle", lease_s=BOUNDS.lease_s)
    making = Making("w", threads=1, tiny_decoder=False, visible_mark=False)
    model = make_model(draws=Draws(about="chests", words=frozenset({"chest"})))
    folder = ImageFolder(tmp_path)
    Runner(store, folder, model, heartbeat, making, stopping=lambda: False, issue_ticket=lambda: None).take("t")
    failure = queue.job().failure
    assert failure is not None
    assert (failure.code, failure.metadata["about"]) == (Code.PROMPT_OUTSIDE, "chests")
    assert list(tmp_path.rglob("*.png")) == []


class Seeing(AgreementCheck):
    """A check whose encoder sees a T2."""

    def __init__(self) -> None:
        pass

    def look(self, pixels: Pixels, prompt: str) -> tuple[AspectCheck, ...] | None:
        return (AspectCheck("sequence", "t1", "t2"),) if prompt and pixels.size else None


class Blind(Seeing):
    """A check whose encoder does not answer."""

    def look(self, pixels: Pixels, prompt: str) -> tuple[AspectCheck, ...] | None:
        return None


@pytest.mark.parametrize("kind", [Seeing, Blind])
def test_what_the_encoder_sees_is_kept_with_the_image_and_never_fails_a_job(
    queue: Queue, make_model: Callable[..., GeneratorModel], tmp_path: Path, kind: type[Seeing]
) -> None:
    store, folder = queue.store(), ImageFolder(tmp_path)
    heartbeat = Heartbeat(store, worker="w", engine="oracle", lease_s=BOUNDS.lease_s)
    making = Making("w", threads=1, tiny_decoder=False, visible_mark=False)
    Runner(
        store,
        folder,
        make_model(),
        heartbeat,
        making,
        stopping=lambda: False,
        issue_ticket=lambda: None,
        agreement=kind(),
    ).take("t")
    (image,) = queue.job().images
    assert image.checked is (kind is Seeing)
    assert image.checks == ((AspectCheck("sequence", "t1", "t2"),) if kind is Seeing else ())


class Endless(ImageFolder):
    """A folder that takes as long to go through as the test wants."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.end = threading.Event(), threading.Event()

    def remove_orphans(self, *_: object, **__: object) -> int:
        self.begun.set()
        self.end.wait()
        return 0


async def test_leases_are_kept_while_a_sweep_takes_its_time(queue: Queue, tmp_path: Path) -> None:
    folder, tickets = Endless(tmp_path), TicketQueue(make_app(queue.url, longest_s=60))
    seen = asyncio.Event()

    async def tell(_answers: bool, _workers: int) -> None:
        if folder.begun.is_set() and queue.job().state is State.EXPIRED:
            seen.set()

    queue.redis.hset(f"mirage:job:{ID}", "deadline_time", 1)
    queue.redis.zadd("mirage:deadlines", {ID: 1})
    keeping = asyncio.create_task(Upkeep(queue.store(), tickets, folder, lease_s=BOUNDS.lease_s).run(tell))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await seen.wait()
    finally:
        folder.end.set()
        keeping.cancel()
