"""Regular upkeep: jobs expire, jobs of lost workers are put back, old ones are removed, lost tickets are replaced."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from mirage_core import telemetry
from mirage_core.errors import MirageError
from mirage_generator.image_folder import SUBFOLDERS, ImageFolder
from mirage_generator.jobs import State
from mirage_generator.store.jobs import JobStore
from mirage_generator.tickets import TicketQueue

ROUND_S = 1.0
ORPHANS_S = 3600.0
# After a sweep that Redis did not answer.
_AGAIN_S = 60.0
_CHANGES = {
    "expired": "a job's time is over",
    "put back": "a job's worker is lost: the job waits again",
    "damaged": "a job's record is damaged: it is put aside",
    "given up": "a job's worker is lost once too often: the job fails",
}
_log = telemetry.get_logger()
_workers = telemetry.gauge("generator_workers", "Workers with a recent heartbeat.")
_queue = telemetry.gauge("generator_queue_jobs", "Jobs that wait (pending) and that are made (running).", ("state",))
_ended = telemetry.gauge("generator_ended_jobs", "Jobs that ended since the store began, by state.", ("state",))


class Upkeep:
    """Keeps the store in order, a round a second. Several may: each step is one script in Redis."""

    def __init__(self, store: JobStore, tickets: TicketQueue, images: ImageFolder, *, lease_s: float) -> None:
        self._store = store
        self._tickets = tickets
        self._images = images
        self._lease_s = lease_s
        self._answering_since: float | None = None

    async def run(self, report: Callable[[bool, int], Awaitable[None]]) -> None:
        """Runs until cancelled. `report` is called each round with the health of Redis and the number of live workers."""
        async with asyncio.TaskGroup() as tasks:
            # A task of its own: many images take long to check, and leases do not wait.
            tasks.create_task(self._sweeps())
            tasks.create_task(self._rounds(report))

    async def _rounds(self, report: Callable[[bool, int], Awaitable[None]]) -> None:
        while True:
            try:
                await report(True, await asyncio.to_thread(self._round))
            except MirageError as error:
                self._answering_since = None
                _log.warning("no upkeep", code=error.code, problem=type(error.__cause__).__name__)
                await report(False, 0)
            except Exception:
                _log.exception("no upkeep")
            await asyncio.sleep(ROUND_S)

    async def _sweeps(self) -> None:
        while True:
            pause_s = ORPHANS_S
            try:
                removed = 0
                for subfolder in SUBFOLDERS:
                    # A thread each, so that a service that ends waits for one subfolder at the most.
                    removed += await asyncio.to_thread(self._images.remove_orphans, subfolder, self._store.is_kept)
                if removed:
                    _log.info("files that no job names are removed", files=removed)
            except MirageError as error:
                _log.warning("no sweep", code=error.code)
                pause_s = _AGAIN_S
            except Exception:
                _log.exception("no sweep")
            await asyncio.sleep(pause_s)

    def _round(self) -> int:
        now = time.monotonic()
        if self._answering_since is None:
            for name in self._store.clear_the_way():
                _log.error("damaged key put aside", key=name)
            self._answering_since = now
        # A worker cannot renew its lease at a Redis that is away: it gets the time of one once that is back.
        trust_leases = now - self._answering_since > self._lease_s
        found = self._store.upkeep(trust_leases=trust_leases)
        for each in found.changes:
            _log.warning(_CHANGES[each.change], job=each.job, request_id=each.request_id)
        if found.missing_tickets:
            self._tickets.issue(found.missing_tickets)
        for file in found.files:
            self._images.remove(file)
        workers = self._store.workers()
        _workers.set(workers)
        for state, count in self._store.counts().items():
            (_queue if state in (State.PENDING, State.RUNNING) else _ended).labels(state.lower()).set(count)
        return workers
