"""Folders of the models that come with this package."""

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
