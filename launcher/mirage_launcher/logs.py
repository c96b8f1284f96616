"""The services' logs: plain files that the services append to themselves, kept small."""

import os
import shutil
from pathlib import Path

LOG_BYTES = 10 * 2**20
TAIL_BYTES = 4096


def open_log(path: Path) -> int:
    """A descriptor that appends to the log; a launcher that dies does not take it away from the service."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def bound(path: Path, limit: int = LOG_BYTES) -> bool:
    """Moves a log that has grown past `limit` to `<name>.1`, and replaces the one before. Returns True if it did.

    The content is copied and the file emptied in place, as its writer keeps it open; a line written in between is lost.
    """
    try:
        if path.stat().st_size <= limit:
            return False
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def size(path: Path) -> int:
    """Returns the length of a log in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def tail(path: Path, lines: int = 5, *, since: int = 0) -> list[str]:
    """The last lines of what a log holds from byte `since` on, at most 4 KiB."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(min(since, file.tell()), file.tell() - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
