"""The tiny bundle, and a service that runs on it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # llm_process.py, which several modules of tests share

from llm_process import TINY, Running, llm

from mirage_llm.model import LanguageModel, load_model


@pytest.fixture(scope="session")
def model() -> Iterator[LanguageModel]:
    """The tiny model in this process."""
    loaded = load_model(TINY, threads=1)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """A service with one slot and a queue of one."""
    with llm(QUEUE="1") as running:
        yield running
