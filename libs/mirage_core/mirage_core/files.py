"""Files that are there whole or not at all, also after a crash; and damaged ones, put out of the way of a start."""

import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import TextIO

# Between the name of what was damaged and the time at which that was found.
MARK = ".damaged-"


def write_atomically(path: Path, data: bytes, *, sync_data: bool = True, sync_name: bool = True) -> None:
    """Writes a file, which only this user can read, by way of a temporary one in the same folder.

    The file is on the disk, with its name, when this returns. `sync_name=False` leaves the name to a later
    `sync_path`, `sync_data=False` the bytes to the system.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            if sync_data:
                os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_path(path.parent)


def sync_path(path: Path) -> None:
    """Forces a file's content, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take(directory: Path) -> TextIO:
    """Locks a directory for this process until the returned file is closed.

    Raises BlockingIOError if another process has it.
    """
    path = directory / "lock"
    if os.path.lexists(path) and not path.is_file():
        put_aside(path)
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise BlockingIOError(f"{directory} is in use by another retriever") from error
    return lock


def put_aside(path: Path) -> Path:
    """Renames a file or folder and returns its new path next to the old one. Raises OSError if it cannot be renamed."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}{MARK}{stamp}")
    number = 1
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}{MARK}{stamp}-{number}")
    path.rename(target)
    return target
