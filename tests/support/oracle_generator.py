"""A generator whose networks know the picture that they are asked for, so that every number can be foretold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mirage_inference.bundles import (
    BundleFile,
    DiffusionSchedule,
    GeneratorManifest,
    GeneratorParity,
    GeneratorVariant,
    LcmSchedule,
    PromptInput,
    Range,
)
from mirage_inference.engines.base import FloatArray, Inputs
from mirage_inference.generator.model import GeneratorModel
from mirage_inference.generator.scheduler import signal_of
from mirage_inference.generator.tokenizer import PromptTokenizer

PROMPT = PromptInput(tokenizer="tokenizer.json", context_length=8, start_id=0, end_id=1, pad_id=1)
SCHEDULE = LcmSchedule(
    train_timesteps=1000,
    original_steps=50,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction="epsilon",
    timestep_scaling=10.0,
)
PLAIN = DiffusionSchedule(
    sampler="dpm-solver++",
    train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction="epsilon",
    spacing="linspace",
    steps_offset=1,
    ends_clean=True,
)
# What a manifest of a plain Stable Diffusion has instead.
PLAIN_CHANGES: dict[str, object] = {
    "schedule": PLAIN,
    "guidance": Range(least=1, most=15, default=7.5),
    "steps": Range(least=10, most=50, default=25),
}
SIDE = 64


def make_manifest(**changes: object) -> GeneratorManifest:
    """A manifest of Stable Diffusion's kind with an LCM-LoRA, at small sides."""
    roles = ("text", "unet", "decoder")
    content: dict[str, object] = {
        "name": "oracle",
        "task": "generate",
        "source": "made by the test",
        "licence": "Apache-2.0",
        "opset": 23,
        "variants": {
            "fp32": GeneratorVariant(
                files={role: f"{role}.onnx" for role in roles},
                quantisation=dict.fromkeys(roles, "float32"),
                parity=GeneratorParity(images=1, latents=(1.0,), ssim=1.0),
            )
        },
        "default_variant": "fp32",
        "reference": "reference.npz",
        "files": tuple(
            BundleFile(path=path, size=0, sha256="0" * 64)
            for path in ("text.onnx", "unet.onnx", "decoder.onnx", "reference.npz", "tokenizer.json")
        ),
        "prompt": PROMPT,
        "schedule": SCHEDULE,
        "guidance_input": "unconditional",
        "guidance": Range(least=1, most=2, default=1),
        "steps": Range(least=1, most=10, default=4),
        "side": Range(least=64, most=128, default=SIDE),
        "latent_channels": 4,
        "latent_scale": 8,
        "safety_checker": "absent in the checkpoint",
        **changes,
    }
    return GeneratorManifest.model_validate(content)


class Session:
    """A network that is a function; keeps what it was given."""

    def __init__(self, function: Callable[[Inputs], FloatArray]) -> None:
        self.seen: list[Inputs] = []
        self._function = function

    def run(self, inputs: Inputs) -> FloatArray:
        self.seen.append(dict(inputs))
        return self._function(inputs)

    def close(self) -> None:
        self.seen.clear()


class Oracle:
    """Predicts just the noise that stands between given latents and what was asked for: first word or second prompt."""

    def __init__(self, manifest: GeneratorManifest, wanted: FloatArray) -> None:
        self.signal = signal_of(manifest.schedule)
        self.prediction = manifest.schedule.prediction
        self.wanted = wanted

    def __call__(self, inputs: Inputs) -> FloatArray:
        signal = self.signal[int(inputs["timestep"][0])]
        latents = inputs["sample"]
        noise = (latents - np.sqrt(signal) * self.wanted) / np.sqrt(1 - signal)
        match self.prediction:
            case "epsilon":
                return np.asarray(noise, dtype=np.float32)
            case "v_prediction":
                return np.asarray(np.sqrt(signal) * noise - np.sqrt(1 - signal) * self.wanted, dtype=np.float32)
            case _:
                return self.wanted


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of a few words, lower case."""
    words = ["<start>", "<end>", "<unknown>", "axial", "brain", "of", "the", "left", "kidney"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def wanted() -> FloatArray:
    """Latents of the picture that the oracle has in mind."""
    return np.random.default_rng(7).standard_normal((1, 4, SIDE // 8, SIDE // 8), dtype=np.float32)


@pytest.fixture
def make_model(tokenizer_file: Path, wanted: FloatArray) -> Callable[..., GeneratorModel]:
    """Makes a generator with an oracle for a UNet; the decoder shows the first three channels, eight times as large."""

    def make(**changes: object) -> GeneratorModel:
        manifest = make_manifest(**changes)
        sessions = {
            "text": Session(lambda inputs: inputs["tokens"].astype(np.float32)[..., None]),
            "unet": Session(Oracle(manifest, wanted)),
            "decoder": Session(lambda inputs: inputs["latents"][:, :3].repeat(8, axis=2).repeat(8, axis=3)),
        }
        return GeneratorModel(manifest, "fp32", PromptTokenizer(tokenizer_file, manifest.prompt), sessions, "oracle")

    return make
