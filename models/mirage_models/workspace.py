"""The folder that a bundle is built in: locked, resumable after a kill, and renamed into place when it is complete.

Next to `out` there is `.NAME.building/` with `bundle/` (the future bundle), `scratch/` (temporary files) and
`stages.json` (completed stages). A build that was stopped continues after its last complete stage if it is the same
build: the same request, source, code and library versions.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any, TypeVar

from mirage_core.files import sync_path
from mirage_inference.bundles import MANIFEST_FILE
from mirage_models.tasks import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from mirage_inference.bundles import Manifest

_log = logging.getLogger("mirage_models.build")

STAGES_FILE = "stages.json"
LOCK_FILE = "lock"
OLD_FOLDER = "replaced"
T = TypeVar("T")
_HEAD_BYTES = 2**20


class BusyError(BuildError):
    """Another process is building the same bundle."""

    code = "BUSY"


class DiskFullError(BuildError):
    """There is not enough room to build; says how much there is and how much it takes."""

    code = "DISK_FULL"


class ExistsError(BuildError):
    """Raised if `out` exists and was not to be replaced."""

    code = "EXISTS"


class Workspace:
    """One build's folder; made by `open_workspace`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "bundle"
        self.scratch = root / "scratch"
        self._records: dict[str, Any] = {}
        self._seen: list[str] = []

    @property
    def begun(self) -> bool:
        """True once a stage is complete."""
        return bool(self._records)

    def stage(self, name: str, make: Callable[[], T]) -> T:
        """Runs `make`, which writes files into `folder` and `scratch`, and returns its result (anything that JSON can
        hold).

        In a resumed build a completed stage is not run again: its recorded result is returned. `make` must not rely on
        anything but files and results of earlier stages, and may take files away that they made.
        """
        if name in self._seen:
            raise ValueError(f"two stages are named {name}")
        self._seen.append(name)
        if name in self._records:
            _log.info("%s: done before", name)
            result: T = self._records[name]
            return result
        _log.info("%s", name)
        with disk_errors(self.root):
            result = make()
            self._records[name] = result
            self._write()
        return result

    def adopt(self, identity: str) -> None:
        """Resumes the build in this folder if it is the same one, else starts with empty folders."""
        try:
            found = json.loads((self.root / STAGES_FILE).read_text("utf-8"))
        except (OSError, ValueError):
            found = {}
        if isinstance(found, dict) and found.get("identity") == identity and isinstance(found.get("stages"), dict):
            self._records = found["stages"]
            if self._records:
                _log.info("going on after %s", list(self._records)[-1])
        else:
            for folder in (self.folder, self.scratch):
                shutil.rmtree(folder, ignore_errors=True)
        self._identity = identity
        for folder in (self.folder, self.scratch):
            folder.mkdir(exist_ok=True)

    def seal(self, manifest: Manifest, out: Path, *, replace: bool) -> None:
        """Write the manifest and rename the folder to `out`; an old bundle there is taken away.

        Raises ExistsError where `out` is there and not to be replaced, and BuildError where files and manifest differ.
        """
        listed = {file.path for file in manifest.files}
        there = {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}
        if extra := there - listed - {MANIFEST_FILE}:
            raise BuildError(f"files that the manifest does not name: {', '.join(sorted(extra))}")
        with disk_errors(self.root):
            path = self.folder / MANIFEST_FILE
            path.write_text(manifest.to_json(), "utf-8")
            for file in self.folder.rglob("*"):
                sync_path(file)
            if out.exists():
                if not replace:
                    raise _exists(out)
                old = self.root / OLD_FOLDER
                shutil.rmtree(old, ignore_errors=True)
                out.rename(old)
            self.folder.rename(out)
            sync_path(out.parent)
        shutil.rmtree(self.root, ignore_errors=True)

    def _write(self) -> None:
        partial = self.root / f"{STAGES_FILE}.partial"
        partial.write_text(json.dumps({"identity": self._identity, "stages": self._records}, indent=1), "utf-8")
        for folder in (self.folder, self.scratch):
            for path in folder.rglob("*"):
                sync_path(path)
        sync_path(partial)
        partial.replace(self.root / STAGES_FILE)


@contextlib.contextmanager
def open_workspace(
    out: Path, *, identity: Mapping[str, Any], replace: bool = False, disk_bytes: int = 0
) -> Iterator[Workspace]:
    """Opens the workspace of the bundle at `out`.

    `identity` is everything that the numbers depend on; if it differs from last time, the build starts again. If the
    build ends early, `out` is untouched, and the workspace is kept for the next attempt if a stage was completed.
    Raises ExistsError, BusyError, DiskFullError.
    """
    root = workspace_of(out)
    with disk_errors(out):
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another process is building {out}") from None
        if not (root / LOCK_FILE).exists():  # sealed and taken away between opening and locking
            raise BusyError(f"another process has just built {out}")
        old = root / OLD_FOLDER
        if old.exists() and not out.exists():
            old.rename(out)  # killed between the two renames of `seal`
        if out.exists() and not replace:
            if not (root / STAGES_FILE).exists():
                shutil.rmtree(root, ignore_errors=True)
            raise _exists(out)
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        workspace = Workspace(root)
        workspace.adopt(digest)
        _check_disk(root, disk_bytes)
        try:
            yield workspace
        except BaseException:
            if not workspace.begun:  # nothing to go on with
                shutil.rmtree(root, ignore_errors=True)
            raise
    finally:
        os.close(handle)


def _exists(out: Path) -> ExistsError:
    return ExistsError(f"{out} is there already: --replace puts the new bundle in its place")


def workspace_of(out: Path) -> Path:
    """Returns the folder in which the bundle at `out` is built."""
    return out.absolute().parent / f".{out.absolute().name}.building"


def _check_disk(root: Path, disk_bytes: int) -> None:
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    free = shutil.disk_usage(root).free
    if free + used < disk_bytes:
        raise DiskFullError(
            f"building takes about {disk_bytes / 2**30:.1f} GiB beside {root.name}, {free / 2**30:.1f} GiB are free there"
        )


# Libraries that write files themselves (ONNX Runtime, safetensors, torch) report a full disk in words only.
_FULL = ("no space left", "file too large", "quota exceeded", "os error 28", "os error 27", "failed writing file")


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turns "no space left", "file too large" and "quota exceeded" into DiskFullError, however a library says it."""
    try:
        yield
    except BuildError:
        raise
    except Exception as error:
        said = str(error).lower()
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        if full or any(words in said for words in _FULL):
            raise DiskFullError(
                f"the disk is full at {place}: free some room and run the same command again"
            ) from error
        raise


def source_identity(source: Path) -> dict[str, str]:
    """SHA-256 by path of every file in a checkpoint's folder (links followed), or of the one file."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    known: dict[str, str] = {}
    for path in files:
        relative = path.name if path == source else path.relative_to(source).as_posix()
        if not any(part.startswith(".") for part in relative.split("/")):
            known[relative] = _digest(path)
    return known


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HEAD_BYTES):
            digest.update(block)
    return digest.hexdigest()
