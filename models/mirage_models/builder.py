"""From a model's name to its bundle: find the checkpoint, pick the task, build in a workspace, seal.

`build(BuildSpec(...))`; its command line is `mirage_models.build` (`mirage models build`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import re
import resource
import shutil
import time
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mirage_inference
from mirage_core.cpus import available_cpus
from mirage_inference.bundles import MANIFEST_FILE
from mirage_models.hub import fetch, is_hub_id
from mirage_models.paths import bundles_folder
from mirage_models.presets import CHECKPOINT_FILES, Preset, Repository, load_presets
from mirage_models.tasks import BuildError, BuildRequest, CheckpointError, UnknownArchitectureError
from mirage_models.workspace import open_workspace, source_identity, workspace_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirage_inference.bundles import Manifest, SamplerName
    from mirage_inference.bundles import Task as TaskName
    from mirage_models.tasks import Task

_log = logging.getLogger("mirage_models.build")

NOT_STATED = "not stated"
_LIBRARIES = (
    "diffusers",
    "gguf",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "open_clip_torch",
    "openvino",
    "peft",
    "timm",
    "tokenizers",
    "torch",
    "transformers",
)

GGUF_SUFFIX = ".gguf"
# The file by which a checkpoint's kind is known; the last is the most common name.
_MARKS: Mapping[TaskName, str] = {
    "generate": "model_index.json",
    "encode": "open_clip_config.json",
    "describe": "config.json",
}
_KINDS: Mapping[TaskName, str] = {
    "generate": "an image generator in diffusers' layout",
    "encode": "a CLIP in open_clip's layout",
    "describe": "a language model in transformers' layout",
}


@dataclass(frozen=True)
class BuildSpec:
    """The operator's request. `target` is a preset, a repository on the hub or a folder.

    Fields that are None get their value here.

    `preset` describes a folder or a repository as that preset does. `sampler` is for a plain Stable Diffusion,
    `prompt_graph` for a language model: a second graph, which reads prompts faster and takes more memory.
    `extras` name further sources by role, each a repository or a path. `origin` is what the manifest names as the
    source.
    """

    target: str
    out: Path
    preset: str | None = None
    task: TaskName | None = None
    name: str | None = None
    licence: str | None = None
    origin: str | None = None
    revision: str | None = None
    sampler: SamplerName | None = None
    prompt_graph: bool | None = None
    variants: tuple[str, ...] = ()
    calibration: Path | None = None
    calibration_items: int = 1024
    extras: Mapping[str, str] = field(default_factory=dict)
    allow_parity_miss: bool = False
    replace: bool = False
    offline: bool = False
    cache: Path | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Built:
    """A bundle that was built: its folder, its manifest, the seconds and the peak memory of the build."""

    directory: Path
    manifest: Manifest
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class _Source:
    """A checkpoint on this machine: its folder, its origin, and its preset."""

    folder: Path
    origin: str
    preset_name: str | None
    preset: Preset | None


def build(spec: BuildSpec) -> Built:
    """Builds the bundle at `spec.out`, completely or not at all.

    A build that was stopped continues with its next stage.

    Raises BuildError and its kinds: ExistsError, BusyError, DiskFullError, HubError, UnknownArchitectureError,
    CheckpointError, ParityError.
    """
    started = time.monotonic()
    source = _find(spec)
    task = _task(source, spec.task)
    preset = source.preset
    extras = {role: _extra(role, place, spec, preset) for role, place in _extras(spec, preset).items()}
    request = BuildRequest(
        source=source.folder,
        name=spec.name or _slug(source.preset_name or spec.target),
        origin=spec.origin or source.origin,
        licence=spec.licence or (preset.licence if preset else NOT_STATED),
        variants=spec.variants or (preset.variants if preset else ()),
        calibration=spec.calibration,
        calibration_items=spec.calibration_items,
        allow_parity_miss=spec.allow_parity_miss,
        threads=spec.threads or available_cpus(),
        extras=extras,
        options=_options(spec, preset, task),
    )
    _warn_of_memory(preset)
    disk = int((preset.disk_gib if preset and _is_reference(source, preset) else 0) * 2**30)
    with open_workspace(spec.out, identity=_identity(request), replace=spec.replace, disk_bytes=disk) as workspace:
        manifest = task.build(request, workspace)
        workspace.seal(manifest, spec.out, replace=spec.replace)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Built(spec.out, manifest, time.monotonic() - started, peak)


def discard(out: Path) -> bool:
    """Removes the files of an unfinished build of `out`; returns True if there were any."""
    root = workspace_of(out)
    there = root.exists()
    shutil.rmtree(root, ignore_errors=True)
    return there


def _load_task(name: TaskName) -> Task:
    # Imported late: each brings torch and its libraries, which takes seconds.
    match name:
        case "encode":
            from mirage_models.encoder.task import EncoderTask

            return EncoderTask()
        case "describe":
            from mirage_models.llm.task import LlmTask

            return LlmTask()
        case "generate":
            from mirage_models.generator.task import GeneratorTask

            return GeneratorTask()


def _find(spec: BuildSpec) -> _Source:
    presets = load_presets()
    name = spec.preset or (spec.target if spec.target in presets else None)
    if name is not None and name not in presets:
        raise BuildError(f"there is no preset {name}; there are {', '.join(presets)}")
    preset = presets[name] if name is not None else None
    if spec.target in presets:
        target = presets[spec.target]
        if not target.repository:
            folder = bundles_folder() / spec.target.removeprefix("mini-") / "checkpoint"
            return _Source(folder, "trained by the MIRAGE project", name, preset)
        return _fetched(target, spec, name, preset)
    path = Path(spec.target)
    if path.is_dir():
        if (path / MANIFEST_FILE).is_file():
            raise BuildError(f"{path} is a bundle, not a checkpoint")
        # The folder's name alone: its path on the operator's machine is private.
        return _Source(path, path.resolve().name, name, preset)
    if path.is_file() and path.suffix == GGUF_SUFFIX:
        return _Source(path, path.name, name, preset)
    if path.exists():
        raise BuildError(f"{path} is a file; the folder that holds the whole checkpoint, or a GGUF file, is needed")
    if is_hub_id(spec.target):
        repository = Repository(repository=spec.target, files=preset.files if preset else CHECKPOINT_FILES)
        return _fetched(repository, spec, name, preset)
    near = get_close_matches(spec.target, presets, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; presets are {', '.join(presets)}"
    raise BuildError(f"{spec.target} is no preset, no folder and no repository (owner/name){hint}")


def _fetched(repository: Repository, spec: BuildSpec, name: str | None, preset: Preset | None) -> _Source:
    snapshot = fetch(
        repository.repository,
        revision=spec.revision or repository.revision,
        files=repository.files or CHECKPOINT_FILES,
        offline=spec.offline,
        cache=spec.cache,
    )
    return _Source(snapshot.folder, snapshot.origin, name, preset)


def _options(spec: BuildSpec, preset: Preset | None, task: Task) -> dict[str, Any]:
    options = dict(preset.options if preset else {})
    if spec.sampler is not None:
        if task.name != "generate":
            raise BuildError("a sampler belongs to an image generator")
        options["sampler"] = spec.sampler
    if spec.prompt_graph is not None:
        if task.name != "describe":
            raise BuildError("a graph that reads prompts belongs to a language model")
        options["prompt_graph"] = spec.prompt_graph
    return options


def _extras(spec: BuildSpec, preset: Preset | None) -> dict[str, str]:
    wanted = {role: extra.repository for role, extra in preset.extras.items()} if preset else {}
    return {**wanted, **spec.extras}


def _extra(role: str, place: str, spec: BuildSpec, preset: Preset | None) -> Path:
    path = Path(place)
    if path.exists():
        return path
    if not is_hub_id(place):
        raise BuildError(f"{role}: {place} is neither there nor a repository (owner/name)")
    known = preset.extras.get(role) if preset else None
    if known is None or known.repository != place:
        known = Repository(repository=place, files=CHECKPOINT_FILES)
    return fetch(
        known.repository,
        revision=known.revision,
        files=known.files or CHECKPOINT_FILES,
        offline=spec.offline,
        cache=spec.cache,
    ).folder


def _task(source: _Source, wanted: TaskName | None) -> Task:
    wanted = wanted or (source.preset.task if source.preset else None)
    if wanted is not None:
        return _load_task(wanted)
    for name, file in _MARKS.items():
        if (source.folder / file).is_file():
            return _load_task(name)
    if source.folder.is_file() or any(source.folder.glob(f"*{GGUF_SUFFIX}")):
        return _load_task("describe")
    found = sorted(path.name for path in source.folder.iterdir() if not path.name.startswith("."))
    if not found:
        raise CheckpointError(f"{source.folder} is empty")
    listed = ", ".join(found[:12]) + (" ..." if len(found) > 12 else "")
    known = "; ".join(f"{file} ({_KINDS[name]})" for name, file in _MARKS.items())
    raise UnknownArchitectureError(f"{source.folder} holds {listed}, none of which says what it is: {known}")


def _slug(text: str) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", Path(text).name.lower()).strip("-._")
    return name[:64] or "model"


def _is_reference(source: _Source, preset: Preset) -> bool:
    # A small checkpoint that is built "like" a preset does not take what the preset's own model takes.
    return source.origin.startswith(f"{preset.repository}@") if preset.repository else False


def _identity(request: BuildRequest) -> Mapping[str, Any]:
    content = asdict(request)
    folders = {"source": request.source, **request.extras}
    for secondary in ("source", "extras", "threads"):
        del content[secondary]
    content["files"] = {role: source_identity(folder) for role, folder in folders.items()}
    if request.calibration is not None:
        content["calibration"] = source_identity(request.calibration)
    for name, value in request.options.items():
        if isinstance(value, str) and Path(value).is_file():
            content["options"] = {**content["options"], name: source_identity(Path(value))}
    content["libraries"] = {name: _version(name) for name in _LIBRARIES}
    content["code"] = _code_digest()
    return content


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _code_digest() -> str:
    """Returns the SHA-256 of the modules that builds run: of this package, and of the one that runs bundles.

    Tokenizers, preprocessing and pipelines of `mirage_inference` change the numbers that a build compares.
    """
    digest = hashlib.sha256()
    for package in (Path(__file__).parent, Path(mirage_inference.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            digest.update(path.relative_to(package.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _warn_of_memory(preset: Preset | None) -> None:
    if preset is None:
        return
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return
    if available < preset.memory_gib * 2**30:
        _log.warning(
            "building takes about %.0f GiB of memory at full size, %.1f GiB are available",
            preset.memory_gib,
            available / 2**30,
        )


def report(built: Built) -> Mapping[str, Any]:
    """Returns the result as `--json` prints it."""
    manifest = built.manifest
    content: Mapping[str, Any] = json.loads(manifest.to_json())
    return {
        "directory": str(built.directory),
        "name": manifest.name,
        "task": manifest.task,
        "source": manifest.source,
        "licence": manifest.licence,
        "fingerprint": manifest.fingerprint,
        "bytes": sum(file.size for file in manifest.files),
        "variants": content["variants"],
        "parity_missed": list(manifest.parity_missed),
        "remarks": list(manifest.remarks),
        "seconds": round(built.seconds, 1),
        "peak_memory_bytes": built.peak_bytes,
    }
