"""The operations behind `mirage backup` and `mirage restore`."""

import errno
import io
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mirage import __version__
from mirage.errors import InputError
from mirage_launcher import lock
from mirage_launcher.backups import archive
from mirage_launcher.backups.archive import Report
from mirage_launcher.backups.images import ATLAS, ImageArrival, is_old_image
from mirage_launcher.backups.manifest import Manifest
from mirage_launcher.backups.parts import QUEUE, VECTORS, Part, of_machine, of_volumes, require_rest
from mirage_launcher.backups.queue import Arrival, is_of_queue
from mirage_launcher.backups.replacement import Replacement, settle
from mirage_launcher.errors import BackupError, BackupInvalidError, DataExistsError, DiskFullError, StillUpError
from mirage_launcher.folders import Folders
from mirage_launcher.launch import leftovers
from mirage_launcher.queue_files.folder import SINGLE
from mirage_launcher.vectors import noted

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Place:
    """A place of storage: the data directory `data` of a `mirage up` (None: the usual one), or containers'
    `volumes`.
    """

    data: Path | None = None
    volumes: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The size of the backup; `remarks` name what was left out, and why."""

    manifest: Manifest
    remarks: tuple[str, ...] = ()


def back_up(place: Place, file: Path | None, *, report: Report) -> Outcome:
    """Writes everything that is stored to `file`, whole or not at all; to standard output for None.

    Raises StillUpError while MIRAGE runs there, DiskFullError, and BackupError.
    """
    with _taken(place) as parts:
        if not any(part.entries() for part in parts):
            raise BackupError(f"nothing is stored in {parts[0].folder.parent}")
        if file is not None and any(not part.only and file.is_relative_to(part.folder) for part in parts):
            raise InputError(f"{file} lies within what is to be backed up: give another place")
        with _system_errors("what is stored cannot be read"):
            found = archive.survey(parts, mirage=__version__, report=report)
        outcome = Outcome(found.manifest, (*found.remarks, *_elsewhere(place)))
        where = str(file) if file else "the output"
        with _system_errors(f"{where} cannot be written"):
            if file is None:
                archive.write(sys.stdout.buffer, found, report=report)
                sys.stdout.buffer.flush()
                return outcome
            with _whole(file) as out:
                archive.write(out, found, report=report)
        return outcome


def _elsewhere(place: Place) -> tuple[str, ...]:
    """A remark if records and vectors are on a Qdrant server, which no file of ours holds."""
    server = "" if place.volumes else noted(Folders.at(place.data))
    if not server:
        return ()
    return (f"records and vectors are on the Qdrant server at {server} and not in this file: back up that server too",)


def check(file: Path | None, *, report: Report) -> Outcome:
    """Reads a backup from beginning to end, standard input for None, as `restore` does.

    Raises BackupInvalidError and BackupNewerError.
    """
    with (
        _source(file) as source,
        tempfile.TemporaryDirectory(prefix="mirage-") as scratch,
        archive.opened(source, _name(file)) as reader,
        _system_errors(f"{scratch} cannot be written"),
    ):
        manifest = reader.manifest
        arrival = Arrival(Path(scratch), format_=manifest.format)
        arrival.check_names((*manifest.members, *manifest.folders))
        reader.unpack(lambda name: arrival.open(name) if is_of_queue(name) else None, report=report)
        return Outcome(manifest, arrival.read()[1])


def restore(place: Place, file: Path | None, *, replace: bool, report: Report) -> Outcome:
    """Puts what a backup holds in the place of all that is stored, once it is unpacked and found to be whole.

    Raises DataExistsError where something is stored and `replace` is not set, StillUpError while MIRAGE runs there,
    BackupInvalidError, BackupNewerError and DiskFullError; what was stored is as it was then.
    """
    with _source(file) as source, _taken(place, create=True) as parts:
        if not replace and any(part.entries() for part in parts):
            raise DataExistsError(
                f"{parts[0].folder.parent} has an atlas or jobs already: --replace puts the backup in their place"
            )
        with archive.opened(source, _name(file)) as reader:
            manifest = reader.manifest
            _require_room_for(manifest, parts)
            replacement = Replacement(parts)
            try:
                with _system_errors(f"{parts[0].folder.parent} cannot be written"):
                    replacement.begin()
                    remarks = _unpack(reader, replacement, report=report)
            except BaseException:
                with suppress(OSError):
                    settle(parts)
                raise
        with _system_errors(f"{parts[0].folder.parent} cannot be written"), _uninterrupted():
            replacement.commit()
        return Outcome(manifest, remarks)


def _unpack(reader: archive.Reader, replacement: Replacement, *, report: Report) -> tuple[str, ...]:
    """Puts all that a backup holds in the replacement; gives what was left out."""
    manifest = reader.manifest
    arrival = Arrival(replacement.scratch(), format_=manifest.format)
    arrival.check_names((*manifest.members, *manifest.folders))
    images = ImageArrival(replacement.folder(ATLAS))

    def place(name: str) -> IO[bytes] | None:
        if is_old_image(name):
            return images.open(name)
        return (arrival if is_of_queue(name) else replacement).open(name)

    for name in manifest.folders:
        if not (is_of_queue(name) or is_old_image(f"{name}/")):
            replacement.make_folder(name)
    with images.decoding():
        reader.unpack(place, report=report)
        left_out = images.finish()
    replacement.adopt(ATLAS)
    jobs, remarks = arrival.read()
    if jobs is not None:
        with io.BufferedWriter(replacement.open(f"{QUEUE}/{SINGLE}")) as file:
            for command in jobs.commands():
                file.write(command)
    return (*left_out, *remarks)


def _require_room_for(manifest: Manifest, parts: tuple[Part, ...]) -> None:
    here = {part.name for part in parts}
    if VECTORS in manifest.parts and VECTORS not in here:
        raise BackupError(
            "its vectors are a Qdrant server's: restore it where one keeps them (deploy/docker-compose.yml)"
        )
    if VECTORS in here and VECTORS not in manifest.parts:
        raise BackupError(
            "its vectors are the retriever's own: restore it without a Qdrant server (deploy/docker-compose.embedded.yml, "
            "`mirage up`)"
        )
    if unknown := set(manifest.parts) - here:
        raise BackupError(f"there is no place here for its part {', '.join(sorted(unknown))}")


@contextmanager
def _taken(place: Place, *, create: bool = False) -> Iterator[tuple[Part, ...]]:
    """The parts, which nothing else uses meanwhile, and which an interrupted restoration has left no trace in."""
    if place.volumes is not None:
        parts = of_volumes(place.volumes.resolve())
        require_rest(parts)
        with _system_errors(f"{place.volumes} cannot be written"):
            settle(parts)
        yield parts
        return
    folders = Folders.at(place.data)
    if create:
        folders.create()
    elif not folders.root.is_dir():
        raise BackupError(f"nothing is stored in {folders.root}")
    with _system_errors(f"{folders.root} cannot be used"):
        folders.lock.parent.mkdir(mode=0o700, exist_ok=True)
    with lock.held(folders.lock) as mine:
        if not mine:
            raise StillUpError(
                f"{folders.root} is in use: stop MIRAGE with `mirage down`, or let the other backup or restoration end"
            )
        if leftovers(folders):
            raise StillUpError(f"services still run in {folders.root}: stop them with `mirage down`")
        parts = of_machine(folders)
        require_rest(parts)
        with _system_errors(f"{folders.root} cannot be written"):
            settle(parts)
        yield parts


@contextmanager
def _whole(file: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name once it is complete and on the disk; only this user may read it."""
    partial = file.with_name(f"{file.name}.part")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def _source(file: Path | None) -> Iterator[IO[bytes]]:
    if file is None:
        yield sys.stdin.buffer
        return
    try:
        opened = file.open("rb")
    except OSError as error:
        raise BackupInvalidError(f"{file} cannot be read: {error.strerror}") from error
    with opened:
        yield opened


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits: what is half exchanged would only be finished by whatever is started next."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name(file: Path | None) -> str:
    return str(file) if file else "the input"


@contextmanager
def _system_errors(what: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:
            # Of the file that is read: what is wrong with it is said by its reader.
            raise
        if error.errno in _FULL:
            raise DiskFullError(
                f"{what}: the disk is full. Nothing was changed; free some room and begin again"
            ) from error
        raise BackupError(f"{what}: {error.strerror}") from error
