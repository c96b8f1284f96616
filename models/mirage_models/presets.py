"""The presets: which models are known by a name, where their weights come from and how they are built (`presets.toml`)."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mirage_inference.bundles import Task

if TYPE_CHECKING:
    from collections.abc import Mapping


class Repository(BaseModel):
    """A repository on the hub: its id, a revision of it (branch, tag or commit), and patterns of the files to fetch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    revision: str = "main"
    files: tuple[str, ...] = ()


class Preset(Repository):
    """A model that is known by its name. `memory_gib` and `disk_gib` are the peaks of building it at full size."""

    task: Task
    description: str
    licence: str
    variants: tuple[str, ...]
    memory_gib: Annotated[float, Field(gt=0)]
    disk_gib: Annotated[float, Field(gt=0)]
    extras: dict[str, Repository] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)


def load_presets() -> Mapping[str, Preset]:
    """All presets by name, in the order of the file."""
    text = (resources.files("mirage_models") / "presets.toml").read_text("utf-8")
    return {name: Preset.model_validate(content) for name, content in tomllib.loads(text).items()}


def presets_table() -> str:
    """The presets as a Markdown table."""
    rows = [
        "| preset | task | weights | licence | variants | memory to build | disk to build |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, preset in load_presets().items():
        weights = f"`{preset.repository}`" if preset.repository else "in the repository"
        weights += "".join(f", {role} `{extra.repository}`" for role, extra in preset.extras.items())
        variants = ", ".join(preset.variants)
        rows.append(
            f"| `{name}` | {preset.task} | {weights} | {preset.licence} | {variants} "
            f"| {preset.memory_gib:g} GiB | {preset.disk_gib:g} GiB |"
        )
    return "\n".join(rows) + "\n"


CHECKPOINT_FILES = (
    "*.json",
    "*.safetensors",
    "*.bin",
    "*.pt",
    "vocab.txt",
    "merges.txt",
    "*/*.json",
    "*/*.txt",
    "*/*.safetensors",
    "*/*.bin",
)
"""What is fetched of a repository that no preset describes: weights, configurations, tokenizers; never code."""
