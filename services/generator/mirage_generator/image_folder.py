"""The images made: files named by their content, in one folder that the API and all workers share."""

import errno
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mirage_core.errors import Code, MirageError
from mirage_core.files import write_atomically

# A file may be written before its job's record names it; an older one that no job names was left behind.
ORPHAN_S = 3600.0
# The subfolders of files.
SUBFOLDERS = tuple(f"{number:02x}" for number in range(256))
_NAME = re.compile(r"[0-9a-f]{64}")
# A complete file, and one that a killed writer left (also of the version before). Nothing else in the folder is removed.
_OURS = re.compile(r"(?P<digest>[0-9a-f]{64})\.png|\.[0-9a-f]{64}(\.png)?\.[0-9a-f]+(\.new)?")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ImageFolder:
    """PNG files in `root`/ab/abcd….png. A file is there whole or not at all."""

    def __init__(self, root: Path) -> None:
        """Makes the folder, readable by this user alone. Raises STORAGE_FULL, or OSError if it cannot be used."""
        self._root = root
        with _told_when_full():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Returns the path of a file; raises ValueError for a name that is not a digest."""
        if not _NAME.fullmatch(sha256):
            raise ValueError("not a digest")
        return self._root / sha256[:2] / f"{sha256}.png"

    def write(self, data: bytes) -> str:
        """Stores a file and gives its SHA-256; it outlives a power failure once this returns. Raises STORAGE_FULL."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        with _told_when_full():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, data)
        return digest

    def remove(self, sha256: str) -> None:
        """Removes a file if it exists."""
        with suppress(OSError):
            self.path(sha256).unlink()

    def remove_orphans(self, subfolder: str, is_kept: Callable[[str], bool], *, older_than_s: float = ORPHAN_S) -> int:
        """Removes old files on one of SUBFOLDERS that belong to no job, also those of killed writers.

        Returns their number.
        """
        removed = 0
        latest = time.time() - older_than_s
        for path, digest in self._files(subfolder):
            with suppress(OSError):
                if path.stat().st_mtime > latest or (digest is not None and is_kept(digest)):
                    continue
                path.unlink()
                removed += 1
        return removed

    def _files(self, subfolder: str) -> Iterator[tuple[Path, str | None]]:
        """Yields each file with its digest, if it is complete."""
        with suppress(FileNotFoundError, NotADirectoryError):
            for path in (self._root / subfolder).iterdir():
                if found := _OURS.fullmatch(path.name):
                    yield path, found["digest"]


@contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise MirageError(Code.STORAGE_FULL, retry_after_s=30.0) from error
        raise
