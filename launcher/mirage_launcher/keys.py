"""The API keys of one run: the operator's, and one with which the services call each other.

They are handed over in files that this user alone can read, and not in the environment, which other programs print.
"""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_settings import SettingsError

from mirage_core.settings import ApiKeys, read_secret
from mirage_launcher.errors import LaunchError
from mirage_launcher.folders import Folders

_KEYS = "MIRAGE_API_KEYS"
_SERVICE_KEY = "MIRAGE_SERVICE_KEY"
_PUBLIC = "MIRAGE_PUBLIC_READ"
_NAME = "mirage-services"


@dataclass(frozen=True)
class Keys:
    """`service` is the services' key, empty if the server asks for none; `environment` is what they are started with."""

    service: str = field(default="", repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def prepare(folders: Folders) -> Keys:
    """Writes the files of a run. Raises LaunchError for keys that cannot be used, which it never quotes."""
    given = _given()
    if not given and os.environ.get(_PUBLIC, "").strip().lower() not in ("1", "true", "yes", "on", "t", "y"):
        return Keys()
    # With keys set every call needs one, those between the services too: they get one that lives as long as this run.
    key = secrets.token_urlsafe(32)
    accepted, own = _files(folders)
    try:
        _write(accepted, f"{given}\n{_NAME}:{key}:admin\n" if given else f"{_NAME}:{key}:admin\n")
        _write(own, f"{key}\n")
    except OSError as error:
        raise LaunchError(f"the keys of this run cannot be written to {accepted.parent}: {error.strerror}") from error
    # Empty is as good as not set, and takes the place of what the launcher itself was given.
    return Keys(key, {_KEYS: "", f"{_KEYS}_FILE": str(accepted), _SERVICE_KEY: "", f"{_SERVICE_KEY}_FILE": str(own)})


def forget(folders: Folders) -> None:
    """Removes the files of a run."""
    for file in _files(folders):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _given() -> str:
    keys, file = os.environ.get(_KEYS, "").strip(), os.environ.get(f"{_KEYS}_FILE", "").strip()
    if keys and file:
        raise LaunchError(f"{_KEYS} and {_KEYS}_FILE are both set: set one of them")
    try:
        text = read_secret(f"{_KEYS}_FILE", file) if file else keys
        ApiKeys.parse(text)
    except (SettingsError, ValueError) as error:
        raise LaunchError(str(error)) from None
    return text


def _files(folders: Folders) -> tuple[Path, Path]:
    run = folders.state.parent
    return run / "api_keys", run / "service_key"


def _write(path: Path, text: str) -> None:
    # A file of an earlier run may have been made with other permissions.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
