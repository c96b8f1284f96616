"""Keeps the services running: starts them at once, starts one again that ends by itself, stops them in order."""

import asyncio
import os
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from mirage_launcher import logs, processes
from mirage_launcher.services import Service
from mirage_launcher.state import Running, ServiceState

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A service that ran for so long has recovered: the next crash starts with a short pause again.
STEADY_S = 60.0
# Ends before the system was ready for the first time: after so many the start has failed.
EARLY_ENDS = 3


class Worker:
    """One service of the data directory `root`. `changed` is called whenever its state is another."""

    def __init__(self, service: Service, root: Path, changed: Callable[[], None]) -> None:
        self.service = service
        self.ends = 0
        self.last_code: int | None = None
        self.remarks: tuple[str, ...] = ()
        self._root = root
        self._changed = changed
        self._process: Process | None = None
        self._running: Running | None = None
        self._restarts = 0
        self._log_start = logs.size(service.log)

    @property
    def state(self) -> ServiceState:
        """Returns its recorded state."""
        service = self.service
        return ServiceState(service.name, service.address, str(service.log), self._running, self._restarts)

    def last_words(self) -> list[str]:
        """The end of its log, of its last process alone."""
        return logs.tail(self.service.log, since=self._log_start)

    async def run(self) -> None:
        """Runs the service until cancelled, and leaves it running then: `stop` ends it."""
        pause_s = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            process = await self._start()
            self.last_code = await process.wait()
            self._running = None
            self.ends += 1
            self._changed()
            await asyncio.to_thread(self._sweep, process.pid)
            if time.monotonic() - started > STEADY_S or await self._mend():
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._restarts += 1

    async def stop(self, *, hurry: asyncio.Event) -> None:
        """Asks the service to end.

        What is left of it and its children after TERM_S, or once `hurry` is set, is killed.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        children: list[psutil.Process] = []
        with suppress(psutil.Error):
            children = psutil.Process(process.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            process.terminate()
        ways = [asyncio.ensure_future(process.wait()), asyncio.ensure_future(hurry.wait())]
        await asyncio.wait(ways, timeout=processes.TERM_S, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        # The child itself is waited for here alone: asyncio must be the one to learn of its end.
        await process.wait()
        await asyncio.to_thread(processes.kill, children)
        self._running = None
        self._changed()

    async def _mend(self) -> bool:
        """True if what made it end is out of its way: that end does not count."""
        if self.service.mend is None:
            return False
        try:
            remark = await asyncio.to_thread(self.service.mend, self.last_words())
        except OSError as error:
            remark = f"the {self.service.name} cannot read its files, and they cannot be put aside: {error.strerror}"
            self._remark(remark)
            return False
        if remark:
            self.ends -= 1
            self._remark(remark)
        return bool(remark)

    def _remark(self, text: str) -> None:
        self.remarks = tuple(dict.fromkeys((*self.remarks, text)))
        self._changed()

    def _sweep(self, session: int) -> None:
        # A service that crashed may leave children that hold its files or its port.
        processes.kill(processes.of_session(self._root, session))

    async def _start(self) -> Process:
        log = logs.open_log(self.service.log)
        self._log_start = logs.size(self.service.log)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.service.command,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                cwd=self._root,
                env={**os.environ, **self.service.environment},
                # Out of the terminal's group: Ctrl-C reaches the launcher alone, which stops the services in order.
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._running = processes.running(self._process.pid)
        self._changed()
        return self._process


class Supervisor:
    """All services of a plan."""

    def __init__(self, services: tuple[Service, ...], root: Path, changed: Callable[[], None]) -> None:
        self._workers = [Worker(service, root, changed) for service in services]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def states(self) -> tuple[ServiceState, ...]:
        """Returns the recorded state of each."""
        return tuple(worker.state for worker in self._workers)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Returns the sentences on what was mended."""
        return tuple(remark for worker in self._workers for remark in worker.remarks)

    def start(self) -> None:
        """Starts every service at once; each waits for what it depends on by itself."""
        self._tasks = [asyncio.create_task(worker.run()) for worker in self._workers]

    def hopeless(self) -> str | None:
        """Returns the reason why a start cannot succeed: a service that ended repeatedly, or could not be run."""
        for worker, task in zip(self._workers, self._tasks, strict=True):
            if worker.service.optional:
                continue
            if task.done() and not task.cancelled() and task.exception():
                return f"the {worker.service.name} cannot be run"
            if worker.ends >= EARLY_ENDS:
                code, log = worker.last_code, worker.service.log
                lines = "\n".join(f"  {line}" for line in worker.last_words())
                return f"the {worker.service.name} ended {worker.ends} times (exit code {code}); from {log}:\n{lines}"
        return None

    def failing(self) -> tuple[str, ...]:
        """A sentence for each optional service that ended again and again."""
        return tuple(
            f"the {worker.service.name} ended {worker.ends} times (exit code {worker.last_code}): MIRAGE goes on without it; "
            f"its log: {worker.service.log}"
            for worker in self._workers
            if worker.service.optional and worker.ends >= EARLY_ENDS
        )

    def bound_logs(self) -> None:
        """Keeps the logs small."""
        for worker in self._workers:
            logs.bound(worker.service.log)

    async def stop(self, *, hurry: asyncio.Event) -> None:
        """Stops the services, those that others depend on last."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in reversed(self._workers):
            await worker.stop(hurry=hurry)
