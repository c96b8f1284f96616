"""The file: a gzipped tar of plain files, the manifest first. Read and written in one go, so that it can be a pipe."""

import gzip
import hashlib
import io
import stat
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from mirage_launcher.backups import queue
from mirage_launcher.backups.manifest import MANIFEST_BYTES, NAME, Manifest, Member
from mirage_launcher.backups.parts import QUEUE, Part, collections
from mirage_launcher.errors import BackupError, BackupInvalidError, StillUpError

# Called with the bytes done, the bytes in all, and the current file.
Report = Callable[[str, int, int], None]

_CHUNK = 2**18
_ZEROS = bytes(_CHUNK)
# Images and vectors hardly shrink; what does are the long runs of zeros in the engine's files.
_LEVEL = 1
_LONG_NAME_BYTES = 8192
# After the last file: tar fills its last block.
_PADDING_BYTES = 2**20


@dataclass(frozen=True)
class Survey:
    """The contents of a backup: each file by its name in it, on the disk or as bytes. `remarks` name what is left
    out.
    """

    manifest: Manifest
    files: Mapping[str, Path | bytes]
    remarks: tuple[str, ...] = ()


def survey(parts: Sequence[Part], *, mirage: str, report: Report) -> Survey:
    """Reads everything once.

    Raises BackupError where something is neither a file nor a folder; sockets are passed over.
    """
    files: dict[str, Path] = {}
    folders: list[str] = []
    jobs: dict[str, bytes] = {}
    remarks: tuple[str, ...] = ()
    for part in parts:
        if part.name == QUEUE:
            data, remarks = queue.collect(part.folder)
            if data is not None:
                jobs[queue.JOBS] = data
            continue
        for entry in part.entries():
            _walk(entry, f"{part.name}/{entry.name}", files, folders)
    total = sum(path.lstat().st_size for path in files.values())
    done = 0
    members = {name: Member(len(data), hashlib.sha256(data).hexdigest()) for name, data in jobs.items()}
    for name, path in files.items():
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        members[name] = Member(size, digest.hexdigest())
        done += size
        report("reading", done, total)
    manifest = Manifest(
        mirage=mirage,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        parts=tuple(part.name for part in parts if part.folder.is_dir()),
        collections=dict(collections(tuple(parts))),
        members=members,
        folders=tuple(folders),
    )
    return Survey(manifest, {**jobs, **files}, remarks)


def _walk(path: Path, name: str, files: dict[str, Path], folders: list[str]) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        below = sorted(path.iterdir())
        if not below:
            folders.append(name)
        for entry in below:
            _walk(entry, f"{name}/{entry.name}", files, folders)
    elif stat.S_ISREG(mode):
        files[name] = path
    elif not stat.S_ISSOCK(mode):
        raise BackupError(f"{path} is neither a file nor a folder: a backup cannot hold it")


def write(out: IO[bytes], found: Survey, *, report: Report) -> None:
    """Writes the backup. Raises StillUpError if a file differs from the manifest."""
    manifest = found.manifest
    total, done = manifest.total_bytes, 0
    moment = int(time.time())
    # Without the file's name, and so without its path.
    with (
        gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=_LEVEL) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        text = manifest.to_json()
        tar.addfile(_header(NAME, len(text), moment), io.BytesIO(text))
        for name, path in found.files.items():
            member = manifest.members[name]
            with io.BytesIO(path) if isinstance(path, bytes) else path.open("rb") as file:
                hashed = _Hashed(file)
                try:
                    tar.addfile(_header(name, member.size, moment), hashed)  # type: ignore[arg-type] # it only reads
                except OSError as error:
                    if error.errno is not None:
                        raise
                    raise _changed(name) from error
                if hashed.hexdigest() != member.sha256 or file.read(1):
                    raise _changed(name)
            # It would keep a header of each.
            tar.members.clear()  # type: ignore[attr-defined] # in no stub
            done += member.size
            report("writing", done, total)


