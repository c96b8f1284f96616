"""Files that the verbs write: completely or not at all, and over another one only if that was asked for."""

import os
from pathlib import Path

from mirage.errors import InputError


def check_writable(path: Path, *, replace: bool) -> None:
    """Raises InputError if a file could not be written, before any work is done for it."""
    if path.is_dir():
        raise InputError(f"{path} is a folder")
    if path.exists() and not replace:
        raise InputError(f"{path} exists: give another name, or --force")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: no such folder, or not yours to write into")


def write_file(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Writes a file. Raises InputError if that fails, and if a file exists that must not be replaced."""
    if not replace:
        check_writable(path, replace=False)
    # To a temporary name first: a full disk must not leave half a file under the given name.
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from error
