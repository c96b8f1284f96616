"""The jobs as their clients see them: ordered, looked at, followed, stopped, fetched."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass

from mirage_core import context, limits, telemetry, tracing
from mirage_core.errors import Code, MirageError
from mirage_core.job_options import check_job_request_id
from mirage_generator.changes import Changes
from mirage_generator.clients import Caller
from mirage_generator.estimates import Outlook, Snapshot, work_of
from mirage_generator.image_folder import ImageFolder
from mirage_generator.job_validator import JobValidator
from mirage_generator.jobs import Job, JobImage, JobRequest, Origin, Preview, State
from mirage_generator.store.jobs import JobStore
from mirage_generator.tickets import TicketQueue

PAGE_DEFAULT = 20
PAGE_MAX = 100
_ID_CHARS = 64
# The greatest age of the queue's order for places and times.
_FRESH_S = 0.2
# A watch reads the job at least this often, and reports a waiting job's time left at most this often.
_LOOK_S = 2.0
_RETRY_S = 5.0
_log = telemetry.get_logger()


@dataclass(frozen=True)
class Standing:
    """A job as it is now."""

    job: Job
    outlook: Outlook


@dataclass(frozen=True)
class Page:
    """Jobs, newest first; `next_token` is empty at the end."""

    jobs: tuple[Standing, ...]
    next_token: str


class JobService:
    """Raises catalogue errors; every method but those of images asks Redis, in threads."""

    def __init__(
        self,
        store: JobStore,
        validator: JobValidator,
        tickets: TicketQueue,
        images: ImageFolder,
        changes: Changes,
        *,
        fingerprint: str,
        two_passes: bool,
    ) -> None:
        self._store = store
        self._validator = validator
        self._tickets = tickets
        self._images = images
        self._changes = changes
        self._fingerprint = fingerprint
        self._two_passes = two_passes
        self._snapshot: Snapshot | None = None
        self._snapshot_at = 0.0
        self._snapshot_of = -1
        self._snapshot_turn = asyncio.Lock()

    async def create(self, order: JobRequest, request_id: str, caller: Caller) -> Standing:
        """Puts a job in the queue, or gives the one that this request made before.

        Raises what JobValidator.accept does, REQUEST_ID_REUSED, TOO_MANY_JOBS and QUEUE_FULL.
        """
        check_job_request_id(request_id)
        accepted = self._validator.accept(order)
        try:
            with tracing.span("job.enqueue", tracing.Kind.PRODUCER) as span:
                outcome, id_ = await asyncio.to_thread(
                    self._store.create,
                    secrets.token_hex(12),
                    client=caller.name,
                    request_id=request_id,
                    digest=order.digest(),
                    accepted=accepted,
                    work=work_of(accepted.spec, two_passes=self._two_passes),
                    fingerprint=self._fingerprint,
                    origin=Origin(context.request_id.get(), span.traceparent),
                )
                span.set(job=id_, outcome=outcome)
                if outcome == "created":
                    await asyncio.to_thread(self._tickets.issue)
        except MirageError as error:
            if error.code in (Code.QUEUE_FULL, Code.TOO_MANY_JOBS):
                wait_s = (await self._queue()).wait_s()
                error.retry_after_s = _RETRY_S if wait_s is None else max(1.0, wait_s)
            raise
        _log.info("job accepted", job=id_, outcome=outcome, priority=accepted.spec.priority)
        return await self.get(id_, caller, fresh=True)

    async def get(self, id_: str, caller: Caller, *, fresh: bool = False) -> Standing:
        """The job.

        Raises JOB_NOT_FOUND, for another client's too. `fresh` looks at the queue as it is at this moment.
        """
        job = await self._find(id_, caller)
        return Standing(job, await self._outlook(job, fresh=fresh))

    async def page(self, caller: Caller, *, size: int | None, token: str, states: frozenset[State]) -> Page:
        """The caller's jobs (an admin's: all). Raises OPTION_OUT_OF_RANGE and PAGE_TOKEN_INVALID."""
        wanted = PAGE_DEFAULT if size is None else size
        if not 1 <= wanted <= PAGE_MAX:
            raise MirageError(
                Code.OPTION_OUT_OF_RANGE, field="page_size", range=f"between 1 and {PAGE_MAX}", given=str(wanted)
            )
        if token and not (token.isascii() and token.isdigit() and len(token) <= 15):
            raise MirageError(Code.PAGE_TOKEN_INVALID, field="page_token")
        jobs, following = await asyncio.to_thread(
            self._store.page,
            None if caller.all_jobs else caller.name,
            before=int(token) if token else None,
            limit=wanted,
            states=states,
        )
        standings = [Standing(job, await self._outlook(job)) for job in jobs]
        return Page(tuple(standings), "" if following is None else str(following))

    async def watch(self, id_: str, caller: Caller, *, previews: bool) -> AsyncGenerator[Standing | Preview]:
        """Yields the job now and after each change, up to its end; with previews if they are wanted.

        A new place in the queue is a change, and so is a new time left, every few seconds while it waits. Raises
        JOB_NOT_FOUND, also if the job is removed while it is watched.
        """
        loop = asyncio.get_running_loop()
        with self._changes.of(id_) as changed:
            told: Standing | None = None
            told_at = 0.0
            shown: tuple[int, int] | None = None
            while True:
                changed.clear()
                standing = await self.get(id_, caller)
                if told is None or _is_news(standing, told, after_s=loop.time() - told_at):
                    told, told_at = standing, loop.time()
                    yield standing
                if previews and standing.job.state is State.RUNNING:
                    preview = await asyncio.to_thread(self._store.preview, id_)
                    if preview is not None and (preview.index, preview.step) != shown:
                        shown = (preview.index, preview.step)
                        yield preview
                if standing.job.state.ended:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), _LOOK_S)
                except TimeoutError:
                    continue

    async def cancel(self, id_: str, caller: Caller) -> Standing:
        """Stops a job; one that has ended stays as it is. Raises JOB_NOT_FOUND."""
        await self._find(id_, caller)
        await asyncio.to_thread(self._store.cancel, id_)
        self._snapshot = None
        return await self.get(id_, caller, fresh=True)

    async def artifact(self, id_: str, index: int, caller: Caller) -> tuple[JobImage, Iterator[bytes]]:
        """An image of a job and its PNG file in pieces of 1 MiB. Raises JOB_NOT_FOUND and JOB_IMAGE_NOT_FOUND."""
        job = await self._find(id_, caller)
        image = next((each for each in job.images if each.index == index), None)
        try:
            data = None if image is None else await asyncio.to_thread(self._images.path(image.sha256).read_bytes)
        except OSError:
            # Removed in this moment, or by another client.
            data = None
        if image is None or data is None:
            raise MirageError(Code.JOB_IMAGE_NOT_FOUND, id=id_, index=index)
        return image, (data[at : at + limits.PART_BYTES] for at in range(0, len(data), limits.PART_BYTES))

    async def _find(self, id_: str, caller: Caller) -> Job:
        known = 1 <= len(id_) <= _ID_CHARS and id_.isascii() and id_.isalnum()
        job = await asyncio.to_thread(self._store.get, id_) if known else None
        if job is None or not (caller.all_jobs or job.client == caller.name):
            raise MirageError(Code.JOB_NOT_FOUND, id=id_[:_ID_CHARS])
        return job

    async def _outlook(self, job: Job, *, fresh: bool = False) -> Outlook:
        if job.state.ended:
            return Outlook(0, None)
        queue = await self._queue(fresh=fresh)
        return queue.outlooks.get(job.id) or (await self._queue(fresh=True)).outlooks.get(job.id, Outlook(0, None))

    async def _queue(self, *, fresh: bool = False) -> Snapshot:
        loop = asyncio.get_running_loop()
        async with self._snapshot_turn:
            found = self._snapshot
            changed = self._changes.of_the_queue
            if fresh or found is None or (self._snapshot_of != changed) or loop.time() - self._snapshot_at > _FRESH_S:
                self._snapshot_at, self._snapshot_of = loop.time(), changed
                found = await asyncio.to_thread(self._store.snapshot, self._fingerprint)
                self._snapshot = found
            return found


def _is_news(now: Standing, told: Standing, *, after_s: float) -> bool:
    if (now.job.revision, now.outlook.position) != (told.job.revision, told.outlook.position):
        return True
    # A running job's time left comes with its steps.
    return now.job.state is State.PENDING and after_s >= _LOOK_S and now.outlook.seconds != told.outlook.seconds
