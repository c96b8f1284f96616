"""Bundles: a directory that a service loads with nothing else, described and sealed by its `manifest.json`.

A manifest is not trusted: sizes are bounded, paths stay inside the directory, and every file that is loaded has the
length and the SHA-256 that the manifest states. What changes the numbers is summed up in the fingerprint.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from mirage_core.errors import Code, MirageError
from mirage_core.image_gate import ImageGate

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 1
_MANIFEST_BYTES = 2**20
_FILE_BYTES = 32 * 2**30
_READ_BYTES = 2**20
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,4}")


def _inside(path: str) -> str:
    if len(path) > 200 or not _PATH.fullmatch(path) or ".." in PurePosixPath(path).parts:
        raise ValueError("a path must be relative and stay inside the bundle")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShortText = Annotated[str, Field(min_length=1, max_length=500)]
Unit = Annotated[float, Field(ge=-1.001, le=1.001)]
Share = Annotated[float, Field(ge=0, le=1)]
Colour = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0, lt=2**24)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class BundleFile(_Frozen):
    """One file of a bundle: where it lies, its length in bytes and its SHA-256 in lower-case hex."""

    path: RelativePath
    size: int = Field(ge=0, le=_FILE_BYTES)
    sha256: Sha256


class Parity(_Frozen):
    """How close a tower comes to the PyTorch fp32 original, as measured by the builder on `items` inputs.

    Cosines between its vectors and the original's; `overlap_at_10` is the share of the ten nearest calibration images of
    a caption that stays the same when this tower alone replaces the original's, None without a calibration set.
    """

    items: int = Field(ge=1)
    cosine_min: Unit
    cosine_mean: Unit
    overlap_at_10: Share | None = None


class Variant(_Frozen):
    """The model at one precision: role ("text", "image") to ONNX file, and to its parity.

    `quantisation` says in words how the weights and activations of each role are held; `mixes_batch` is true for a role
    whose items, when they share an inference, change each other's vectors (activations quantised with one range).
    `overlap_at_10` is as in Parity, with all towers replaced at once.
    """

    files: Mapping[str, RelativePath]
    quantisation: Mapping[str, ShortText]
    mixes_batch: Mapping[str, bool]
    parity: Mapping[str, Parity]
    overlap_at_10: Share | None = None


class Thresholds(_Frozen):
    """Cosine of the best result from which a match is good, and below which it is none."""

    good: Unit
    weak: Unit

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.weak > self.good:
            raise ValueError("weak must not be above good")
        return self


class MatchThresholds(_Frozen):
    """Thresholds by kind of query (one text, one image, a sum of terms), and what was measured when they were set."""

    text: Thresholds | None = None
    image: Thresholds | None = None
    arithmetic: Thresholds | None = None
    measured: Mapping[str, Any] = Field(default_factory=dict)


class TextInput(_Frozen):
    """How a text becomes the tokens that the text tower takes.

    `cleaning` is named as in open_clip; then come the tokenizer's ids between `start_id` and `end_id`, cut so that
    `end_id` is the last of at most `context_length`; a batch is filled up with `pad_id`.
    """

    tokenizer: RelativePath
    cleaning: Literal["lower", "whitespace", "canonicalize"]
    context_length: int = Field(ge=3, le=4096)
    start_id: TokenId
    end_id: TokenId
    pad_id: TokenId
    input_name: ShortText = "tokens"


class ImageInput(_Frozen):
    """How an RGB image becomes the pixels that the image tower takes: resize, crop or pad to a square, normalise.

    Sizes in pixels; `mean` and `std` for channels scaled to 0..1; modes as in open_clip's `PreprocessCfg`.
    """

    size: int = Field(ge=16, le=1024)
    mean: tuple[Colour, Colour, Colour]
    std: tuple[Deviation, Deviation, Deviation]
    resize_mode: Literal["shortest", "longest", "squash"]
    interpolation: Literal["bicubic", "bilinear"]
    fill_color: int = Field(0, ge=0, le=255)
    input_name: ShortText = "pixels"


class Manifest(_Frozen):
    """What every bundle says of itself, whatever its task."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    task: Literal["encode"]
    source: ShortText
    licence: ShortText
    opset: int = Field(ge=17, le=64)
    variants: Mapping[str, Variant] = Field(min_length=1, max_length=8)
    default_variant: ShortText
    reference: RelativePath
    files: tuple[BundleFile, ...] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        listed = [file.path for file in self.files]
        if len(set(listed)) != len(listed):
            raise ValueError("a file is listed twice")
        if missing := self.named_paths() - set(listed):
            raise ValueError(f"not listed under files: {', '.join(sorted(missing))}")
        if self.default_variant not in self.variants:
            raise ValueError("the default variant is not there")
        return self

    def named_paths(self) -> set[str]:
        """Every path that the manifest relies on."""
        return {path for variant in self.variants.values() for path in variant.files.values()} | {self.reference}

    def numbers(self) -> Mapping[str, Any]:
        """What changes the numbers, apart from the contents of the variants' files; each task adds its own."""
        return {"task": self.task}

    def numeric_paths(self) -> set[str]:
        """The files whose contents change the numbers."""
        return {path for variant in self.variants.values() for path in variant.files.values()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over what changes the numbers: weights, tokenizer, preprocessing; not names or measurements."""
        digests = {file.path: file.sha256 for file in self.files}
        content = {"numbers": self.numbers(), "files": {path: digests[path] for path in self.numeric_paths()}}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


class EncoderManifest(Manifest):
    """A model that turns texts and images into unit vectors of `dimension` components."""

    dimension: int = Field(ge=1, le=8192)
    text: TextInput
    image: ImageInput
    output_name: ShortText = "unit_vector"
    match: MatchThresholds | None = None
    gate: ImageGate | None = None

    @model_validator(mode="after")
    def _both_towers(self) -> Self:
        for name, variant in self.variants.items():
            for part in (variant.files, variant.quantisation, variant.mixes_batch, variant.parity):
                if set(part) != {"text", "image"}:
                    raise ValueError(f"variant {name} needs a text and an image tower, each fully described")
        return self

    def named_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().named_paths() | {self.text.tokenizer}

    def numeric_paths(self) -> set[str]:
        """As in Manifest, and the tokenizer."""
        return super().numeric_paths() | {self.text.tokenizer}

    def numbers(self) -> Mapping[str, Any]:
        """As in Manifest, and tokenisation, preprocessing and dimension."""
        return {
            **super().numbers(),
            "dimension": self.dimension,
            "text": self.text.model_dump(mode="json"),
            "image": self.image.model_dump(mode="json"),
        }


_BY_TASK: Mapping[str, type[EncoderManifest]] = {"encode": EncoderManifest}


def _refuse(reason: str) -> NoReturn:
    raise MirageError(Code.BUNDLE_INVALID, reason=reason)


def load_manifest(directory: Path) -> EncoderManifest:
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
