"""No process of MIRAGE reports home: libraries that do by default are told not to before they are loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirage_models.paths import mini_clip_bundle

MODULES = (
    "mirage_inference.engines.onnxruntime",
    "mirage_inference.llm.onnxruntime_decoder",
    "mirage_models.registry",
)
RUN = """
import importlib, sys
importlib.import_module(sys.argv[1])
import onnxruntime
onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
"""
RUN_OPENVINO = """
import importlib, sys
importlib.import_module(sys.argv[1])
import openvino
openvino.Core().compile_model(sys.argv[2], "CPU")
"""
ROOT = Path(__file__).resolve().parents[2]


def run(home: Path, script: str, *arguments: str, **variables: str) -> list[Path]:
    """The files that a process leaves in its home.

    It inherits nothing but the search path: ONNX Runtime also reports nothing where `CI`, `GITHUB_ACTIONS` and the like
    are set, which would make these tests pass, and those that show they can fail, fail.
    """
    subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PATH": os.environ["PATH"], **variables, "HOME": str(home)},
        check=True,
        timeout=120,
        capture_output=True,
    )
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("module", MODULES)
def test_whatever_is_imported_first_onnx_runtime_keeps_no_usage_data(module: str, tmp_path: Path) -> None:
    assert run(tmp_path, RUN, module, str(mini_clip_bundle() / "text.int8.onnx")) == []


@pytest.mark.parametrize("module", ["mirage_inference.engines.openvino"])
def test_openvino_counts_no_users(module: str, tmp_path: Path) -> None:
    assert run(tmp_path, RUN_OPENVINO, module, str(mini_clip_bundle() / "text.int8.onnx")) == []


def test_without_that_it_does_so_the_test_above_can_fail(tmp_path: Path) -> None:
    script = RUN.replace("importlib.import_module(sys.argv[1])", "")
    assert any(
        "onnxruntime" in path.name for path in run(tmp_path, script, "", str(mini_clip_bundle() / "text.int8.onnx"))
    )


def test_an_operator_who_wants_it_can_have_it(tmp_path: Path) -> None:
    files = run(tmp_path, RUN, MODULES[0], str(mini_clip_bundle() / "text.int8.onnx"), ORT_DISABLE_TELEMETRY="0")
    assert any("onnxruntime" in path.name for path in files)


def test_every_part_that_loads_onnx_runtime_is_among_them() -> None:
    found = {
        path.relative_to(ROOT).parts[:2]
        for folder in ("services", "models", "libs", "atlas", "launcher")
        for path in (ROOT / folder).rglob("*.py")
        if "import onnxruntime" in path.read_text("utf-8")
        and "tests" not in path.parts
        and "tests_build" not in path.parts
    }
    assert found <= {
        ("libs", "mirage_inference"),
        ("models", "mirage_models"),
    }
