"""One `mirage up` from its start to its end."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psutil

from mirage_core.cleaning_progress import Progress
from mirage_launcher import damage, keys, lock, processes, readiness
from mirage_launcher.backups.parts import of_machine
from mirage_launcher.backups.replacement import settle
from mirage_launcher.demo import DemoIndex
from mirage_launcher.errors import AlreadyUpError, LaunchError
from mirage_launcher.folders import Folders
from mirage_launcher.services import Plan
from mirage_launcher.state import IndexState, Running, State
from mirage_launcher.supervisor import Supervisor

START_S = 180.0
POLL_S = 0.05
LOG_CHECK_S = 20.0
# After a state that could not be written.
NOTE_AGAIN_S = 1.0
OTHER_MODEL = (
    "the atlas was indexed with another model than the one that runs: searches by text and image are refused. "
    "Start that model with --models, or index the atlas again in another --data directory"
)


class Launch:
    """Runs the plan until it is asked to stop. `report` is called with each new state, which is in the state file
    already.
    """

    def __init__(
        self, folders: Folders, make_plan: Callable[[], Plan], report: Callable[[State], None], *, demo: str
    ) -> None:
        self._folders = folders
        self._make_plan = make_plan
        self._report = report
        self._demo = demo
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._state: State | None = None
        self._supervisor: Supervisor | None = None
        self._remarks: tuple[str, ...] = ()
        self._unwritten = False

    def run(self) -> None:
        """Blocks until a signal. Raises AlreadyUpError, PortTakenError or LaunchError; nothing runs any more then."""
        # From here on only this user can read new files, those of the services too.
        os.umask(0o077)
        damage.clear_the_way(self._folders)
        self._folders.create()
        with lock.held(self._folders.lock) as mine:
            if not mine:
                raise AlreadyUpError(f"another launcher, or a backup or restoration, uses {self._folders.root}")
            processes.stop(leftovers(self._folders))
            self._settle()
            try:
                asyncio.run(self._run(self._make_plan()))
            finally:
                keys.forget(self._folders)

    def _settle(self) -> None:
        """Ends a restoration that was killed, before anything is started on what it left."""
        try:
            settle(of_machine(self._folders))
        except OSError as error:
            raise LaunchError(f"a restoration that was killed cannot be ended: {error.strerror}") from error

    async def _run(self, plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ask_to_stop)
        me = processes.running(os.getpid()) or Running(os.getpid(), 0.0)
        supervisor = Supervisor(plan.services, self._folders.root, self._note_services)
        self._supervisor = supervisor
        self._state = State(
            me,
            "starting",
            plan.url,
            plan.grpc,
            plan.models,
            plan.vectors,
            services=supervisor.states,
            remarks=plan.remarks,
        )
        self._remarks = plan.remarks
        self._note()
        problem = ""
        try:
            supervisor.start()
            await self._until_stopped(self._become_ready(plan, supervisor))
            await self._until_stopped(self._look_after(supervisor))
        except LaunchError as error:
            problem = str(error)
            raise
        finally:
            self._note(phase="stopping")
            await supervisor.stop(hurry=self._hurry)
            # The net below: a process that was being started at the moment of the stop.
            await asyncio.to_thread(processes.stop, processes.marked(self._folders.root))
            if problem:
                self._note(phase="failed", problem=problem)
            else:
                self._folders.state.unlink(missing_ok=True)

    async def _become_ready(self, plan: Plan, supervisor: Supervisor) -> None:
        port = int(plan.url.rpartition(":")[2])
        give_up = asyncio.get_running_loop().time() + START_S
        cleaning: Progress | None = None
        while not (answer := await asyncio.to_thread(readiness.ask, port)).ready:
            if reason := supervisor.hopeless():
                raise LaunchError(reason)
            if asyncio.get_running_loop().time() > give_up:
                missing = ", ".join(answer.missing)
                raise LaunchError(
                    f"not ready after {START_S:.0f} s, waiting for: {missing}; logs in {self._folders.logs}"
                )
            found = await asyncio.to_thread(Progress.read, self._folders.atlas)
            if found != cleaning:
                # As long as it goes on it may take its time: the atlas may be large.
                cleaning, give_up = found, asyncio.get_running_loop().time() + START_S
            self._note(waiting_for=answer.missing, cleaning=cleaning)
            await asyncio.sleep(POLL_S)
        self._note(waiting_for=(), cleaning=await asyncio.to_thread(Progress.read, self._folders.atlas))
        self._remark(*await asyncio.to_thread(damage.remarks, self._folders), *supervisor.failing())
        if not await asyncio.to_thread(readiness.model_fits, port, key=plan.key):
            self._remark(OTHER_MODEL)
            self._note(phase="ready")
            return
        demo = DemoIndex(self._folders, plan, self._demo)
        if demo.is_due():
            self._note(phase="indexing", index=IndexState())
            self._note(index=await demo.build(lambda index: self._note(index=index)))
        self._note(phase="ready")

    async def _look_after(self, supervisor: Supervisor) -> None:
        checked = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(NOTE_AGAIN_S)
            if self._unwritten or not self._folders.state.exists():
                self._note()
            if asyncio.get_running_loop().time() - checked >= LOG_CHECK_S:
                checked = asyncio.get_running_loop().time()
                await asyncio.to_thread(supervisor.bound_logs)

    async def _until_stopped(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            return
        task.result()

    def _ask_to_stop(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _note_services(self) -> None:
        if self._supervisor is not None:
            self._note(services=self._supervisor.states)
            self._remark(*self._supervisor.remarks)

    def _remark(self, *texts: str) -> None:
        """Adds remarks; a file that one of them names already needs no second one."""
        for text in texts:
            if not any(text.partition(" is damaged")[0] in known for known in self._remarks):
                self._remarks = (*self._remarks, text)
        self._note(remarks=self._remarks)

    def _note(self, **changes: Any) -> None:
        assert self._state is not None  # noqa: S101 -- set before anything runs
        state = replace(self._state, **changes)
        if state == self._state and not self._unwritten and self._folders.state.exists():
            return
        self._state = state
        try:
            state.write(self._folders.state)
            self._unwritten = False
        except OSError:
            # A full disk must not end the services: `status` is behind until `_look_after` has written it.
            self._unwritten = True
        self._report(state)


def leftovers(folders: Folders) -> list[psutil.Process]:
    """Services of this data directory whose launcher is gone."""
    state = State.read(folders.state)
    noted = [processes.alive(service.process) for service in state.services] if state else []
    found = {process.pid: process for process in (*filter(None, noted), *processes.marked(folders.root))}
    return list(found.values())
