"""The state of a data directory, which the launcher writes for `down`, `status` and the next launcher."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from mirage_core.cleaning_progress import Progress
from mirage_core.files import write_atomically

Phase = Literal["starting", "indexing", "ready", "failed", "stopping"]


@dataclass(frozen=True)
class Running:
    """A process: its id and when it began, so that another one that got the same id later is not taken for it."""

    pid: int
    created: float


@dataclass(frozen=True)
class ServiceState:
    """A service as the launcher knows it; `process` is None while it is down."""

    name: str
    address: str
    log: str
    process: Running | None = None
    restarts: int = 0


@dataclass(frozen=True)
class IndexState:
    """Progress of the demonstration atlas: rows done, of `total` so far.

    `fetching` is what is being downloaded, `missing` what could not be had, as a sentence; "" if nothing is.
    """

    done: int = 0
    total: int = 0
    finished: bool = False
    problem: str = ""
    fetching: str = ""
    missing: str = ""


@dataclass(frozen=True)
class State:
    """The whole. `url` is the page's address, `grpc` that of the gateway's gRPC port.

    `cleaning` says how far the retriever is with images that an older version stored.
    """

    launcher: Running
    phase: Phase
    url: str
    grpc: str
    models: str
    # Addresses of the Qdrant server that keeps records and vectors; empty if the retriever does.
    vectors: str = ""
    services: tuple[ServiceState, ...] = ()
    index: IndexState | None = None
    waiting_for: tuple[str, ...] = ()
    cleaning: Progress | None = None
    problem: str = ""
    remarks: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Replaces the state file; a reader sees the old one or the new one."""
        write_atomically(path, json.dumps(asdict(self), indent=2).encode(), sync_data=False, sync_name=False)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Returns the state written last; None if it is missing or cannot be read."""
        try:
            return cls._parse(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None

    @classmethod
    def _parse(cls, raw: dict[str, Any]) -> Self:
        services = tuple(ServiceState(**{**one, "process": _running(one["process"])}) for one in raw["services"])
        launcher = _running(raw["launcher"])
        if launcher is None:
            raise ValueError("a state without its launcher")
        index = IndexState(**raw["index"]) if raw["index"] else None
        cleaning = Progress.parse(raw["cleaning"]) if raw.get("cleaning") else None
        lists = {name: tuple(map(str, raw[name])) for name in ("waiting_for", "remarks")}
        if not all(isinstance(raw[name], str) for name in ("phase", "url", "grpc", "models", "problem")):
            raise ValueError("not a state")
        return cls(**{**raw, **lists, "launcher": launcher, "services": services, "index": index, "cleaning": cleaning})


def _running(raw: dict[str, Any] | None) -> Running | None:
    return Running(pid=int(raw["pid"]), created=float(raw["created"])) if raw else None
