"""A bundle, loaded: tokens and pixels to unit vectors, one batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from mirage_core.errors import Code, MirageError
from mirage_inference.bundles import EncoderManifest, load_encoder, verify_files
from mirage_inference.encoder.preprocessing import PixelArray
from mirage_inference.encoder.tokenizer import TextTokenizer, Tokens, pad_batch
from mirage_inference.engines import EngineChoice, EngineKind, make_engine
from mirage_inference.engines.base import Engine, EngineOptions, FloatArray, Session

Role = Literal["text", "image"]

# Below this a tower answers in a few milliseconds anywhere, and OpenVINO's own memory would be the larger part.
_LARGE_BYTES = 100 * 2**20


def select_engine(choice: EngineChoice, path: Path, *, mixes_batch: bool) -> EngineKind:
    """Returns the engine of a tower's file: the chosen one; with "auto", OpenVINO for large towers if it is installed.

    Towers whose activations are quantised at run time (`mixes_batch`) are excepted: ONNX Runtime has kernels for them.
    """
    if choice != "auto":
        return choice
    if not mixes_batch and path.stat().st_size >= _LARGE_BYTES and find_spec("openvino") is not None:
        return "openvino"
    return "onnxruntime"


@dataclass(frozen=True)
class EncoderModel:
    """Both towers of a bundle at one precision. Thread-safe; `close` it."""

    manifest: EncoderManifest
    variant: str
    tokenizer: TextTokenizer
    text: Session
    image: Session
    description: str

    def embed_texts(self, texts: Sequence[Tokens]) -> FloatArray:
        """float32 array of shape (texts, dimension), rows of length 1; raises MODEL_FAILED."""
        batch = pad_batch([tokens.ids for tokens in texts], self.manifest.text.pad_id)
        return self._unit(self.text.run({self.manifest.text.input_name: batch}))

    def embed_pixels(self, pixels: Sequence[PixelArray]) -> FloatArray:
        """float32 array of shape (images, dimension), rows of length 1; raises MODEL_FAILED."""
        return self._unit(self.image.run({self.manifest.image.input_name: np.stack(pixels)}))

    def mixes_batch(self, role: Role) -> bool:
        """True if the items of a batch change each other's vectors, so that each has to run alone."""
        return self.manifest.variants[self.variant].mixes_batch[role]

    def close(self) -> None:
        """Frees both towers."""
        self.text.close()
        self.image.close()

    def _unit(self, rows: FloatArray) -> FloatArray:
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if rows.shape[1:] != (self.manifest.dimension,) or not np.isfinite(rows).all() or not (lengths > 0).all():
            raise MirageError(Code.MODEL_FAILED)
        return np.asarray(rows / lengths, dtype=np.float32)


def load_model(
    directory: Path, *, variant: str = "", engine: EngineChoice = "auto", options: EngineOptions
) -> EncoderModel:
    """Load a bundle at one of its precisions (the bundle's default where `variant` is empty).

    Raises BUNDLE_MISSING or BUNDLE_INVALID: every file is checked against the manifest first.
    """
    manifest = load_encoder(directory)
    name = variant or manifest.default_variant
    if name not in manifest.variants:
        raise MirageError(Code.BUNDLE_INVALID, reason=f"there is no variant {name[:40]}")
    chosen = manifest.variants[name]
    files = chosen.files
    verify_files(directory, manifest)
    tokenizer = TextTokenizer(directory / manifest.text.tokenizer, manifest.text)
    engines: dict[str, Engine] = {}
    sessions: dict[str, Session] = {}
    used: dict[str, str] = {}
    for role, input_name in (("text", manifest.text.input_name), ("image", manifest.image.input_name)):
        path = directory / files[role]
        kind = select_engine(engine, path, mixes_batch=chosen.mixes_batch[role])
        if kind not in engines:
            engines[kind] = make_engine(kind, options)
        sessions[role] = engines[kind].load(path, inputs=(input_name,), output=manifest.output_name)
        used[role] = engines[kind].description
    described = used["text"] if used["text"] == used["image"] else f"text {used['text']}, image {used['image']}"
    return EncoderModel(manifest, name, tokenizer, sessions["text"], sessions["image"], described)
