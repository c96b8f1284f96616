"""The request for a bundle, and the Protocol that each task implements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mirage_inference.bundles import Manifest
    from mirage_inference.bundles import Task as TaskName
    from mirage_models.workspace import Workspace

UNSHOWN = "parity not shown on target data"
"""The remark of a quantised model that was compared on other inputs than the operator's own."""


class BuildError(Exception):
    """The bundle cannot be built, for a reason that the operator can act on."""

    code = "BUILD_FAILED"


class UnknownArchitectureError(BuildError):
    """The checkpoint is of a kind that no task can build; says what was found and what is known."""

    code = "ARCHITECTURE_UNKNOWN"


class CheckpointError(BuildError):
    """The checkpoint is not whole: a file, a tensor or the tokenizer is absent or not what it should be."""

    code = "CHECKPOINT_INVALID"


class ParityError(BuildError):
    """The bundle is too far from the original; nothing was written."""

    code = "PARITY_MISSED"


@dataclass(frozen=True)
class BuildRequest:
    """The checkpoint, and the bundle to build from it.

    `source` is a folder on this machine. `variants` are named in order of preference, the first is the default; none:
    the task's own. `calibration` is a folder with `captions.jsonl` and images. `extras` are further sources by role,
    such as "lora"; `options` are the task's own. Raises nothing by itself: each task checks its options.
    """

    source: Path
    name: str
    origin: str
    licence: str
    variants: tuple[str, ...] = ()
    calibration: Path | None = None
    calibration_items: int = 1024
    allow_parity_miss: bool = False
    threads: int = 2
    extras: Mapping[str, Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Builds the bundles of one task."""

    @property
    def name(self) -> TaskName:
        """The task, as manifests name it."""
        ...

    @property
    def knows(self) -> str:
        """The checkpoints it can build, in a few words for a message."""
        ...

    def build(self, request: BuildRequest, workspace: Workspace) -> Manifest:
        """Writes the bundle's files, except the manifest, into `workspace.folder`.

        Raises BuildError and its kinds; ParityError if a bar was missed, unless the request allows it; then the
        manifest's `parity_missed` names it.
        """
        ...
