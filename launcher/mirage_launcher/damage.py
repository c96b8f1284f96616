"""What is damaged in a data directory: put aside before a start, and named for as long as it is there."""

import os
from collections.abc import Iterator
from pathlib import Path

from mirage_core.files import MARK, put_aside
from mirage_launcher.errors import LaunchError
from mirage_launcher.folders import Folders

# Where services put things aside: next to what they replace.
_PLACES = (".", "atlas", "atlas/collections", "queue", "run", "logs")
_NAMED = 20


def remarks(folders: Folders) -> tuple[str, ...]:
    """A sentence for each thing that was put aside and is still there."""
    found = list(_put_aside(folders))
    named = tuple(f"{path} is damaged: it was put aside, and MIRAGE goes on without it" for path in found[:_NAMED])
    rest = len(found) - len(named)
    return (*named, f"{rest:,} more damaged files were put aside") if rest else named


def _put_aside(folders: Folders) -> Iterator[Path]:
    for place in _PLACES:
        try:
            names = sorted(name for name in os.listdir(folders.root / place) if MARK in name)
        except OSError:
            continue
        yield from (folders.root / place / name if place != "." else folders.root / name for name in names)


def clear_the_way(folders: Folders) -> None:
    """Puts aside what is in the place of a folder or a file that the launcher makes. Raises LaunchError if it cannot."""
    try:
        for folder in folders.made:
            if os.path.lexists(folder) and not folder.is_dir():
                put_aside(folder)
        for file in folders.files:
            usable = file.is_file() and os.access(file, os.R_OK | os.W_OK)
            if os.path.lexists(file) and not usable:
                put_aside(file)
    except OSError as error:
        raise LaunchError(f"cannot use {folders.root} as the data directory: {error.strerror}") from error
