"""`mirage models build` as an operator runs it: in a process of its own, killed, cut short of disk, on spoilt checkpoints."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mirage_models.encoder.random_checkpoint import write_random_checkpoint
from mirage_models.registry import verify

LOG_LINE = re.compile(r"^\d\d:\d\d:\d\d (.*)$")
LARGE_FILES = 1_500_000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of OpenAI's kind."""
    return write_random_checkpoint("openai-vit-b-32", tmp_path_factory.mktemp("source") / "clip", seed=3, size="small")


@pytest.fixture
def spoilt(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy, to be spoilt."""
    return Path(shutil.copytree(checkpoint, tmp_path / "spoilt"))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mirage_models.build", *map(str, arguments)]


def run(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    line = command(*arguments, "--json")
    if limit is not None:  # the kernel refuses to let a file grow beyond it, as it refuses on a full disk
        line = ["bash", "-c", f"trap '' XFSZ; ulimit -f {limit // 1024}; exec \"$@\"", "bash", *line]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def problem(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert f"error: {found['detail']} [{found['code']}]" in done.stderr
    return found


def left(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def built(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle of it, built without interruption, and what the command said."""
    folder = tmp_path_factory.mktemp("built")
    done = run(checkpoint, "--preset", "openai-vit-b-32", "--out", folder / "bundle")
    assert done.returncode == 0, done.stderr
    assert left(folder) == ["bundle"]
    return folder / "bundle", json.loads(done.stdout)


def test_a_folder_becomes_a_bundle_that_verifies(built: tuple[Path, dict[str, Any]]) -> None:
    folder, report = built
    assert report["licence"] == "MIT"
    assert report["source"] == "clip"
    assert report["remarks"] == ["parity not shown on target data"]
    assert report["parity_missed"] == []
    assert report["peak_memory_bytes"] > 0
    assert str(folder.parent) not in (folder / "manifest.json").read_text()
    assert verify(folder, engine="onnxruntime").passed


def test_a_killed_build_goes_on_and_gives_the_fingerprint_of_an_uninterrupted_one(
    checkpoint: Path, tmp_path: Path, built: tuple[Path, dict[str, Any]]
) -> None:
    line = command(checkpoint, "--preset", "openai-vit-b-32", "--out", tmp_path / "bundle")
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for text in process.stderr:
            if "export image" in text:
                break
        process.send_signal(signal.SIGKILL)
    assert left(tmp_path) == [".bundle.building"]
    done = run(checkpoint, "--preset", "openai-vit-b-32", "--out", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    steps = [found[1] for text in done.stderr.splitlines() if (found := LOG_LINE.match(text))]
    assert "export text: done before" in steps
    assert "export image" in steps
    assert left(tmp_path) == ["bundle"]
    assert json.loads(done.stdout)["fingerprint"] == built[1]["fingerprint"]


def test_a_full_disk_is_a_clear_error_without_a_half_bundle(checkpoint: Path, tmp_path: Path) -> None:
    found = problem(run(checkpoint, "--out", tmp_path / "bundle", "--variants", "fp32", limit=LARGE_FILES))
    assert found["code"] == "DISK_FULL"
    assert left(tmp_path) == []  # the first graph did not fit: nothing to go on with
    done = run(checkpoint, "--out", tmp_path / "bundle", "--variants", "fp32")
    assert done.returncode == 0, done.stderr
    assert verify(tmp_path / "bundle", engine="onnxruntime").passed


def test_a_truncated_checkpoint_is_a_clear_error(spoilt: Path, tmp_path: Path) -> None:
    weights = next(spoilt.glob("open_clip_*.safetensors"))
    os.truncate(weights, weights.stat().st_size // 2)
    assert problem(run(spoilt, "--out", tmp_path / "bundle"))["code"] == "CHECKPOINT_INVALID"
    assert "bundle" not in left(tmp_path)


def test_a_checkpoint_without_weights_is_a_clear_error(spoilt: Path, tmp_path: Path) -> None:
    for weights in spoilt.glob("open_clip_*.safetensors"):
        weights.unlink()
    assert problem(run(spoilt, "--out", tmp_path / "bundle"))["code"] == "CHECKPOINT_INVALID"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({}, "CHECKPOINT_INVALID"),
        ({"weights.h5": "?"}, "ARCHITECTURE_UNKNOWN"),
        ({"config.json": '{"model_type": "whisper", "architectures": ["WhisperModel"]}'}, "ARCHITECTURE_UNKNOWN"),
    ],
)
def test_what_no_task_knows_is_said_with_what_is_known(tmp_path: Path, files: dict[str, str], code: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, content in files.items():
        (source / name).write_text(content)
    found = problem(run(source, "--out", tmp_path / "bundle"))
    assert found["code"] == code
    if code == "ARCHITECTURE_UNKNOWN":
        assert re.search("gpt|language model", found["detail"].lower())
    assert left(tmp_path) == ["source"]


def test_a_bundle_is_no_checkpoint_and_a_file_is_no_folder(tmp_path: Path) -> None:
    from mirage_models.paths import mini_clip_bundle

    assert "is a bundle" in problem(run(mini_clip_bundle(), "--out", tmp_path / "bundle"))["detail"]
    file = mini_clip_bundle() / "manifest.json"
    assert "is a file" in problem(run(file, "--out", tmp_path / "bundle"))["detail"]
    assert "did you mean dolly-v2-3b" in problem(run("dolly-v2-3", "--out", tmp_path / "bundle"))["detail"]


def test_what_lies_at_the_target_stays(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "mine").write_text("mine")
    assert problem(run(checkpoint, "--out", out))["code"] == "EXISTS"
    assert (out / "mine").read_text() == "mine"
    assert left(tmp_path) == ["bundle"]
