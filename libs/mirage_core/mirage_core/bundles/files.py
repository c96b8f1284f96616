"""Manifests and the files that they name, as they lie on a disk."""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import ValidationError

from mirage_core.bundles.encoder import EncoderManifest
from mirage_core.bundles.generator import GeneratorManifest
from mirage_core.bundles.language import LanguageManifest
from mirage_core.bundles.manifest import BundleFile, Manifest, Task
from mirage_core.errors import Code, MirageError

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
_MANIFEST_BYTES = 2**20
_READ_BYTES = 2**20
_BY_TASK: Mapping[str, type[Manifest]] = {
    "encode": EncoderManifest,
    "describe": LanguageManifest,
    "generate": GeneratorManifest,
}
TASKS: tuple[Task, ...] = ("encode", "describe", "generate")

AnyManifest = TypeVar("AnyManifest", bound=Manifest)


def _refuse(reason: str) -> NoReturn:
    raise MirageError(Code.BUNDLE_INVALID, reason=reason)


def load_encoder(directory: Path) -> EncoderManifest:
    """The manifest of an encoder; raises as `load_manifest`, and BUNDLE_INVALID for a model of another task."""
    return _expect(load_manifest(directory), EncoderManifest)


def load_language(directory: Path) -> LanguageManifest:
    """The manifest of a language model; raises as `load_encoder`."""
    return _expect(load_manifest(directory), LanguageManifest)


def load_generator(directory: Path) -> GeneratorManifest:
    """The manifest of an image generator; raises as `load_encoder`."""
    return _expect(load_manifest(directory), GeneratorManifest)


def _expect(manifest: Manifest, kind: type[AnyManifest]) -> AnyManifest:
    if not isinstance(manifest, kind):
        _refuse(f"this is a model to {manifest.task} with")
    return manifest


def load_manifest(directory: Path) -> Manifest:
    """Read and check `directory/manifest.json`, not the files that it names (see `verify_files`).

    Raises BUNDLE_MISSING where there is none and BUNDLE_INVALID, with the reason, where it cannot be used.
    """
    path = directory / MANIFEST_FILE
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            _refuse("manifest.json is larger than 1 MiB")
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise MirageError(Code.BUNDLE_MISSING) from error
    except (OSError, ValueError, RecursionError) as error:
        raise MirageError(Code.BUNDLE_INVALID, reason="manifest.json cannot be read") from error
    if not isinstance(content, dict):
        _refuse("manifest.json is no object")
    version, task = content.get("schema_version"), content.get("task")
    if version != SCHEMA_VERSION:
        _refuse(f"schema version {str(version)[:20]} is not known, {SCHEMA_VERSION} is")
    if not isinstance(task, str) or task not in _BY_TASK:
        _refuse(f"task {str(task)[:20]} is not known")
    try:
        return _BY_TASK[task].model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise MirageError(Code.BUNDLE_INVALID, reason=f"{place}: {first['msg']}") from error


def verify_files(directory: Path, manifest: Manifest, *, only: Collection[str] | None = None) -> None:
    """Compare files (all, or those `only`) with the manifest's sizes and hashes.

    Raises BUNDLE_INVALID at the first that is absent, leads out of the directory or differs.
    """
    root = directory.resolve()
    for file in manifest.files:
        if only is not None and file.path not in only:
            continue
        path = (root / file.path).resolve()
        if not path.is_relative_to(root):
            _refuse(f"{file.path} leads out of the bundle")
        if not path.is_file():
            _refuse(f"{file.path} is missing")
        if path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            _refuse(f"{file.path} is not the file that the manifest describes")


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def describe_file(directory: Path, path: str) -> BundleFile:
    """The manifest's entry for a file as it lies in the directory."""
    full = directory / path
    return BundleFile(path=path, size=full.stat().st_size, sha256=sha256_of(full))
