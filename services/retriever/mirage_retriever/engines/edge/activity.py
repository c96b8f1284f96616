"""Detects if another process is working, from what Linux reports about it."""

from contextlib import suppress
from pathlib import Path

# A thread in one of these states runs, waits for a processor, or waits for the disk.
_AT_WORK = frozenset("RD")


class Activity:
    """Looks at one process repeatedly. It reads three small files of /proc for each thread.

    A process that is stopped, deadlocked or asleep uses no processor and none of its threads waits for one or for the disk.
    """

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)
        self._ticks: int | None = None

    def seen(self) -> bool:
        """True if the process has worked since the last look; also True at the first look, and if /proc cannot be read."""
        try:
            ticks = _ticks(self._folder / "stat")
            before, self._ticks = self._ticks, ticks
            return before is None or ticks != before or self._has_thread_at_work()
        except (OSError, ValueError, IndexError):
            # Not Linux, or it has ended: its socket says so by itself.
            return True

    def _has_thread_at_work(self) -> bool:
        for thread in (self._folder / "task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                if _fields(thread / "stat")[0] in _AT_WORK:
                    return True
        return False


def _fields(stat: Path) -> list[str]:
    """The fields of a stat file from the state on; the name before it may hold spaces and brackets."""
    return stat.read_text("ascii", "replace").rpartition(")")[2].split()


def _ticks(stat: Path) -> int:
    """Processor time used by all threads, in clock ticks."""
    fields = _fields(stat)
    return int(fields[11]) + int(fields[12])
