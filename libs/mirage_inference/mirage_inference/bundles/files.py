"""Manifests on disk, and the files that they name."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

from pydantic import ValidationError

from mirage_core.cpus import available_cpus
from mirage_core.errors import Code, MirageError
from mirage_inference.bundles.encoder import EncoderManifest
from mirage_inference.bundles.generator import GeneratorManifest
from mirage_inference.bundles.graphs import external_locations
from mirage_inference.bundles.llm import LlmManifest
from mirage_inference.bundles.manifest import BundleFile, Manifest, Task

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
_MANIFEST_BYTES = 2**20
_READ_BYTES = 2**20
_BY_TASK: Mapping[str, type[Manifest]] = {
    "encode": EncoderManifest,
    "describe": LlmManifest,
    "generate": GeneratorManifest,
}
TASKS: tuple[Task, ...] = ("encode", "describe", "generate")

AnyManifest = TypeVar("AnyManifest", bound=Manifest)


def _refuse(reason: str) -> NoReturn:
    raise MirageError(Code.BUNDLE_INVALID, reason=reason)


def load_encoder(directory: Path) -> EncoderManifest:
    """The manifest of an encoder; raises as `load_manifest`, and BUNDLE_INVALID for a model of another task."""
    return _expect(load_manifest(directory), EncoderManifest)


def load_llm(directory: Path) -> LlmManifest:
    """The manifest of a language model; raises as `load_encoder`."""
    return _expect(load_manifest(directory), LlmManifest)


def load_generator(directory: Path) -> GeneratorManifest:
    """The manifest of an image generator; raises as `load_encoder`."""
    return _expect(load_manifest(directory), GeneratorManifest)


def _expect(manifest: Manifest, kind: type[AnyManifest]) -> AnyManifest:
    if not isinstance(manifest, kind):
        _refuse(f"this is a model to {manifest.task} with")
    return manifest


def load_manifest(directory: Path) -> Manifest:
    """Reads and checks `directory/manifest.json`, not the files that it names (see `verify_files`).

    Raises BUNDLE_MISSING without a manifest, and BUNDLE_INVALID, with the reason, if it cannot be used.
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
    """Compares files (all, or those `only` and what their graphs read) with the manifest's sizes and hashes.

    Raises BUNDLE_INVALID at the first that is missing, leads out of the directory or differs, and for a graph that
    reads a file that the manifest does not list.
    """
    root = directory.resolve()
    listed = {file.path: file for file in manifest.files}
    wanted = set(listed) if only is None else set(only)
    _compare(root, [file for file in manifest.files if file.path in wanted])
    graphs = {path for variant in manifest.variants.values() for path in variant.files.values()} & wanted
    read = {file for path in sorted(graphs) for file in _external_files(root / path, path, listed)}
    _compare(root, [file for file in manifest.files if file.path in read - wanted])


def _compare(root: Path, files: Sequence[BundleFile]) -> None:
    """Raises BUNDLE_INVALID unless all files are as described; several are read at a time."""
    with ThreadPoolExecutor(min(4, available_cpus())) as threads:
        for file, same in zip(files, threads.map(lambda file: _is_same(root, file), files), strict=True):
            if not same:
                _refuse(f"{file.path} is not the file that the manifest describes")


def _is_same(root: Path, file: BundleFile) -> bool:
    path = _inside(root, file.path)
    return path.stat().st_size == file.size and sha256_of(path) == file.sha256


def _inside(root: Path, name: str) -> Path:
    """Returns where a file of the bundle is."""
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        _refuse(f"{name} leads out of the bundle")
    if not path.is_file():
        _refuse(f"{name} is missing")
    return path


def _external_files(path: Path, name: str, listed: Collection[str]) -> set[str]:
    """Returns the files that a graph reads besides its own, as the manifest lists them."""
    try:
        locations = external_locations(path)
    except (OSError, ValueError) as error:
        raise MirageError(Code.BUNDLE_INVALID, reason=f"{name} is not an ONNX graph") from error
    files = {location: (PurePosixPath(name).parent / location).as_posix() for location in locations}
    for location, file in sorted(files.items()):
        if file not in listed:
            _refuse(f"{name} reads the file {location[:80]!r}, which the manifest does not list")
    return set(files.values())


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def describe_file(directory: Path, path: str) -> BundleFile:
    """Returns the manifest's entry for a file in the directory."""
    full = directory / path
    return BundleFile(path=path, size=full.stat().st_size, sha256=sha256_of(full))
