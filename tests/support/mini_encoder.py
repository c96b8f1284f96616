"""The mini bundle that every test of the encoder runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirage_inference.encoder.model import EncoderModel, load_model
from mirage_inference.engines.base import EngineOptions
from tests.support.paths import ROOT

MINI = ROOT / "models" / "mini" / "clip" / "bundle"


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The folder of the mini CLIP's bundle."""
    return MINI


@pytest.fixture(scope="session")
def model(bundle: Path) -> Iterator[EncoderModel]:
    """The mini CLIP in ONNX Runtime."""
    loaded = load_model(bundle, engine="onnxruntime", options=EngineOptions(threads=1))
    yield loaded
    loaded.close()
