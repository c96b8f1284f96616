"""The bundles on this machine: list, show and verify, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mirage_core.bundles import MANIFEST_FILE, EncoderManifest, load_manifest, verify_files
from mirage_core.cpus import available_cpus
from mirage_core.errors import MirageError
from mirage_encoder.engines.base import EngineOptions
from mirage_encoder.model import load_model
from mirage_encoder.preprocessing import preprocess
from mirage_models.encoders.references import References, load_references

if TYPE_CHECKING:
    from pathlib import Path

    from mirage_encoder.engines.base import FloatArray
    from mirage_encoder.engines.selection import EngineChoice
    from mirage_encoder.model import EncoderModel, Role

# Below what was measured at build by more than this, the numbers are not the bundle's: another processor rounds
# differently, and int8 steps are coarse, but not by more.
TOLERANCE = 0.002
_DEPTH = 3


@dataclass(frozen=True)
class BundleEntry:
    """A folder with a manifest: the manifest, or the catalogue's text for why it cannot be used."""

    directory: Path
    manifest: EncoderManifest | None
    problem: str = ""


@dataclass(frozen=True)
class Check:
    """One comparison with the original's outputs: the smallest cosine found, and the one that it had to reach."""

    variant: str
    role: Role
    items: int
    cosine_min: float
    bar: float

    @property
    def passed(self) -> bool:
        """True where the bar was reached."""
        return self.cosine_min >= self.bar


@dataclass(frozen=True)
class VerifyReport:
    """What a bundle gave on the inputs that it holds, beside what PyTorch gave for them when it was built."""

    directory: Path
    manifest: EncoderManifest
    engine: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True where every check passed."""
        return all(check.passed for check in self.checks)


def list_bundles(directory: Path) -> list[BundleEntry]:
    """The bundles in `directory` and up to three levels below it, by path; what cannot be read is listed with its problem."""
    entries = []
    for path in sorted(_manifests(directory, _DEPTH)):
        try:
            entries.append(BundleEntry(path.parent, load_manifest(path.parent)))
        except MirageError as error:
            entries.append(BundleEntry(path.parent, None, error.message))
    return entries


def _manifests(directory: Path, depth: int) -> list[Path]:
    if (directory / MANIFEST_FILE).is_file():
        return [directory / MANIFEST_FILE]
    if depth == 0 or not directory.is_dir():
        return []
    below = (child for child in directory.iterdir() if child.is_dir() and not child.name.startswith("."))
    return [path for child in below for path in _manifests(child, depth - 1)]


def show(directory: Path) -> EncoderManifest:
    """The manifest of one bundle; raises BUNDLE_MISSING or BUNDLE_INVALID."""
    return load_manifest(directory)


def verify(directory: Path, *, engine: EngineChoice = "auto") -> VerifyReport:
    """Compare every file with its hash, then every variant's vectors for the reference inputs with the original's.

    Raises BUNDLE_MISSING or BUNDLE_INVALID where the bundle cannot be loaded; a cosine that is too low is in the report.
    """
    manifest = load_manifest(directory)
    verify_files(directory, manifest)
    references = load_references(directory / manifest.reference)
    checks: list[Check] = []
    description = ""
    for variant in manifest.variants:
        model = load_model(directory, variant=variant, engine=engine, options=EngineOptions(threads=available_cpus()))
        try:
            checks.extend(_compare(model, references))
            description = model.description
        finally:
            model.close()
    return VerifyReport(directory, manifest, description, tuple(checks))


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
    return Check(model.variant, role, len(vectors), round(float(cosines.min()), 6), round(measured - TOLERANCE, 6))
