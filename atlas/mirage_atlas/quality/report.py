"""Evaluations as they are built and written down."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirage_api.quality import FOUND_MAX, HARD_CASES_MAX, Figure, HardCase, Measured, Series, Subject, Unit
from mirage_atlas.quality.measures import SEED, Estimate

TEXT_CHARS = 200
_DIGITS = 5


@dataclass(eq=False)
class Findings:
    """The findings of one evaluation so far."""

    subject: Subject
    figures: list[Figure] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    hard_cases: list[HardCase] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seeds: dict[str, int] = field(default_factory=lambda: {"bootstrap and samples": SEED})

    def add(self, name: str, found: Estimate, *, group: str = "", chance: float | None = None, unit: Unit = "") -> None:
        """Adds a share or mean with its interval."""
        self.figures.append(
            Figure(
                name=name,
                group=group,
                value=round(found.value, _DIGITS),
                low=round(found.low, _DIGITS),
                high=round(found.high, _DIGITS),
                chance=None if chance is None else round(chance, _DIGITS),
                count=found.count,
                unit=unit,
            )
        )

    def add_number(self, name: str, value: float, *, count: int, group: str = "", unit: Unit = "") -> None:
        """Adds a number without an interval."""
        self.figures.append(Figure(name=name, group=group, value=round(value, _DIGITS), count=count, unit=unit))

    def add_series(self, name: str, group: str, x: tuple[float, ...], y: tuple[float, ...]) -> None:
        """Adds a curve or distribution."""
        self.series.append(Series(name=name, group=group, x=x, y=y))

    def add_case(self, kind: Any, id_: str, text: str, found: tuple[str, ...] = (), count: int = 0) -> None:
        """Adds a hard case, as long as there is room."""
        if len(self.hard_cases) < HARD_CASES_MAX:
            self.hard_cases.append(
                HardCase(kind=kind, id=id_, text=shortened(text), found_ids=found[:FOUND_MAX], count=count)
            )

    def measured(self, fingerprint: str, command: str) -> Measured:
        """The evaluation as it is stored, of a collection with the model of this fingerprint."""
        return Measured(
            subject=self.subject,
            fingerprint=fingerprint,
            command=command,
            seeds=self.seeds,
            figures=tuple(self.figures),
            series=tuple(self.series),
            hard_cases=tuple(self.hard_cases),
            notes=tuple(self.notes),
        )


def shortened(text: str) -> str:
    """A text of at most TEXT_CHARS characters."""
    return text if len(text) <= TEXT_CHARS else text[: TEXT_CHARS - 1] + "…"


def write(path: Path, evaluations: Sequence[Mapping[str, Any]]) -> None:
    """Writes evaluation.json."""
    path.write_text(json.dumps({"evaluations": evaluations}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
