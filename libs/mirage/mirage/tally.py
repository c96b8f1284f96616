"""Outcomes of an index run: how each row ended, what was counted, and which rows were refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Complaint:
    """A row that was refused: its place (`t.csv line 7`, or the id), and why. `file`, `line` and `id` as far as
    known.
    """

    where: str
    code: str
    reason: str
    file: str = ""
    line: int = 0
    id: str = ""


@dataclass(frozen=True)
class Tally:
    """Progress of an index run.

    `unchanged` were sent and found the same, `skipped` were found in the atlas and not sent. Refused are `rejected` by
    the server, `duplicates` that show an image of another record, and `bad_rows` that gave no record.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    duplicates: int = 0
    rejected: int = 0
    bad_rows: int = 0
    elapsed_s: float = 0.0
    complaints: tuple[Complaint, ...] = field(default=(), repr=False)

    @property
    def seen(self) -> int:
        """Rows dealt with: all that are stored or refused."""
        return self.stored + self.refused

    @property
    def refused(self) -> int:
        """Rows that are not in the atlas; each has a complaint."""
        return self.duplicates + self.rejected + self.bad_rows

    @property
    def stored(self) -> int:
        """Records that are in the atlas now."""
        return self.created + self.updated + self.unchanged + self.skipped

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.seen / self.elapsed_s if self.elapsed_s > 0 else 0.0


Count = Literal["created", "updated", "unchanged", "skipped", "duplicates", "rejected", "bad_rows"]


@dataclass(frozen=True)
class End:
    """The outcome of a row."""

    number: int
    count: Count
    complaint: Complaint | None = None


class InOrder:
    """Passes complaints on in the order of the rows, as soon as all rows before have ended."""

    def __init__(self, complain: Callable[[Complaint], None]) -> None:
        self._complain = complain
        self._next = 0
        self._waiting: dict[int, Complaint | None] = {}

    def end(self, end: End) -> None:
        """Takes the outcome of a row; rows may end in any order."""
        self._waiting[end.number] = end.complaint
        while self._next in self._waiting:
            self._pass_on(self._waiting.pop(self._next))
            self._next += 1

    def flush(self) -> None:
        """Passes on what is left, if the run ends before all rows have."""
        for number in sorted(self._waiting):
            self._pass_on(self._waiting.pop(number))

    def _pass_on(self, complaint: Complaint | None) -> None:
        if complaint is not None:
            self._complain(complaint)
