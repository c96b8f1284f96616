"""Finds the bundles that services are started with."""

import json
from collections.abc import Iterator
from pathlib import Path

from mirage_launcher.errors import LaunchError

MINI = "mini"
ENCODE, DESCRIBE, GENERATE = "encode", "describe", "generate"
MANIFEST = "manifest.json"
_MANIFEST_BYTES = 2**20


def find_bundle(models: str) -> Path:
    """Returns the encoder's bundle: the packaged one for "mini", else the one in or directly below that directory.

    Raises LaunchError if it is missing, or if there are several. The encoder checks its content.
    """
    if models == MINI:
        from mirage_models.paths import mini_clip_bundle

        return mini_clip_bundle()
    found = _only(models, ENCODE)
    if found is None:
        folder = Path(models).expanduser().resolve()
        raise LaunchError(f"{folder} holds no bundle that encodes (a directory with a {MANIFEST} of task {ENCODE!r})")
    return found


def find_llm_bundle(models: str, llm: str = "") -> Path | None:
    """Returns the llm's bundle, found in the same way; if it is None, descriptions are taken from captions.

    `llm` names another one: a model that `mirage models fetch` made, or a directory. Raises LaunchError if that is not
    there, or if there is more than one.
    """
    if llm:
        from mirage_models.paths import fetched_folder

        for folder in (fetched_folder() / llm, Path(llm).expanduser().resolve()):
            if _task(folder / MANIFEST) == DESCRIBE:
                return folder
        raise LaunchError(f"{llm} is not a bundle that describes: `mirage models fetch` lists models to fetch")
    if models == MINI:
        from mirage_models.paths import mini_lm_bundle

        bundle = mini_lm_bundle()
        return bundle if (bundle / MANIFEST).is_file() else None
    return _only(models, DESCRIBE)


def better_llm(used: Path | None) -> str:
    """Returns the name of the largest llm that was fetched, or "" if `used` is one of them or is as large."""
    from mirage_models.paths import fetched_folder

    folder = fetched_folder()
    found = [path for path in folder.iterdir() if _task(path / MANIFEST) == DESCRIBE] if folder.is_dir() else []
    best = max(found, key=_bytes, default=None)
    if best is None or used in found or (used is not None and _bytes(used) >= _bytes(best)):
        return ""
    return best.name


def _bytes(bundle: Path) -> int:
    return sum(file.stat().st_size for file in bundle.iterdir())


def find_generator_bundle(models: str) -> Path | None:
    """Returns the generator's bundle, found in the same way; if it is None, images cannot be generated."""
    if models == MINI:
        from mirage_models.paths import mini_generator_bundle

        bundle = mini_generator_bundle()
        return bundle if (bundle / MANIFEST).is_file() else None
    return _only(models, GENERATE)


def _only(models: str, task: str) -> Path | None:
    folder = Path(models).expanduser().resolve()
    if not folder.is_dir():
        raise LaunchError(f"{folder} is not a directory of models")
    found = list(_bundles(folder, task))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        verb = {ENCODE: "encode", DESCRIBE: "describe", GENERATE: "generate"}[task]
        raise LaunchError(f"{folder} holds several bundles that {verb} ({names}): give the directory of one")
    return found[0] if found else None


def _bundles(folder: Path, task: str) -> Iterator[Path]:
    if (folder / MANIFEST).is_file():
        # A bundle itself, and the encoder's: whatever its manifest says, the encoder checks it.
        if task == ENCODE:
            yield folder
        return
    for path in sorted(folder.iterdir()):
        if (path / MANIFEST).is_file() and _task(path / MANIFEST) == task:
            yield path


def _task(manifest: Path) -> str:
    try:
        with manifest.open("rb") as file:
            return str(json.loads(file.read(_MANIFEST_BYTES))["task"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
