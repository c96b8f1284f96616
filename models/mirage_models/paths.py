"""Folders of the models that come with this package, and of those that were fetched."""

import os
from pathlib import Path


def bundles_folder() -> Path:
    """Returns the folder of the models that come with this package: next to it in a source tree, inside it if it was
    installed.
    """
    package = Path(__file__).resolve().parent
    installed = package / "_mini"
    return installed if installed.is_dir() else package.parent / "mini"


def mini_clip_bundle() -> Path:
    """The mini CLIP's bundle, whether or not it is there (loading it says so)."""
    return bundles_folder() / "clip" / "bundle"


def mini_generator_bundle() -> Path:
    """The mini generator's bundle, whether or not it is there."""
    return bundles_folder() / "generator" / "bundle"


def mini_lm_bundle() -> Path:
    """The mini language model's bundle, whether or not it is there."""
    return bundles_folder() / "lm" / "bundle"


def data_root() -> Path:
    """$XDG_DATA_HOME/mirage, or ~/.local/share/mirage."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share") / "mirage"


def fetched_folder() -> Path:
    """The folder of the bundles that `mirage models fetch` made; it may not be there."""
    return data_root() / "models"
