"""Processes of this machine: identified even if their id is used again, found, measured and stopped."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from mirage_launcher.state import Running

# Every process that a launcher starts, and all that those start, carries the data directory in this variable.
MARK = "MIRAGE_LAUNCHED_FOR"
# Creation times are derived from the boot time, which moves a little when the clock is set.
SAME_START_S = 2.0
TERM_S = 10.0
KILL_S = 5.0


def running(pid: int) -> Running | None:
    """Returns the process with that id and the time of its start, or None."""
    try:
        return Running(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def alive(process: Running | None) -> psutil.Process | None:
    """The very process that was noted down, if it still runs."""
    if process is None:
        return None
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.created) < SAME_START_S
        return found if same and found.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError, OverflowError):
        # The last two for a number that no process has, out of a damaged note.
        return None


def marked(root: Path) -> Iterator[psutil.Process]:
    """The processes that launchers of this data directory started, those of a launcher that crashed included."""
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def of_session(root: Path, session: int) -> list[psutil.Process]:
    """The marked processes of one session: what a service that ended has left behind."""
    found: list[psutil.Process] = []
    for process in marked(root):
        with suppress(OSError):
            if os.getsid(process.pid) == session:
                found.append(process)
    return found


def with_children(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def stop(processes: Iterable[psutil.Process], *, term_s: float = TERM_S) -> None:
    """Asks the processes to end, and ends those that have not done so after `term_s` seconds. Their children go with
    them.
    """
    asked = list(processes)
    family = [member for process in asked for member in with_children(process)]
    for process in asked:
        with suppress(psutil.Error):
            process.terminate()
    psutil.wait_procs(asked, timeout=term_s)
    # A child of a service ends with it; what is still there has been left alone.
    kill(family)


def kill(processes: Iterable[psutil.Process]) -> None:
    """Ends processes at once; those that have ended are passed over."""
    targets = list(processes)
    _, left = psutil.wait_procs(targets, timeout=0.2)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=KILL_S)


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Memory of the processes: PSS on Linux, where shared pages count once in all.

    Elsewhere the unique or resident set.
    """
    return sum(map(_memory_bytes, processes))


def _memory_bytes(process: psutil.Process) -> int:
    try:
        if sys.platform == "linux":
            return int(process.memory_full_info().pss)
        return int(process.memory_full_info().uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
