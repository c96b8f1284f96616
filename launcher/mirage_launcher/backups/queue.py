"""The queue's part of a backup: its jobs as data, which Redis never runs as it came.

A backup has them in one file of JSON lines. Format 1 had the files of the queue's Redis, in which any command can be: they are
read by `queue_files`, which knows the commands that MIRAGE writes, and refuses others.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from mirage_launcher.backups.parts import QUEUE
from mirage_launcher.errors import BackupInvalidError
from mirage_launcher.queue_files import folder as files
from mirage_launcher.queue_files.queue_data import InvalidError, QueueData

JOBS = f"{QUEUE}/jobs.jsonl"
# The format of a backup from which on the jobs are data.
AS_DATA = 2


def is_of_queue(name: str) -> bool:
    """True for a file or folder of the queue's part."""
    return name.startswith(f"{QUEUE}/")


def collect(folder: Path) -> tuple[bytes | None, tuple[str, ...]]:
    """The jobs that a Redis left in `folder`, and what was left out; None if there was never a queue."""
    if not files.exists(folder):
        return None, ()
    contents = files.read(folder)
    data = QueueData.from_keys(contents.keys)
    remarks = [f"the queue's file is damaged, and was read up to there: {contents.problem}"] if contents.damaged else []
    return b"".join(data.lines()), (*remarks, *_said(data.left_out))


class Arrival:
    """The queue's files of a backup that is being read, kept in `scratch`, a folder for them alone, until all are there."""

    def __init__(self, scratch: Path, *, format_: int) -> None:
        self._scratch = scratch
        self._as_data = format_ >= AS_DATA
        self._unused = 0

    def check_names(self, names: Iterable[str]) -> None:
        """Raises BackupInvalidError for a file of the queue that no backup of this format has."""
        for name in names:
            if self._as_data and is_of_queue(name) and name != JOBS:
                raise BackupInvalidError(f"it holds a file of the queue that no backup has: {name[:200]!r}")

    def open(self, name: str) -> IO[bytes] | None:
        """Opens a place for a file of the queue; None for one that is not read."""
        path = self._scratch / name.partition("/")[2]
        if not self._is_read(name):
            self._unused += 1
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb", buffering=0)

    def read(self) -> tuple[QueueData | None, tuple[str, ...]]:
        """The jobs, once all files are there, and what is left out. Raises BackupInvalidError if they are not all in order."""
        unused = Counter({"files of the queue that are not read": self._unused}) if self._unused else Counter[str]()
        if self._as_data:
            path = self._scratch / JOBS.partition("/")[2]
            if not path.exists():
                return None, _said(unused)
            with path.open("rb") as file:
                try:
                    data = QueueData.from_lines(file)
                except InvalidError as error:
                    raise BackupInvalidError(f"its jobs cannot be used: {error}") from error
            return data, _said(data.left_out + unused)
        if not files.exists(self._scratch):
            return None, _said(unused)
        contents = files.read(self._scratch)
        if contents.damaged:
            raise BackupInvalidError(f"the queue's file in it cannot be used: {contents.problem}")
        data = QueueData.from_keys(contents.keys)
        cut = (f"the queue's file ends in the middle of a command: {contents.problem}",) if contents.truncated else ()
        return data, (*cut, *_said(data.left_out + unused))

    def _is_read(self, name: str) -> bool:
        if self._as_data:
            return name == JOBS
        _, first, *rest = name.split("/")
        return (first == files.SINGLE and not rest) or (first == files.PARTS and len(rest) == 1)


def _said(left_out: Counter[str]) -> tuple[str, ...]:
    return tuple(f"left out: {count:,} {what}" for what, count in sorted(left_out.items()))
