"""Files and programs that the tests use."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY_GENERATOR = ROOT / "services" / "generator" / "tests" / "tiny_bundle"
TINY_LLM = ROOT / "services" / "llm" / "tests" / "tiny_bundle"
MINI = ROOT / "models" / "mini"


def chromium() -> str:
    """The browser of MIRAGE_TEST_CHROMIUM, else the first of the usual names on the PATH; raises FileNotFoundError."""
    names = (os.environ.get("MIRAGE_TEST_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    for name in filter(None, names):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no Chromium: install Debian's package chromium, or set MIRAGE_TEST_CHROMIUM")


def program(name: str) -> str:
    """Returns the path of a program. If it is not installed the test is skipped, but fails in CI, which installs it."""
    if found := shutil.which(name):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")


def bare_environment() -> dict[str, str]:
    """The environment of a process that gets nothing from this one's except what it needs to run, and to be measured."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **measured}
