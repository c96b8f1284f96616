"""How the keys of a run reach its services."""

import os
import stat
from pathlib import Path

import pytest

from mirage_core.settings import Identity, Role, ServiceSettings
from mirage_launcher import keys
from mirage_launcher.errors import LaunchError
from mirage_launcher.folders import Folders

KEY = "a-key-of-some-length"
VARIABLES = ("MIRAGE_API_KEYS", "MIRAGE_API_KEYS_FILE", "MIRAGE_SERVICE_KEY", "MIRAGE_PUBLIC_READ")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    made = Folders.at(tmp_path / "data")
    made.create()
    return made


def settings(given: keys.Keys, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """The settings of a service that is started with these keys."""
    for name, value in given.environment.items():
        monkeypatch.setenv(name, value)
    return ServiceSettings()


def test_without_keys_nothing_asks_for_one(folders: Folders) -> None:
    assert keys.prepare(folders) == keys.Keys()
    assert not list(folders.state.parent.iterdir())


@pytest.mark.parametrize("how", ["variable", "file"])
def test_services_know_the_callers_keys_and_their_own(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    if how == "file":
        (tmp_path / "keys").write_text(f"teacher:{KEY}:write\n")
        monkeypatch.setenv("MIRAGE_API_KEYS_FILE", str(tmp_path / "keys"))
    else:
        monkeypatch.setenv("MIRAGE_API_KEYS", f"teacher:{KEY}:write")
    given = keys.prepare(folders)
    assert not [value for value in given.environment.values() if KEY in value or given.service in value]
    read = settings(given, monkeypatch)
    assert read.api_keys.identify(KEY) == Identity("teacher", Role.WRITE)
    assert read.api_keys.identify(given.service) == Identity("mirage-services", Role.ADMIN)
    assert read.service_key == given.service
    for name in ("MIRAGE_API_KEYS_FILE", "MIRAGE_SERVICE_KEY_FILE"):
        assert stat.S_IMODE(os.stat(given.environment[name]).st_mode) == 0o600
    keys.forget(folders)
    assert not list(folders.state.parent.iterdir())


def test_each_run_has_a_service_key_of_its_own(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_API_KEYS", f"teacher:{KEY}")
    assert keys.prepare(folders).service != keys.prepare(folders).service


def test_a_public_atlas_has_a_key_of_its_services(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_PUBLIC_READ", "true")
    given = keys.prepare(folders)
    assert settings(given, monkeypatch).api_keys.identify(given.service) == Identity("mirage-services", Role.ADMIN)


@pytest.mark.parametrize("bad", ["both", "absent", "empty", "short"])
def test_keys_that_cannot_be_used_stop_the_start_and_are_not_quoted(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: str
) -> None:
    file = tmp_path / "keys"
    file.write_text({"empty": "\n", "short": "teacher:hunter2"}.get(bad, f"teacher:{KEY}"))
    monkeypatch.setenv("MIRAGE_API_KEYS_FILE", str(tmp_path / "none" if bad == "absent" else file))
    if bad == "both":
        monkeypatch.setenv("MIRAGE_API_KEYS", f"teacher:{KEY}")
    with pytest.raises(LaunchError) as caught:
        keys.prepare(folders)
    assert not any(quoted in str(caught.value) for quoted in (KEY, "hunter2"))
    assert not list(folders.state.parent.iterdir())


def test_folders_are_for_this_user_alone_also_if_they_were_not(tmp_path: Path) -> None:
    folders = Folders.at(tmp_path / "data")
    for folder in (folders.root, folders.atlas):
        folder.mkdir()
        folder.chmod(0o755)
    folders.create()
    for folder in (folders.root, folders.atlas, folders.logs, folders.state.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
