"""The tiny bundle, and a service that runs on it."""

from collections.abc import Iterator

import pytest

from mirage_inference.llm.model import LlmModel, load_model
from tests.support.llm_process import Running, llm
from tests.support.paths import TINY_LLM as TINY


@pytest.fixture(scope="session")
def model() -> Iterator[LlmModel]:
    """The tiny model in this process."""
    loaded = load_model(TINY, threads=1)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    """A service with one slot and a queue of one."""
    with llm(QUEUE="1") as running:
        yield running
