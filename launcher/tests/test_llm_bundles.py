"""The llm that is started: among the models, by the name of a fetched one, or by its directory."""

import json
from pathlib import Path

import pytest

from mirage_launcher.bundles import better_llm, find_llm_bundle
from mirage_launcher.errors import LaunchError


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "mirage" / "models"


def bundle(folder: Path, task: str = "describe", size: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"task": task}), "utf-8")
    (folder / "decoder.data").write_bytes(bytes(size))
    return folder


def test_a_fetched_model_is_found_by_name_and_another_bundle_by_directory(tmp_path: Path, fetched: Path) -> None:
    small, own = bundle(fetched / "small"), bundle(tmp_path / "own")
    assert find_llm_bundle("mini", "small") == small
    assert find_llm_bundle("mini", str(own)) == own


@pytest.mark.parametrize("name", ["nothing", "encoder", "/", ".."])
def test_what_is_not_an_llm_is_refused(fetched: Path, name: str) -> None:
    bundle(fetched / "encoder", task="encode")
    with pytest.raises(LaunchError, match="mirage models fetch"):
        find_llm_bundle("mini", name)


def test_the_largest_fetched_llm_is_offered_if_none_of_them_is_used(tmp_path: Path, fetched: Path) -> None:
    assert better_llm(None) == ""
    small, large = bundle(fetched / "small", size=10), bundle(fetched / "large", size=20)
    bundle(fetched / "encoder", task="encode", size=30)
    assert better_llm(None) == "large"
    assert better_llm(bundle(tmp_path / "own")) == "large"
    assert better_llm(bundle(tmp_path / "huge", size=1000)) == ""
    assert better_llm(small) == ""
    assert better_llm(large) == ""
