"""The Lua scripts, each with what they share before it."""

from functools import cache
from importlib.resources import files

NAMES = ("create", "claim", "progress", "finish", "fail", "hand_back", "cancel", "upkeep", "snapshot", "measure")


@cache
def source(name: str) -> str:
    """The text of a script, as it is sent to Redis."""
    folder = files(__package__)
    return "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("common", name))
