"""A folder of the queue's Redis: its append-only files in the order in which Redis reads them, as keys."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mirage_launcher.queue_files import rdb, resp
from mirage_launcher.queue_files.keys import ForeignCommandError, Keys, OddCommandError
from mirage_launcher.queue_files.resp import DamagedError, TruncatedError

SINGLE = "appendonly.aof"
PARTS = "appendonlydir"
LIST = f"{PARTS}/{SINGLE}.manifest"
_SNAPSHOT = ".rdb"
_EMPTY = "it is empty"
_LIST_BYTES = 2**20
_ENTRY = re.compile(
    r'file "?(?P<name>[A-Za-z0-9._-]+)"? seq \d+ type (?P<type>[bhi])( startoffset \d+)?( endoffset \d+)?'
)

_PART = re.compile(r"appendonly\.aof\.(?P<seq>\d{1,18})\.(?P<type>base|incr)\.(rdb|aof)")


@dataclass
class Contents:
    """The keys that could be read from the files, and the place where reading stopped: `truncated` if only the end
    is incomplete.
    """

    keys: Keys = field(default_factory=Keys)
    problem: str = ""
    truncated: bool = False
    foreign_command: str = ""

    @property
    def damaged(self) -> bool:
        """True if a Redis would refuse to start on these files."""
        return bool(self.problem) and not self.truncated


def exists(folder: Path) -> bool:
    """Returns True if a Redis has written its files, or if something else is in their place."""
    return any((folder / name).is_symlink() or (folder / name).exists() for name in (SINGLE, PARTS))


def structure_problem(folder: Path) -> str:
    """Returns the fault of the list of files or of the files' paths; "" if all exist. Does not read the files."""
    try:
        listed = _files(folder)
        for path in listed:
            if not path.is_file():
                return f"{path.relative_to(folder)}: it is not a file, or not there"
            # A server reads it as an empty snapshot.
            if path.suffix == _SNAPSHOT and not path.stat().st_size:
                return f"{path.relative_to(folder)}: {_EMPTY}"
    except (DamagedError, OSError, UnicodeDecodeError) as error:
        return f"{LIST}: {_said(error)}"
    return ""


def read(folder: Path) -> Contents:
    """Reads all that can be read. Never raises for what the files hold."""
    found = Contents()
    try:
        files = _files(folder)
    except (DamagedError, OSError, UnicodeDecodeError) as error:
        found.problem = f"{LIST}: {_said(error)}"
        files = _unlisted(folder)
    for place, path in enumerate(files, 1):
        try:
            for command in _commands(path):
                found.keys.apply(command)
        except (DamagedError, ForeignCommandError, OddCommandError, OSError) as error:
            found.truncated = isinstance(error, TruncatedError) and place == len(files) and not found.problem
            found.problem = found.problem or f"{path.relative_to(folder)}: {_said(error)}"
            if isinstance(error, ForeignCommandError):
                found.foreign_command = str(error)
            return found
    return found


def _said(error: Exception) -> str:
    match error:
        case ForeignCommandError():
            return f"it holds the command {error.args[0]!r}, which MIRAGE never writes"
        case OddCommandError():
            return "it holds a command in a form that MIRAGE never writes"
        case OSError():
            return error.strerror or "it cannot be read"
        case UnicodeDecodeError():
            return "it is not a list of files"
    return str(error)


def _files(folder: Path) -> list[Path]:
    manifest = folder / LIST
    if not manifest.exists():
        # One file, as older servers write it, and as a restoration does: newer ones take it over.
        if (folder / SINGLE).exists():
            return [folder / SINGLE]
        if not (folder / PARTS).exists() or not any((folder / PARTS).iterdir()):
            return []
    with manifest.open("rb") as file:
        text = file.read(_LIST_BYTES).decode()
    entries = [_ENTRY.fullmatch(line) for line in text.splitlines() if line and not line.startswith("#")]
    if not entries or not all(entries):
        raise DamagedError("it is not a list of files")
    # The base first, as Redis writes them; "h" are files of before, which it is about to remove.
    return [folder / PARTS / entry["name"] for kind in "bi" for entry in entries if entry and entry["type"] == kind]


def _unlisted(folder: Path) -> list[Path]:
    """The files that a list would name, as their names say: what the newest snapshot has and what came after it."""
    try:
        found = [(path, match) for path in (folder / PARTS).iterdir() if (match := _PART.fullmatch(path.name))]
    except OSError:
        return []
    bases = {int(match["seq"]): path for path, match in found if match["type"] == "base"}
    newest = max(bases, default=0)
    rest = {int(match["seq"]): path for path, match in found if match["type"] == "incr" and int(match["seq"]) >= newest}
    return [*([bases[newest]] if bases else []), *(rest[number] for number in sorted(rest))]


def _commands(path: Path) -> Iterator[resp.Command]:
    with path.open("rb") as file:
        start = file.read(max(map(len, rdb.MAGICS)))
    if path.suffix == _SNAPSHOT and not start:
        raise DamagedError(_EMPTY)
    if not start.startswith(rdb.MAGICS):
        yield from _from(path, 0)
        return
    with rdb.as_commands(path) as (commands, end):
        yield from resp.commands(commands)
    yield from _from(path, end)


def _from(path: Path, place: int) -> Iterator[resp.Command]:
    file: IO[bytes]
    with path.open("rb") as file:
        file.seek(place)
        yield from resp.commands(file)
