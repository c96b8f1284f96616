"""The searcher process: owns one shard and answers the retriever over a socket pair, one message after the other.

The engine holds the GIL through every call, which in the retriever's own process would stop its event loop. The process
ends when the retriever does.
"""

import argparse
import ctypes
import errno
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirage_retriever.engines.edge.frames import pack, receive
from mirage_retriever.engines.edge.generations import has_room
from mirage_retriever.engines.edge.shard_files import ShardFiles

_PR_SET_PDEATHSIG = 1
_MADV_DONTNEED = 4
# As the engine's words have them.
_LACKS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
)


def end_with_parent(parent: int) -> None:
    """Asks Linux to kill this process when its parent dies; elsewhere the closed socket has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(0)


def unmap_indexes(path: Path) -> None:
    """Gives back the pages of a shard's index files, which the engine reads whole when it loads them.

    They are 4 MB an index and segment, mostly holes, and what is needed of them is in its memory. Does nothing except on Linux.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_ = line.split(maxsplit=2)
        # Nothing is lost of a shared mapping of a file.
        if rights.endswith("s") and str(path.resolve()) in line and "/payload_index/" in line:
            start, end = (int(each, 16) for each in place.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def answer(operations: dict[str, Callable[..., Any]], message: list[Any]) -> bytes:
    """The frame that answers [number, operation, *arguments]: [number, True, result] or [number, False, None]."""
    number, operation, *arguments = message
    try:
        return pack([number, True, operations[operation](*arguments)])
    except Exception:
        # Only this process's own log gets the engine's words: they may quote a record.
        traceback.print_exc()
        return pack([number, False, None])


def is_damage(error: BaseException, path: Path) -> bool:
    """True if a shard was not loaded because of what its files hold, not for lack of room, memory, files or rights."""
    lack = isinstance(error, MemoryError) or any(f"os error {number}" in str(error) for number in _LACKS)
    return not lack and has_room(path)


def serve(shard: ShardFiles, sock: socket.socket) -> None:
    """Answers until the retriever closes its end or says `stop` (flush first) or `leave` (do not)."""
    operations: dict[str, Callable[..., Any]] = {
        "search": shard.search,
        "fetch": shard.fetch,
        "rows": shard.rows,
        "upsert": shard.upsert,
        "delete": shard.delete,
        "count": shard.count,
        "total": shard.total,
        "facets": shard.facets,
        "ordered": shard.ordered,
        "walk": shard.walk,
        "showing": shard.showing,
        "status": shard.status,
        "sample": shard.sample,
        "ping": lambda: None,
        "leave": lambda: None,
        "stop": shard.close,
    }
    while (message := receive(sock)) is not None:
        sock.sendall(answer(operations, message))
        if message[1] in ("leave", "stop"):
            return


def main() -> None:
    """Loads the shard, says [0, True, status], or [0, False, None] for one that is damaged, and serves."""
    parser = argparse.ArgumentParser(description="Serves one shard to the retriever that started this process.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    # Ctrl-C reaches the whole process group; the retriever says when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(arguments.parent)
    with socket.socket(fileno=arguments.fd) as sock:
        try:
            shard = ShardFiles.load(arguments.path)
        except BaseException as error:
            # The engine's panics are not subclasses of Exception.
            traceback.print_exc()
            if is_damage(error, arguments.path):
                sock.sendall(pack([0, False, None]))
            raise SystemExit(1) from error
        unmap_indexes(arguments.path)
        sock.sendall(pack([0, True, shard.status()]))
        serve(shard, sock)


if __name__ == "__main__":
    main()
