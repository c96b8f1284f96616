"""The common part of all manifests."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Task: TypeAlias = Literal["encode", "describe", "generate"]

_FILE_BYTES = 32 * 2**30
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,4}")


def _inside(path: str) -> str:
    if len(path) > 200 or not _PATH.fullmatch(path) or ".." in PurePosixPath(path).parts:
        raise ValueError("a path must be relative and stay inside the bundle")
    return path


def _graph(path: str) -> str:
    # Engines choose how they read a file, and which others with it, by the end of its name.
    if not path.endswith(".onnx"):
        raise ValueError("the name of a graph must end in .onnx")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]
GraphPath = Annotated[RelativePath, AfterValidator(_graph)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ShortText = Annotated[str, Field(min_length=1, max_length=500)]
Unit = Annotated[float, Field(ge=-1.001, le=1.001)]
Share = Annotated[float, Field(ge=0, le=1)]
TokenId = Annotated[int, Field(ge=0, lt=2**24)]


class Frozen(BaseModel):
    """A part of a manifest: it cannot be changed, and knows no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class BundleFile(Frozen):
    """One file of a bundle: its path, its length in bytes and its SHA-256 in lower-case hex."""

    path: RelativePath
    size: int = Field(ge=0, le=_FILE_BYTES)
    sha256: Sha256


class Variant(Frozen):
    """The model at one precision: role (such as "text" or "unet") to ONNX file, and its external data.

    `data` lists the files with the weights that an ONNX file refers to; `quantisation` says in words how the weights
    and activations of each role are held.
    """

    files: Mapping[str, GraphPath] = Field(min_length=1, max_length=16)
    data: tuple[RelativePath, ...] = Field((), max_length=256)
    quantisation: Mapping[str, ShortText]

    def paths(self) -> set[str]:
        """Every file of this variant."""
        return {*self.files.values(), *self.data}

    def summary(self) -> str:
        """Precision and parity in a line for people; each task says its own."""
        return "; ".join(f"{role}: {how}" for role, how in self.quantisation.items())


class Manifest(Frozen):
    """The common fields of all bundles.

    `parity_missed` names the bars that the build missed with the operator's consent; `remarks` are further notes on
    the measurements, such as that they were not made on the data the model is for.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    task: Task
    source: ShortText
    licence: ShortText
    opset: int = Field(ge=17, le=64)
    variants: Mapping[str, Variant] = Field(min_length=1, max_length=8)
    default_variant: ShortText
    reference: RelativePath
    files: tuple[BundleFile, ...] = Field(min_length=1, max_length=512)
    parity_missed: tuple[ShortText, ...] = Field((), max_length=32)
    remarks: tuple[ShortText, ...] = Field((), max_length=32)

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

    def summary(self) -> Mapping[str, str]:
        """The model's measures for people, by name; each task says its own."""
        return {}

    def variant_paths(self) -> set[str]:
        """The files of all variants."""
        return {path for variant in self.variants.values() for path in variant.paths()}

    def named_paths(self) -> set[str]:
        """Every path that the manifest relies on."""
        return self.variant_paths() | {self.reference}

    def numbers(self) -> Mapping[str, Any]:
        """Returns everything that changes the numbers, except the contents of the variants' files.

        Each task adds its own.
        """
        return {"task": self.task}

    def numeric_paths(self) -> set[str]:
        """The files whose contents change the numbers."""
        return self.variant_paths()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over what changes the numbers: weights, tokenizer, preprocessing; not names or measurements."""
        digests = {file.path: file.sha256 for file in self.files}
        content = {"numbers": self.numbers(), "files": {path: digests[path] for path in self.numeric_paths()}}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
