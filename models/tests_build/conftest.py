"""A small checkpoint with random weights, for the tests that need torch."""

from pathlib import Path

import pytest

from mirage_models.encoders.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub-style checkpoint of the mini CLIP's kind."""
    return write_random_checkpoint("mini-clip", tmp_path_factory.mktemp("checkpoint"), seed=1)
