"""The files of a site: named by their content, written once, removed when no export names them any more."""

import gzip
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirage_launcher.errors import SiteError

# Hosts take files of this size, and a download that broke goes on with the next one.
PART_BYTES = 8 * 2**20
HEAD = "site.json"
# Written first: an export that was interrupted can go on in its folder.
MARK = ".mirage-site"
_DIGEST_CHARS = 16


class SiteFiles:
    """The folder of a site. `written` and `kept` count the files that an export wrote and those that were there."""

    def __init__(self, root: Path) -> None:
        """Takes a folder that is empty, or that an export has begun to fill. Raises SiteError for any other."""
        try:
            root.mkdir(parents=True, exist_ok=True)
            if any(root.iterdir()) and not (root / MARK).is_file():
                raise SiteError(f"{root} has other files in it: name an empty folder, or one that an export wrote")
        except OSError as error:
            raise SiteError(f"{root} cannot be used: {error.strerror or 'an error of the file system'}") from error
        self._root = root
        self._used: set[Path] = set()
        self.written = 0
        self.kept = 0
        self.bytes = 0
        self.put(MARK, b"mirage export site\n")

    def has(self, path: str) -> bool:
        """True if a file named by its content is there already; it stays in the site."""
        found = self._root / path
        try:
            size = found.stat().st_size
        except OSError:
            return False
        if not size:
            return False
        if found not in self._used:
            self._used.add(found)
            self.kept += 1
            self.bytes += size
        return True

    def put(self, path: str, content: bytes) -> None:
        """Writes a file, unless it is there with this content."""
        target = self._root / path
        if target in self._used:
            return
        try:
            same = target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content
            if not same:
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(target, content)
        except OSError as error:
            raise SiteError(f"{target} cannot be written: {error.strerror or 'an error of the file system'}") from error
        self._used.add(target)
        self.kept += same
        self.written += not same
        self.bytes += len(content)

    def put_parts(self, folder: str, name: str, content: bytes, *, packed: bool = False) -> dict[str, Any]:
        """Writes a file in parts named by their content, compressed if `packed`. Returns what a page needs to read it."""
        digest = hashlib.sha256(content).hexdigest()
        stored = gzip.compress(content, 9, mtime=0) if packed else content
        parts = []
        for number, part in enumerate(_parts(stored)):
            path = f"{folder}/{name}-{digest[:_DIGEST_CHARS]}.{number:03d}.bin"
            self.put(path, part)
            parts.append([path, len(part)])
        return {"parts": parts, "size": len(stored), "bytes": len(content), "packed": packed, "sha256": digest}

    def finish(self) -> int:
        """Removes the files of earlier exports that this one does not name. Returns their number."""
        removed = 0
        for folder, _, names in os.walk(self._root, topdown=False):
            for name in names:
                path = Path(folder) / name
                if path not in self._used:
                    path.unlink(missing_ok=True)
                    removed += 1
            if Path(folder) != self._root and not any(Path(folder).iterdir()):
                Path(folder).rmdir()
        return removed


def _parts(content: bytes) -> Iterator[bytes]:
    for start in range(0, max(1, len(content)), PART_BYTES):
        yield content[start : start + PART_BYTES]


def _write(path: Path, content: bytes) -> None:
    # Next to it and then renamed, so that no visitor gets half a file; readable by a web server of another user.
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
