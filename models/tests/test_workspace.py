import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirage_inference.bundles import LlmManifest, describe_file, load_manifest, verify_files
from mirage_models.tasks import BuildError
from mirage_models.workspace import (
    BusyError,
    DiskFullError,
    ExistsError,
    open_workspace,
    source_identity,
    workspace_of,
)

IDENTITY = {"model": "a"}


def manifest_of(folder: Path) -> LlmManifest:
    """A manifest of the files in a folder, of which two are enough."""
    paths = sorted(path.name for path in folder.iterdir())
    return LlmManifest.model_validate(
        {
            "name": "tiny",
            "task": "describe",
            "source": "here",
            "licence": "MIT",
            "opset": 21,
            "variants": {
                "fp32": {
                    "files": {"decoder": "decoder.onnx"},
                    "quantisation": {"decoder": "float32"},
                    "parity": {"tokens": 1, "agreement": 1, "perplexity": 2, "perplexity_ratio": 1},
                    "reference": {"tokens": 1, "agreement": 1, "perplexity": 2, "perplexity_ratio": 1},
                }
            },
            "default_variant": "fp32",
            "reference": "reference.npz",
            "files": [describe_file(folder, path).model_dump() for path in paths],
            "architecture": "gpt_neox",
            "tokenizer": "tokenizer.json",
            "prompt_format": "plain",
            "vocabulary": 8,
            "layers": 1,
            "heads": 1,
            "head_size": 4,
            "context_length": 16,
            "end_ids": [0],
        }
    )


# The smallest ONNX file: `ir_version` 8 and an empty graph.
ONNX = b"\x08\x08\x3a\x00"


def write_files(folder: Path) -> None:
    for name in ("decoder.onnx", "reference.npz", "tokenizer.json"):
        (folder / name).write_bytes(ONNX if name.endswith(".onnx") else name.encode())


def test_a_build_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("write", lambda: write_files(workspace.folder))
        (workspace.scratch / "big").write_bytes(b"0" * 1000)
        workspace.seal(manifest_of(workspace.folder), out, replace=False)
    verify_files(out, load_manifest(out))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_stopped_build_goes_on_after_its_last_whole_stage(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    made: list[str] = []

    def make(name: str, *, fail: bool = False) -> Callable[[], dict[str, str]]:
        def stage() -> dict[str, str]:
            if fail:
                raise RuntimeError("stopped")
            made.append(name)
            return {"made": name}

        return stage

    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("first", make("first"))
        with pytest.raises(RuntimeError):
            workspace.stage("second", make("second", fail=True))
    assert not out.exists()
    with open_workspace(out, identity=IDENTITY) as workspace:
        assert workspace.stage("first", make("first")) == {"made": "first"}
        assert workspace.stage("second", make("second")) == {"made": "second"}
    assert made == ["first", "second"]


def test_a_build_that_got_nowhere_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BuildError), open_workspace(tmp_path / "bundle", identity=IDENTITY):
        raise BuildError("a kind that is not known")
    assert list(tmp_path.iterdir()) == []


