"""Finds the bundle that the encoder is started with."""

import json
from collections.abc import Iterator
from pathlib import Path

from mirage_launcher.errors import LaunchError

MINI = "mini"
TASK = "encode"
MANIFEST = "manifest.json"
_MANIFEST_BYTES = 2**20


def find_bundle(models: str) -> Path:
    """The encoder's bundle: the packaged one for "mini", else the one in or directly below that directory.

    Raises LaunchError where there is none, or more than one. The encoder checks what is in it.
    """
    if models == MINI:
        from mirage_models.paths import mini_clip_bundle

        return mini_clip_bundle()
    folder = Path(models).expanduser().resolve()
    if not folder.is_dir():
        raise LaunchError(f"{folder} is not a directory of models")
    found = list(_encoders(folder))
    if not found:
        raise LaunchError(f"{folder} holds no bundle that encodes (a directory with a {MANIFEST} of task {TASK!r})")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise LaunchError(f"{folder} holds several bundles that encode ({names}): give the directory of one")
    return found[0]


def _encoders(folder: Path) -> Iterator[Path]:
    if (folder / MANIFEST).is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if (path / MANIFEST).is_file() and _task(path / MANIFEST) == TASK:
            yield path


def _task(manifest: Path) -> str:
    try:
        with manifest.open("rb") as file:
            return str(json.loads(file.read(_MANIFEST_BYTES))["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
