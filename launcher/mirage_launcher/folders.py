"""The folders of a MIRAGE on this machine: data, logs and state."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mirage_launcher.errors import LaunchError


def default_root() -> Path:
    """$XDG_DATA_HOME/mirage, or ~/.local/share/mirage."""
    from mirage_models.paths import data_root

    return data_root()


@dataclass(frozen=True)
class Folders:
    """The data directory. It belongs to one launcher at a time: the one that holds `lock`."""

    root: Path

    @classmethod
    def at(cls, root: Path | None) -> Self:
        """The folders below `root`, an absolute path without links; nothing is created."""
        return cls((root or default_root()).expanduser().resolve())

    @property
    def atlas(self) -> Path:
        """The retriever's records, vectors and images."""
        return self.root / "atlas"

    @property
    def queue(self) -> Path:
        """The files of the queue's Redis."""
        return self.root / "queue"

    @property
    def images(self) -> Path:
        """The images that were made."""
        return self.root / "images"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """The running processes, as JSON."""
        return self.root / "run" / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the launcher while it lives."""
        return self.root / "run" / "lock"

    @property
    def demo_mark(self) -> Path:
        """Says whether the demonstration atlas was begun and finished here."""
        return self.root / "demo.json"

    @property
    def demo_progress(self) -> Path:
        """The progress of the demonstration atlas, which the gateway reports."""
        return self.root / "run" / "demo.json"

    @property
    def demo_archives(self) -> Path:
        """The archives that the real images of the demonstration atlas are read from."""
        return self.root / "demo-archives"

    @property
    def demo_mark_server(self) -> Path:
        """The same of the atlas on a Qdrant server."""
        return self.root / "demo-qdrant.json"

    @property
    def vectors_note(self) -> Path:
        """The Qdrant server that keeps the records, if one does."""
        return self.root / "run" / "vectors.json"

    @property
    def made(self) -> tuple[Path, ...]:
        """The folders that a start makes below the root."""
        return (self.atlas, self.queue, self.images, self.logs, self.state.parent)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the launcher itself reads or writes at a start, if they are there."""
        notes = (self.demo_mark, self.demo_mark_server, self.demo_progress, self.vectors_note)
        logs = sorted(self.logs.glob("*.log")) if self.logs.is_dir() else []
        return (self.state, self.lock, *notes, *logs)

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def create(self) -> None:
        """Makes the folders, readable by this user alone. Raises LaunchError if that fails."""
        try:
            for folder in (self.root, self.atlas, self.queue, self.logs, self.state.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                # One that was there before may be open to others; of another owner's that is theirs to say.
                with suppress(PermissionError):
                    folder.chmod(0o700)
        except OSError as error:
            raise LaunchError(f"cannot use {self.root} as the data directory: {error.strerror}") from error