def _header(name: str, size: int, moment: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = size, moment, 0o600
    return header


def _changed(name: str) -> StillUpError:
    return StillUpError(f"{name} changed while it was read: something still uses it; stop that and begin again")


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _PlainFile(tarfile.TarInfo):
    """A header that takes plain files alone: no link, device or folder, and no header of unbounded length."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        long_name = self.type == tarfile.GNUTYPE_LONGNAME and self.size <= _LONG_NAME_BYTES
        if not long_name and self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise BackupInvalidError(f"{self.name[:200]!r} in it is not a plain file")
        return super()._proc_member(tar)  # type: ignore[misc] # made to be overridden, and in no stub


class Reader:
    """A backup that is being read, from its manifest to its end."""

    def __init__(self, tar: tarfile.TarFile, packed: gzip.GzipFile) -> None:
        self._tar = tar
        self._packed = packed
        header = tar.next()
        if header is None or header.name != NAME or header.size > MANIFEST_BYTES:
            raise BackupInvalidError("it is no backup of MIRAGE: its list of files is not at its beginning")
        self.manifest = Manifest.from_json(b"".join(self._content(header)))

    def unpack(self, place: Callable[[str], IO[bytes] | None], *, report: Report) -> None:
        """Reads every file, checks it, and writes it to the file that `place` opens for its name.

        None for one that is only checked.

        Raises BackupInvalidError if a file is missing, unexpected, or differs from the manifest.
        """
        total, done = self.manifest.total_bytes, 0
        missing = dict(self.manifest.members)
        while header := self._tar.next():
            member = missing.pop(header.name, None)
            if member is None:
                raise BackupInvalidError(f"it holds a file that its list does not name: {header.name[:200]!r}")
            digest = hashlib.sha256()
            file = place(header.name)
            with file or nullcontext():
                for chunk in self._content(header):
                    digest.update(chunk)
                    if file:
                        _write_sparse(file, chunk)
                if file:
                    file.truncate()
            if header.size != member.size or digest.hexdigest() != member.sha256:
                raise BackupInvalidError(f"{header.name!r} in it is not what was backed up: its hash is another")
            self._tar.members.clear()  # type: ignore[attr-defined] # in no stub
            done += header.size
            report("reading", done, total)
        if missing:
            raise BackupInvalidError(f"it ends too early: {len(missing):,} of its files are missing")
        rest = 0
        while chunk := self._packed.read(_CHUNK):
            rest += len(chunk)
            if rest > _PADDING_BYTES:
                raise BackupInvalidError("it goes on after its end")

    def _content(self, header: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._tar.extractfile(header)
        if file is None:
            raise BackupInvalidError(f"{header.name[:200]!r} in it is not a plain file")
        left = header.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise EOFError
            left -= len(chunk)
            yield chunk


def _write_sparse(file: IO[bytes], chunk: bytes) -> None:
    # The engine reserves far more than it uses: a hole does not take space.
    if chunk == _ZEROS[: len(chunk)]:
        file.seek(len(chunk), io.SEEK_CUR)
    else:
        file.write(chunk)


@contextmanager
def opened(file: IO[bytes], name: str) -> Iterator[Reader]:
    """A reader of the backup in `file`, called `name` in what is said about it. Raises BackupInvalidError,
    BackupNewerError.
    """
    try:
        with (
            gzip.GzipFile(fileobj=file, mode="rb") as packed,
            tarfile.open(fileobj=packed, mode="r|", tarinfo=_PlainFile) as tar,
        ):
            yield Reader(tar, packed)
    except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, RecursionError) as error:
        started = not isinstance(error, gzip.BadGzipFile) and "not a" not in str(error)
        raise BackupInvalidError(
            f"{name} is cut off or damaged" if started else f"{name} is no backup of MIRAGE: not a gzipped tar"
        ) from error
    except BackupError as error:
        if isinstance(error, BackupInvalidError) or error.code == "BACKUP_NEWER":
            raise type(error)(f"{name}: {error}") from error
        raise
