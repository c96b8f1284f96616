"""What an embedded collection says of itself on the disk."""

import json
from pathlib import Path
from typing import Any

from mirage_retriever.engines.base import Collection

FILE = "collection.json"


def stored_collection(directory: Path) -> Collection | None:
    """What a directory's collection is bound to; None where there is none, or one that was never finished."""
    stored = read_stored(directory)
    return None if stored is None else Collection(**stored["collection"])


def read_stored(directory: Path) -> dict[str, Any] | None:
    """The content of its file; None where there is none."""
    try:
        content: dict[str, Any] = json.loads((directory / FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content
