"""Damaged files of a data directory: moved away before a start, and named as long as they exist."""

import os
from collections.abc import Iterator
from pathlib import Path

from mirage_core.files import MARK, put_aside
from mirage_launcher.errors import LaunchError
from mirage_launcher.folders import Folders

# Services move damaged files next to their replacements.
_PLACES = (".", "atlas", "atlas/collections", "queue", "run", "logs")
_NAMED = 20


def remarks(folders: Folders) -> tuple[str, ...]:
    """Returns a sentence for each file that was moved away and still exists."""
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
    """Moves away anything at the path of a folder or a file that the launcher makes. Raises LaunchError if it
    cannot.
    """
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
