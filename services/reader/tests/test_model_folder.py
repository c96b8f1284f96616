"""A folder that the engine `openvino-genai` refuses, with or without its library."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from mirage_core.errors import Code, MirageError
from mirage_reader.engines.openvino_genai import OpenVinoOptions, OpenVinoReading
from mirage_reader.settings import ReaderSettings
from tests.support.paths import bare_environment

from .test_engines import small

EXPORTED = ("language_model", "text_embeddings_model", "vision_embeddings_model", "tokenizer", "detokenizer")


def exported(folder: Path) -> Path:
    """A folder with the files of an export, which are empty."""
    folder.mkdir()
    names = [f"openvino_{part}.{ending}" for part in EXPORTED for ending in ("xml", "bin")]
    for name in ("config.json", "preprocessor_config.json", *names):
        (folder / name).touch()
    return folder


async def reason(folder: Path) -> str:
    with pytest.raises(MirageError) as error:
        await OpenVinoReading.load(OpenVinoOptions(folder), small)
    assert error.value.code is Code.BUNDLE_INVALID
    assert str(folder.parent) not in error.value.message
    return error.value.message


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "there is no folder nothing" in await reason(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["config.json", "openvino_tokenizer.xml", "openvino_vision_embeddings_model.bin"])
async def test_a_folder_without_a_file_is_refused(name: str, tmp_path: Path) -> None:
    folder = exported(tmp_path / "model")
    (folder / name).unlink()
    assert f"{name} is missing" in await reason(folder)


async def test_without_the_library_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    monkeypatch.delitem(sys.modules, "mirage_reader.engines.openvino_pipeline", raising=False)
    assert "the library openvino-genai is not installed" in await reason(exported(tmp_path / "model"))


def test_the_engine_needs_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRAGE_READER_ENGINE", "openvino-genai")
    with pytest.raises(ValidationError, match="needs MIRAGE_READER_FOLDER"):
        ReaderSettings()


def test_a_reader_with_another_engine_does_not_load_openvino() -> None:
    script = "import sys, mirage_reader.app; print(*(name for name in sys.modules if name.startswith('openvino')))"
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=bare_environment(), capture_output=True, text=True, check=True
    )
    # mirage_core blocks this one.
    assert loaded.stdout.split() == ["openvino_telemetry"]
