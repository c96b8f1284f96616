"""How much memory a service takes with its children, for tests that attack one."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Peak:
    """The most memory that a process and its descendants have had together, looked at again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.bytes = 0

    @contextmanager
    def watched(self) -> Iterator["Peak"]:
        """Looks as long as the block runs."""
        watching = threading.Thread(target=self._watch)
        watching.start()
        try:
            yield self
        finally:
            self._stop.set()
            watching.join()

    def _watch(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(0.01)
            self.bytes = max(self.bytes, sum(map(_share, _tree(self._pid))))


def _tree(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        children = []
    return [pid, *(each for child in children for each in _tree(child))]


def _share(pid: int) -> int:
    """Bytes of a process' memory; what it shares with others is divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
