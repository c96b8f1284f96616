"""Finds the bundle that the encoder is started with."""

from pathlib import Path

from mirage_launcher.errors import LaunchError

MINI = "mini"


def find_bundle(models: str) -> Path:
    """The encoder's bundle: the packaged one for "mini", else the one in or directly below that directory."""
    if models == MINI:
        from mirage_models.paths import mini_clip_bundle

        return mini_clip_bundle()
    folder = Path(models).expanduser().resolve()
    if not folder.is_dir():
        raise LaunchError(f"{folder} is not a directory of models")
    return folder
