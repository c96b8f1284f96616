"""Readers' marks that something is wrong with a record: an append-only file of JSON lines."""

import json
import os
import secrets
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mirage_core import limits, telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.files import put_aside, write_atomically
from mirage_retriever.pages import PAGE_DEFAULT, read_number

REASONS = ("wrong-caption", "wrong-image", "licence", "privacy", "description", "other")
# Enough for people; too few for a flood to fill the disk.
_PER_RECORD = 100
_ALL = 100_000
_log = telemetry.get_logger()


@dataclass(frozen=True)
class Flag:
    """One mark; fields as in mirage.v1.Flag; `create_time` is RFC 3339 in UTC."""

    id: str
    record_id: str
    reason: str
    comment: str
    create_time: str


class FlagStore:
    """Flags in one file, all of them in memory too; calls block for one write to the disk at the most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._flags: list[Flag] = []
        self._counts: Counter[str] = Counter()
        self._load()

    def _load(self) -> None:
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            # A folder in its place, or not for this user to read.
            _log.error("damaged file put aside", kept_as=str(put_aside(self._path)), problem=error.strerror)
            return
        whole = raw.rfind(b"\n") + 1
        lines = raw[:whole].split(b"\n")[:-1]
        good: list[bytes] = []
        for line in lines:
            if flag := _read(line):
                self._remember(flag)
                good.append(line)
        if len(good) < len(lines):
            kept = put_aside(self._path)
            write_atomically(self._path, b"".join(line + b"\n" for line in good))
            _log.error("damaged file put aside", kept_as=str(kept), lines=len(lines) - len(good), read=len(good))
        elif whole < len(raw):
            # A line that a crash cut short was never acknowledged.
            os.truncate(self._path, whole)

    def _remember(self, flag: Flag) -> None:
        self._flags.append(flag)
        self._counts[flag.record_id] += 1

    def add(self, record_id: str, *, reason: str, comment: str) -> Flag:
        """Keeps a new flag, on the disk when it returns; raises FLAG_INVALID, TOO_MANY_ITEMS or STORAGE_FULL."""
        if reason not in REASONS:
            raise MirageError(Code.FLAG_INVALID, field="reason", known=", ".join(REASONS))
        if len(comment) > limits.COMMENT_CHARS:
            raise MirageError(Code.FLAG_INVALID, field="comment", max=limits.COMMENT_CHARS, given=len(comment))
        if self._counts[record_id] >= _PER_RECORD or len(self._flags) >= _ALL:
            raise MirageError(Code.TOO_MANY_ITEMS, field="flags", min=0, max=_PER_RECORD, given=_PER_RECORD + 1)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        flag = Flag(secrets.token_hex(8), record_id, reason, comment, now)
        self._append(json.dumps(asdict(flag), ensure_ascii=False).encode() + b"\n")
        self._remember(flag)
        return flag

    def _append(self, line: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                file.write(line)
                os.fsync(file.fileno())
            except OSError as error:
                # Half a line would spoil the next one.
                file.truncate(end)
                raise MirageError(Code.STORAGE_FULL) from error

    def count(self, record_id: str) -> int:
        """Flags of a record."""
        return self._counts[record_id]

    def page(self, *, record_id: str = "", size: int = PAGE_DEFAULT, token: str = "") -> tuple[list[Flag], str]:
        """Returns a page of flags, newest first, of one record if it is named, and the token of the next page.

        The token is empty at the end. Flags that are added between two pages do not move the later ones. Raises
        PAGE_TOKEN_INVALID.
        """
        end = min(read_number(token), len(self._flags)) if token else len(self._flags)
        found: list[Flag] = []
        for number in range(end - 1, -1, -1):
            flag = self._flags[number]
            if not record_id or flag.record_id == record_id:
                if len(found) == size:
                    return found, str(number + 1)
                found.append(flag)
        return found, ""


def _read(line: bytes) -> Flag | None:
    """Returns the flag of a line; None if the line is not a flag."""
    try:
        flag = Flag(**json.loads(line))
        datetime.fromisoformat(flag.create_time)
    except (ValueError, TypeError, RecursionError):
        return None
    fits = all(isinstance(text, str) and text.isprintable() for text in (flag.id, flag.record_id, flag.create_time))
    return flag if fits and isinstance(flag.comment, str) and flag.reason in REASONS else None
