"""A snapshot of Redis as commands. `python -m mirage_launcher.queue_files.rdb FILE` prints those for the keys that
count.

A process of its own, with little memory to take: the file may be anybody's.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mirage_launcher.queue_files import keys, resp
from mirage_launcher.queue_files.resp import DamagedError

MAGICS = (b"REDIS", b"VALKEY")
# A Valkey from version 9 on writes its own name in a header of the same length. What follows is as in this version of
# Redis.
_VALKEYS, _SAME_AS = b"VALKEY", b"REDIS0012"
_MEMORY_BYTES = 2 * 2**30
_TIME_S = 300
_PIECE = 64
_CHECKSUM_BYTES = 8


@contextmanager
def as_commands(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Returns a file of commands that make the same keys, and the end of the snapshot in `path`. Raises
    DamagedError.
    """
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, "-P", "-m", "mirage_launcher.queue_files.rdb", str(path)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, timeout=_TIME_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DamagedError("a snapshot that takes too long to read") from error
        if done.returncode:
            raise DamagedError("a snapshot that cannot be read")
        out.seek(0)
        yield out, int(done.stderr.split()[-1])


def main(path: Path) -> int:
    """Prints the commands; on standard error the length of the snapshot."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    import rdb

    with tempfile.TemporaryDirectory() as folder:
        readable = _readable(path, Path(folder))
        rest = b""
        try:
            items: Any = rdb.RdbDecoder(readable)
            for item in items:
                for command in _commands(item):
                    sys.stdout.buffer.write(command)
                rest = item.get("checksum", b"")
        except ValueError:
            return 1
    if len(rest) < _CHECKSUM_BYTES:
        return 1
    sys.stdout.buffer.flush()
    # The checksum comes with all that follows: older servers go on with commands in the same file.
    print(path.stat().st_size - len(rest) + _CHECKSUM_BYTES, file=sys.stderr)
    return 0


def _readable(path: Path, folder: Path) -> Path:
    with path.open("rb") as file:
        if file.read(len(_VALKEYS)) != _VALKEYS:
            return path
        copy = folder / "snapshot"
        with copy.open("wb") as out:
            file.seek(len(_SAME_AS))
            out.write(_SAME_AS)
            shutil.copyfileobj(file, out)
        return copy


def _commands(item: dict[str, Any]) -> Iterator[bytes]:
    match item["type"]:
        case "select_db":
            yield resp.encode("SELECT", item["db"])
        case "hash":
            yield from _in_pieces("HSET", item["key"], [part for pair in item["values"].items() for part in pair])
        case "list":
            yield from _in_pieces("RPUSH", item["key"], item["values"])
        case "string":
            yield from _in_pieces("SET", item["key"], [item["value"]])
        case "set" | "sorted_set" if not keys.is_ours(item["key"]):
            # The reader counts it.
            yield resp.encode("SADD", item["key"], "")


def _in_pieces(name: str, key: bytes, parts: Iterable[bytes]) -> Iterator[bytes]:
    if not keys.is_kept(key):
        if not keys.is_ours(key):
            yield resp.encode(name, key, "", "")
        return
    parts = list(parts)
    for at in range(0, len(parts), _PIECE):
        yield resp.encode(name, key, *parts[at : at + _PIECE])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
