"""The engines of a reading behind one Protocol."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from mirage_reader.checklists import Checklist
from mirage_reader.evidence import Evidence

DRAFT_CHARS = 600
DRAFTS_MAX = 40
SUMMARY_MAX = 8


class StepSource(IntEnum):
    """As mirage.v1.StepSource."""

    RULES = 1
    MODEL = 2
    SUMMARY = 3


@dataclass(frozen=True)
class Study:
    """The subject of a reading. `kind` names the checklist. Rules read the evidence; a model gets the image and the checklist."""

    image: bytes = field(repr=False)
    kind: str
    checklist: Checklist
    evidence: Evidence


@dataclass(frozen=True)
class Draft:
    """A sentence about an item; `item` is empty if it belongs to none. `ids` are the records that a rule took it from."""

    item: str
    text: str
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """The model behind an engine, as the operator's settings describe it."""

    name: str
    engine: str
    source: str
    licence: str


class ReadingEngine(Protocol):
    """Writes a reading. One contract test holds for all engines."""

    name: str
    # Sentences of a model are checked against the evidence; those of rules are made from it.
    source: StepSource
    # None without a model.
    model: ModelInfo | None

    def may_read(self, kind: str) -> bool:
        """True if it is meant for this kind of image, by the name of its checklist."""
        ...

    def read(self, study: Study) -> AsyncGenerator[Draft]:
        """Yields at most 40 sentences of at most 600 characters as they come; raises MirageError. Close it to stop."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


class Summariser(Protocol):
    """Sums a reading up. It gets sentences of the reading and nothing else."""

    name: str

    def summarise(self, kind: str, sentences: Sequence[str]) -> AsyncGenerator[str]:
        """Yields sentences as they come; raises MirageError. Close it to stop. `kind` is the title of the checklist."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
