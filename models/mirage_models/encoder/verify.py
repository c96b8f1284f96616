"""Compares an encoder's vectors for the reference inputs with those of the original, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from mirage_core.cpus import available_cpus
from mirage_inference.encoder.model import load_model
from mirage_inference.encoder.preprocessing import preprocess
from mirage_inference.engines.base import EngineOptions
from mirage_models.encoder.references import References, load_references
from mirage_models.registry import Check

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_inference.bundles import EncoderManifest
    from mirage_inference.encoder.model import EncoderModel, Role
    from mirage_inference.engines import EngineChoice
    from mirage_inference.engines.base import FloatArray

# Below what was measured at build by more than this, the numbers are not the bundle's: another processor or engine
# rounds
# differently, also computes in bfloat16; int8 steps are coarse, and that rounding decides on which one a value falls.
FLOAT_TOLERANCE, INTEGER_TOLERANCE = 0.002, 0.005


def verify_encoder(
    directory: Path, manifest: EncoderManifest, *, engine: str = "auto"
) -> tuple[str, tuple[Check, ...]]:
    """Returns the engine's description, and for each variant and tower the least cosine to the original's vectors.

    Raises BUNDLE_INVALID if the bundle cannot be loaded.
    """
    references = load_references(directory / manifest.reference)
    checks: list[Check] = []
    description = ""
    for variant in manifest.variants:
        options = EngineOptions(threads=available_cpus())
        model = load_model(directory, variant=variant, engine=cast("EngineChoice", engine), options=options)
        try:
            checks.extend(_compare(model, references))
            description = model.description
        finally:
            model.close()
    return description, tuple(checks)


def _compare(model: EncoderModel, references: References) -> list[Check]:
    texts = [model.embed_texts([model.tokenizer.tokenize(text)])[0] for text in references.texts]
    images = [
        model.embed_pixels([preprocess(Image.fromarray(image), model.manifest.image)])[0] for image in references.images
    ]
    return [
        _check(model, "text", texts, references.text_vectors),
        _check(model, "image", images, references.image_vectors),
    ]


def _check(model: EncoderModel, role: Role, vectors: list[FloatArray], originals: FloatArray) -> Check:
    cosines = (np.stack(vectors) * originals).sum(axis=1)
    measured = model.manifest.variants[model.variant].parity[role].cosine_min
    tolerance = FLOAT_TOLERANCE if model.variant == "fp32" else INTEGER_TOLERANCE
    return Check(
        variant=model.variant,
        what=f"{role}: least cosine",
        items=len(vectors),
        measured=round(float(cosines.min()), 6),
        bar=round(measured - tolerance, 6),
    )
