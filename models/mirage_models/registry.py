"""The bundles on this machine: list, show and verify, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirage_core.errors import MirageError
from mirage_inference.bundles import (
    MANIFEST_FILE,
    EncoderManifest,
    GeneratorManifest,
    LlmManifest,
    Manifest,
    load_manifest,
    verify_files,
)

if TYPE_CHECKING:
    from pathlib import Path


_DEPTH = 3


@dataclass(frozen=True)
class BundleEntry:
    """A folder with a manifest: the manifest, or the catalogue's text for why it cannot be used."""

    directory: Path
    manifest: Manifest | None
    problem: str = ""


@dataclass(frozen=True)
class Check:
    """`measured` on `items` of `what` (such as "text: least cosine") in one variant, and the least that it had to
    be.
    """

    variant: str
    what: str
    items: int
    measured: float
    bar: float

    @property
    def passed(self) -> bool:
        """Returns True if the bar is reached; never for a NaN."""
        return self.measured >= self.bar


@dataclass(frozen=True)
class VerifyReport:
    """A bundle's outputs for its reference inputs, compared with PyTorch's at the time of the build."""

    directory: Path
    manifest: Manifest
    engine: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True where every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)


def list_bundles(directory: Path) -> list[BundleEntry]:
    """The bundles in `directory` and up to three levels below it, by path.

    What cannot be read is listed with its problem.
    """
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


def show(directory: Path) -> Manifest:
    """The manifest of one bundle; raises BUNDLE_MISSING or BUNDLE_INVALID."""
    return load_manifest(directory)


def verify(directory: Path, *, engine: str = "auto") -> VerifyReport:
    """Compares every file with its hash, then every variant's outputs for the reference inputs with the original's.

    Raises BUNDLE_MISSING or BUNDLE_INVALID if the bundle cannot be loaded; a number below its bar is in the report.
    """
    manifest = load_manifest(directory)
    verify_files(directory, manifest)
    description, checks = _verify(directory, manifest, engine)
    return VerifyReport(directory, manifest, description, checks)


def _verify(directory: Path, manifest: Manifest, engine: str) -> tuple[str, tuple[Check, ...]]:
    # Imported late: each brings the engines of its service.
    match manifest:
        case EncoderManifest():
            from mirage_models.encoder.verify import verify_encoder

            return verify_encoder(directory, manifest, engine=engine)
        case LlmManifest():
            from mirage_models.llm.verify import verify_llm

            return verify_llm(directory, manifest, engine=engine)
        case GeneratorManifest():
            from mirage_models.generator.verify import verify_generator

            return verify_generator(directory, manifest, engine=engine)
        case _:
            raise TypeError(type(manifest))
