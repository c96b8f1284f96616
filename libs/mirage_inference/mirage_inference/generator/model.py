"""A generator's bundle, loaded: the tokenizer and the networks, each on its engine."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import TINY_DECODER, GeneratorManifest, load_generator, verify_files
from mirage_inference.engines import EngineChoice, EngineKind, make_engine
from mirage_inference.engines.base import Engine, EngineOptions, FloatArray, Session
from mirage_inference.generator.tokenizer import PromptTokenizer, PromptTokens

TOKENS, HIDDEN = "tokens", "hidden"
SAMPLE, TIMESTEP, PROMPT, GUIDANCE, PREDICTION = "sample", "timestep", "prompt", "guidance", "prediction"
LATENTS, IMAGE = "latents", "image"


def network_names(role: str, *, guided: bool) -> tuple[tuple[str, ...], str]:
    """Input names and output name of a role's network; `guided`: its UNet takes the guidance as an embedding."""
    match role:
        case "text":
            return (TOKENS,), HIDDEN
        case "unet":
            return (SAMPLE, TIMESTEP, PROMPT, *((GUIDANCE,) if guided else ())), PREDICTION
        case _:
            return (LATENTS,), IMAGE


def select_engine(choice: EngineChoice, role: str) -> EngineKind:
    """Returns the engine of a network: the chosen one.

    With "auto", OpenVINO if it is installed, except for the text tower.

    The text tower runs once per image, on 77 tokens: a second engine would save less there than its memory costs.
    """
    if choice != "auto":
        return choice
    return "openvino" if role != "text" and find_spec("openvino") is not None else "onnxruntime"


@dataclass(frozen=True)
class GeneratorModel:
    """Text tower, UNet and decoder of a bundle at one precision. `close` it."""

    manifest: GeneratorManifest
    variant: str
    tokenizer: PromptTokenizer
    sessions: Mapping[str, Session]
    description: str

    @property
    def has_tiny_decoder(self) -> bool:
        """True if the tiny decoder was loaded."""
        return TINY_DECODER in self.sessions

    def encode(self, tokens: PromptTokens) -> FloatArray:
        """float32[1, context, width]: what the UNet looks at; raises MODEL_FAILED."""
        return self.sessions["text"].run({TOKENS: tokens.ids})

    def decode(self, latents: FloatArray, *, tiny: bool = False) -> FloatArray:
        """Latents float32[B, channels, h, w] to RGB float32[B, 3, h * scale, w * scale] in 0..1.

        Raises MODEL_FAILED.
        """
        return self.sessions[TINY_DECODER if tiny else "decoder"].run({LATENTS: latents})

    def close(self) -> None:
        """Frees the networks."""
        for session in self.sessions.values():
            session.close()


def load_model(
    directory: Path, *, variant: str = "", engine: EngineChoice = "auto", options: EngineOptions
) -> GeneratorModel:
    """Load a bundle at one of its precisions (the bundle's default where `variant` is empty).

    Raises BUNDLE_MISSING or BUNDLE_INVALID: every file is checked against the manifest first.
    """
    manifest = load_generator(directory)
    name = variant or manifest.default_variant
    if name not in manifest.variants:
        raise MirageError(Code.BUNDLE_INVALID, reason=f"there is no variant {name[:40]}")
    chosen = manifest.variants[name]
    verify_files(directory, manifest)
    options = replace(options, reduced_precision=options.reduced_precision and chosen.reduced_precision)
    tokenizer = PromptTokenizer(directory / manifest.prompt.tokenizer, manifest.prompt)
    files = {role: directory / path for role, path in chosen.files.items()}
    guided = manifest.guidance_input == "embedding"
    sessions, described = load_sessions(files, guided=guided, engine=engine, options=options)
    return GeneratorModel(manifest, name, tokenizer, sessions, described)


def load_sessions(
    files: Mapping[str, Path], *, guided: bool, engine: EngineChoice, options: EngineOptions
) -> tuple[dict[str, Session], str]:
    """Networks by role, and what runs them; raises BUNDLE_INVALID."""
    engines: dict[str, Engine] = {}
    sessions: dict[str, Session] = {}
    used: dict[str, list[str]] = {}
    for role, path in files.items():
        kind = select_engine(engine, role)
        if kind not in engines:
            engines[kind] = make_engine(kind, options)
        inputs, output = network_names(role, guided=guided)
        sessions[role] = engines[kind].load(path, inputs=inputs, output=output)
        used.setdefault(engines[kind].description, []).append(role)
    described = next(iter(used)) if len(used) == 1 else "; ".join(f"{', '.join(used[key])}: {key}" for key in used)
    return sessions, described