def test_another_build_does_not_go_on_with_it(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("write", lambda: write_files(workspace.folder))
    with open_workspace(out, identity={"model": "b"}) as workspace:
        assert list(workspace.folder.iterdir()) == []
        ran: list[bool] = []
        workspace.stage("write", lambda: ran.append(True))
        assert ran == [True]


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"identity": 3}'])
def test_spoilt_records_start_anew(tmp_path: Path, content: str) -> None:
    out = tmp_path / "bundle"
    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("write", lambda: write_files(workspace.folder))
    (workspace_of(out) / "stages.json").write_text(content)
    with open_workspace(out, identity=IDENTITY) as workspace:
        assert list(workspace.folder.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from mirage_models.workspace import open_workspace
out = Path(sys.argv[1])
def first(workspace):
    (workspace.folder / "kept").write_bytes(b"kept")
    (out.parent / "first.ran").open("a").write("x")
def second(workspace):
    (workspace.folder / "half").write_bytes(b"half")
    print("in second", flush=True)
    time.sleep(600)
with open_workspace(out, identity={"model": "a"}) as workspace:
    workspace.stage("first", lambda: first(workspace))
    workspace.stage("second", lambda: second(workspace))
"""


def test_a_killed_build_leaves_no_half_bundle_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in second\n"
        with pytest.raises(BusyError, match="another process"), open_workspace(out, identity=IDENTITY):
            pass
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("first", lambda: pytest.fail("the first stage was whole"))
        assert (workspace.folder / "kept").read_bytes() == b"kept"
        workspace.stage("second", lambda: (workspace.folder / "half").unlink())
    assert (tmp_path / "first.ran").read_text() == "x"


def test_a_bundle_that_is_there_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(ExistsError, match="--replace"), open_workspace(out, identity=IDENTITY):
        pass
    assert (out / "old").exists()
    with open_workspace(out, identity=IDENTITY, replace=True) as workspace:
        write_files(workspace.folder)
        workspace.seal(manifest_of(workspace.folder), out, replace=True)
    assert not (out / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_kill_between_taking_the_old_bundle_away_and_the_new_one_in_brings_the_old_one_back(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with open_workspace(out, identity=IDENTITY):
        pass
    old = workspace_of(out) / "replaced"
    old.mkdir()
    (old / "old").write_text("old")
    with pytest.raises(ExistsError), open_workspace(out, identity=IDENTITY):
        pass
    assert (out / "old").exists()


def test_a_file_that_the_manifest_does_not_name_is_not_sealed(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with open_workspace(out, identity=IDENTITY) as workspace:
        write_files(workspace.folder)
        manifest = manifest_of(workspace.folder)
        (workspace.folder / "stray").write_text("")
        with pytest.raises(BuildError, match="stray"):
            workspace.seal(manifest, out, replace=False)
    assert not out.exists()


def test_too_little_room_is_told_before_the_work(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match=r"takes about 1048576\.0 GiB"),
        open_workspace(tmp_path / "bundle", identity=IDENTITY, disk_bytes=2**50),
    ):
        pass


def test_a_full_disk_amid_a_stage_is_a_clear_error_and_the_build_goes_on(tmp_path: Path) -> None:
    """The kernel refuses to let files grow beyond a limit, as it refuses on a full disk."""
    out = tmp_path / "bundle"
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def grow(workspace: Any) -> None:
        (workspace.folder / "weights").write_bytes(b"0" * 2_000_000)

    try:
        with open_workspace(out, identity=IDENTITY) as workspace:
            workspace.stage("small", lambda: write_files(workspace.folder))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
            with pytest.raises(DiskFullError, match="the disk is full"):
                workspace.stage("large", lambda: grow(workspace))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert not out.exists()
    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("small", lambda: pytest.fail("this stage was whole"))
        workspace.stage("large", lambda: grow(workspace))


@pytest.mark.parametrize("words", ["No space left on device (os error 28)", "PytorchStreamWriter failed writing file"])
def test_a_full_disk_is_known_by_the_words_of_libraries(tmp_path: Path, words: str) -> None:
    def fail() -> None:
        raise RuntimeError(words)

    with pytest.raises(DiskFullError), open_workspace(tmp_path / "bundle", identity=IDENTITY) as workspace:
        workspace.stage("write", fail)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), open_workspace(tmp_path / "bundle", identity=IDENTITY) as workspace:
        workspace.stage("write", fail)


def test_a_source_is_known_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "lock").write_text("not the model's")
    first = source_identity(tmp_path)
    assert list(first) == ["unet/config.json"]
    os.utime(tmp_path / "unet" / "config.json", (time.time(), 0))
    assert source_identity(tmp_path) == first
    (tmp_path / "unet" / "config.json").write_text('{"a": 1}')
    assert source_identity(tmp_path) != first
    assert source_identity(tmp_path / "unet" / "config.json") == {
        "config.json": source_identity(tmp_path)["unet/config.json"]
    }


def test_records_are_json_that_can_be_read(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with open_workspace(out, identity=IDENTITY) as workspace:
        workspace.stage("measure", lambda: {"cosine": 0.5})
    assert json.loads((workspace_of(out) / "stages.json").read_text())["stages"] == {"measure": {"cosine": 0.5}}
