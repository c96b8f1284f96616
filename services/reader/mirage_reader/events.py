"""Events of a reading, in their order: Kind, Checklist or none, Evidence, Steps, Label, Similar, Context, summary, Done."""

from dataclasses import dataclass
from enum import IntEnum

from mirage_reader.atlas import Neighbour
from mirage_reader.checklists import Checklist
from mirage_reader.context import Context
from mirage_reader.evidence import Evidence
from mirage_reader.kinds import Kind
from mirage_reader.labels import Label
from mirage_reader.steps import Step

DISCLAIMER = "For education, not for diagnosis. Similar cases and rules do not replace a radiologist."


class Finish(IntEnum):
    """As mirage.v1.ReadFinish."""

    COMPLETE = 1
    NOT_MEDICAL = 2
    OTHER_TOPIC = 3


@dataclass(frozen=True)
class KindFound:
    """The kind, and its checklist."""

    kind: Kind
    checklist: Checklist | None


@dataclass(frozen=True)
class ChecklistShown:
    """The checklist; `notice` says why it is missing."""

    checklist: Checklist | None
    notice: str = ""


@dataclass(frozen=True)
class Similar:
    """Records to compare with."""

    results: tuple[Neighbour, ...] = ()
    look_alikes: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class Done:
    """The end; times in milliseconds. `summariser` wrote the summary."""

    finish: Finish
    engine: str
    notice: str = ""
    shown: int = 0
    withheld: int = 0
    evidence_ms: float = 0.0
    total_ms: float = 0.0
    summariser: str = ""


Event = KindFound | ChecklistShown | Evidence | Step | Label | Similar | Context | Done
