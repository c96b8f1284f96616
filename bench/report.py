"""Results of a benchmark with the bars that they should reach, as a table and as JSON."""

import argparse
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mirage_core.cpus import available_cpus


@dataclass(frozen=True)
class Figure:
    """One measured figure. `bar` and `goal` are in the figure's unit; `better` says which way is good."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""

    def verdict(self) -> str:
        """Returns `goal`, `bar`, `MISS`, or an empty text without a bar."""
        if self.bar is None:
            return ""
        if self.goal is not None and self._reaches(self.goal):
            return "goal"
        return "bar" if self._reaches(self.bar) else "MISS"

    def _reaches(self, target: float) -> bool:
        return self.value >= target if self.better == "higher" else self.value <= target


@dataclass(frozen=True)
class Report:
    """The figures of one run, with what they were measured on."""

    title: str
    how: str
    figures: Sequence[Figure]
    machine: str = field(default_factory=lambda: describe_machine())
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def markdown(self) -> str:
        """A heading, how it was measured, and a table."""
        lines = [f"## {self.title}", "", self.how, "", f"{self.machine}; {self.time}", ""]
        lines += ["| figure | measured | bar | goal | reached | note |", "|---|---:|---:|---:|---|---|"]
        for each in self.figures:
            bar, goal = (_number(value) if value is not None else "" for value in (each.bar, each.goal))
            measured = f"{_number(each.value)} {each.unit}"
            lines.append(f"| {each.name} | {measured} | {bar} | {goal} | {each.verdict()} | {each.note} |")
        return "\n".join(lines) + "\n"

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: Path) -> Report:
    """A report that `save` wrote."""
    data = json.loads(path.read_text())
    return Report(**{**data, "figures": [Figure(**each) for each in data["figures"]]})


def run(module: str, about: str | None, measure: Callable[..., Report], **options: Any) -> None:
    """Measures with the options of the command line, prints the report, and saves it if `--json FILE` is given.

    Each option has its default, or its type if it must be given.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    for name, default in options.items():
        if isinstance(default, type):
            parser.add_argument(f"--{name}", type=default, required=True)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parsed = vars(parser.parse_args())
    path: Path | None = parsed.pop("json")
    report = measure(**parsed)
    print(report.markdown())
    if path is not None:
        report.save(path)


def describe_machine() -> str:
    """Processor model, processors in use and Python version."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {available_cpus()} processors, Python {platform.python_version()}"


def _number(value: float) -> str:
    return f"{value:,.4f}" if abs(value) < 1 else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
