"""Small checkpoints with random weights, and bundles built of them, for the tests that need torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mirage_inference.bundles import EncoderManifest
from mirage_models.encoder.random_checkpoint import write_random_checkpoint
from mirage_models.encoder.task import EncoderTask
from mirage_models.generator import random_checkpoint as diffusion_checkpoint
from mirage_models.tasks import BuildRequest
from mirage_models.workspace import open_workspace

BuildEncoder = Callable[..., EncoderManifest]


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub-style checkpoint of the mini CLIP's kind."""
    return write_random_checkpoint("mini-clip", tmp_path_factory.mktemp("checkpoint"), seed=1)


@pytest.fixture(scope="session")
def build_encoder() -> BuildEncoder:
    """Builds an encoder's bundle as the command does: `build(source, out, variants=..., options=...)`."""

    def build(source: Path, out: Path, **fields: Any) -> EncoderManifest:
        request = BuildRequest(source=source, name="tiny", origin="random weights", licence="Apache-2.0", **fields)
        numbers = {name: value for name, value in fields.items() if name != "allow_parity_miss"}
        with open_workspace(out, identity={"fields": repr(sorted(numbers.items()))}) as workspace:
            manifest = EncoderTask().build(request, workspace)
            workspace.seal(manifest, out, replace=False)
        return manifest

    return build


@pytest.fixture(scope="session")
def generator_folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Small random generators in the files and keys of the public ones: "plain", "native", and "lora" and "tiny" for them."""
    root = tmp_path_factory.mktemp("generators")
    return {
        "plain": diffusion_checkpoint.write_random_checkpoint("prompt2medimage", root / "plain", seed=1),
        "native": diffusion_checkpoint.write_random_checkpoint(
            "lcm-dreamshaper-v7", root / "native", seed=2, half=True
        ),
        "lora": diffusion_checkpoint.write_random_lora(root / "lora", seed=3),
        "tiny": diffusion_checkpoint.write_random_tiny_decoder(root / "tiny", seed=4),
    }
