"""One launcher a data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Yields True with the lock held until the block ends, or at once False where another process holds it.

    The kernel lets go of it when the holder dies, however it dies.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Returns True if a process holds the lock."""
    if not path.is_file():
        return False
    try:
        with held(path) as mine:
            return not mine
    except PermissionError:
        return False
