"""The file collection.json of an embedded collection."""

import json
import re
from pathlib import Path
from typing import Any

from mirage_core.files import MARK
from mirage_retriever.engines.base import Collection, CollectionDamagedError
from mirage_retriever.engines.edge.generations import Generations

FILE = "collection.json"
SHARDS = "shards"
_SHARDS_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def stored_collection(directory: Path) -> Collection | None:
    """Returns the model of a directory's collection.

    None without a collection, or with an unfinished or damaged one.
    """
    try:
        stored = read_stored(directory)
    except CollectionDamagedError:
        return None
    return None if stored is None else Collection(**stored["collection"])


def read_stored(directory: Path) -> dict[str, Any] | None:
    """Returns the content of its file.

    None if it is missing. Raises CollectionDamagedError for content that no retriever writes.
    """
    try:
        content = json.loads((directory / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CollectionDamagedError(error.strerror or "not readable") from error
    except (ValueError, RecursionError) as error:
        raise CollectionDamagedError("not JSON") from error
    match content:
        case {
            "collection": {"name": str(name), "dimension": int(dimension), "fingerprint": str(), **others},
            "shards": int(shards),
        } if _NAME.fullmatch(name) and dimension > 0 and 0 < shards <= _SHARDS_MAX and others.keys() <= {"schema"}:
            return dict(content)
    raise CollectionDamagedError("not what a collection says of itself")


def check(directory: Path) -> bool:
    """True for a collection that can be opened as far as its own files say, False for none. Raises
    CollectionDamagedError.

    What the engine itself has written is only known to be whole once a searcher has loaded it.
    """
    stored = read_stored(directory)
    if stored is None:
        return False
    for number in range(stored["shards"]):
        if not Generations.exist(directory / SHARDS / str(number)):
            raise CollectionDamagedError(f"shard {number} is not there")
    return True


def has_put_aside(data: Path) -> bool:
    """True if a data folder still has a damaged collection that was renamed."""
    return any(MARK in path.name for pattern in ("edge*", "collections/*") for path in data.glob(pattern))
