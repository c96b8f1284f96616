"""Readers' marks that something is wrong with a record: an append-only file of JSON lines."""

import json
import os
import secrets
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mirage_core import limits
from mirage_core.errors import Code, MirageError

REASONS = ("wrong-caption", "wrong-image", "licence", "privacy", "description", "other")
# Enough for people; too few for a flood to fill the disk.
_PER_RECORD = 100
_ALL = 100_000


@dataclass(frozen=True)
class Flag:
    """One mark; fields as in protos/mirage/v1/common.proto."""

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
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            # A line that a crash cut short was never acknowledged.
            os.truncate(self._path, whole)
        for line in raw[:whole].splitlines():
            self._remember(Flag(**json.loads(line)))

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

    def listed(self, *, record_id: str = "", limit: int = 100) -> list[Flag]:
        """Newest first, of one record where it is named."""
        flags = (flag for flag in reversed(self._flags) if not record_id or flag.record_id == record_id)
        return [flag for flag, _ in zip(flags, range(limit), strict=False)]
