"""Unit vectors of texts and pictures for the evaluation, from a checkpoint or from a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Vectors = NDArray[np.float32]
BATCH = 64


class Encoder(Protocol):
    """Texts and RGB pictures to float32 unit vectors [N, dim]."""

    def texts(self, texts: list[str]) -> Vectors:
        """Unit vectors of texts."""
        ...

    def images(self, images: list[Image.Image]) -> Vectors:
        """Unit vectors of pictures, each preprocessed as the model wants it."""
        ...


class OriginalEncoder:
    """A checkpoint as the builder loads it, with any towers that it knows."""

    def __init__(self, folder: Path, *, threads: int = 2) -> None:
        import torch

        from mirage_models.encoder.checkpoint import load_checkpoint
        from mirage_models.encoder.original import Original

        torch.set_num_threads(threads)
        self._original = Original(load_checkpoint(folder))

    def texts(self, texts: list[str]) -> Vectors:
        """Unit vectors of texts."""
        return self._original.encode_texts(texts)

    def images(self, images: list[Image.Image]) -> Vectors:
        """Unit vectors of pictures."""
        return self._original.encode_images(images)


class BundleEncoder:
    """A bundle as the encoder service runs it: its tokenizer, preprocessing and engine, without torch."""

    def __init__(self, folder: Path, *, variant: str = "", threads: int = 2) -> None:
        from mirage_inference.encoder.model import load_model
        from mirage_inference.engines.base import EngineOptions

        self._model = load_model(folder, variant=variant, engine="onnxruntime", options=EngineOptions(threads=threads))
        self._one_by_one = {role: self._model.mixes_batch(role) for role in ("text", "image")}

    def texts(self, texts: list[str]) -> Vectors:
        """Unit vectors of texts."""
        tokens = [self._model.tokenizer.tokenize(text) for text in texts]
        size = 1 if self._one_by_one["text"] else BATCH
        return np.concatenate([self._model.embed_texts(tokens[i : i + size]) for i in range(0, len(tokens), size)])

    def images(self, images: list[Image.Image]) -> Vectors:
        """Unit vectors of pictures."""
        from mirage_inference.encoder.preprocessing import preprocess

        size = 1 if self._one_by_one["image"] else BATCH
        spec = self._model.manifest.image
        batches = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self._model.embed_pixels([preprocess(i, spec) for i in batch]) for batch in batches])
