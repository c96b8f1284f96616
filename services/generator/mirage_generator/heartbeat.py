"""The heartbeat of a worker and of its current job, from a thread of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mirage_core import telemetry
from mirage_core.errors import MirageError
from mirage_generator.jobs import Claim
from mirage_generator.store.jobs import JobStore

_log = telemetry.get_logger()


class Heartbeat:
    """Keeps the worker registered and its job leased. `start` it once; one job at a time is `held`."""

    def __init__(self, store: JobStore, *, worker: str, engine: str, lease_s: float) -> None:
        self._store = store
        self._worker = worker
        self._engine = engine
        self._pause_s = lease_s / 5
        self._claim: Claim | None = None
        self._lost = False
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Registers the worker, from now on until `stop`; raises DEPENDENCY_UNAVAILABLE."""
        self._store.register(self._worker, self._engine)
        self._thread.start()

    def stop(self) -> None:
        """Takes the worker off the list."""
        self._stop.set()
        self._thread.join()
        try:
            self._store.deregister(self._worker)
        except MirageError:
            _log.warning("the worker stays listed until its time is over")

    @property
    def lost(self) -> bool:
        """True once the job held is not this worker's any more."""
        return self._lost

    @contextmanager
    def held(self, claim: Claim) -> Iterator[None]:
        """Keeps the job's lease."""
        with self._turn:
            self._claim, self._lost = claim, False
        try:
            yield
        finally:
            with self._turn:
                self._claim = None

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            try:
                self._store.register(self._worker, self._engine)
                with self._turn:
                    if self._claim is not None and not self._lost:
                        self._lost = not self._store.alive(self._claim)
            except MirageError as error:
                # The job continues: it may end before Redis is back.
                claim = self._claim
                about = {} if claim is None else {"job": claim.id, "request_id": claim.origin.request_id}
                _log.warning("heartbeat failed", code=error.code, **about)
            except Exception:
                _log.exception("heartbeat failed")
