"""A generator's bundle against the reference outputs that it holds, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mirage_core.cpus import available_cpus
from mirage_inference.engines.base import EngineOptions
from mirage_inference.generator.model import load_model
from mirage_models.generator.compare import compare
from mirage_models.generator.references import load_references
from mirage_models.registry import Check

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_inference.bundles import GeneratorManifest
    from mirage_inference.engines import EngineChoice

# Below what was measured at build by more than this, the numbers are not the bundle's: another processor rounds
# differently, and every step works on what the one before made of that, but not by more.
COSINE_TOLERANCE = 0.005
SSIM_TOLERANCE = 0.03


def verify_generator(
    directory: Path, manifest: GeneratorManifest, *, engine: str = "auto"
) -> tuple[str, tuple[Check, ...]]:
    """Makes the reference images with every variant; returns the engine's description and the comparisons.

    Raises BUNDLE_INVALID if the bundle cannot be loaded or its references cannot be read.
    """
    references = load_references(directory / manifest.reference)
    checks: list[Check] = []
    description = ""
    for name, variant in manifest.variants.items():
        options = EngineOptions(threads=available_cpus())
        model = load_model(directory, variant=name, engine=cast("EngineChoice", engine), options=options)
        try:
            measured = compare(model, references)
            description = model.description
        finally:
            model.close()
        bars = variant.parity
        latents, bar = min(measured.latents), min(bars.latents) - COSINE_TOLERANCE
        checks.append(Check(name, "latents: least cosine", measured.images, latents, round(bar, 6)))
        bar = round(bars.ssim - SSIM_TOLERANCE, 4)
        checks.append(Check(name, "image: least SSIM", measured.images, measured.ssim, bar))
    return description, tuple(checks)
