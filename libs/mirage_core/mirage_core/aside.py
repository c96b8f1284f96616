"""Puts a damaged file or folder aside: renamed, kept, and out of the way of a start."""

import time
from pathlib import Path

# Between a name and the time at which it was found to be damaged.
MARK = ".damaged-"


def put_aside(path: Path) -> Path:
    """Renames a file or folder and returns its new path next to the old one. Raises OSError if it cannot be renamed."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}{MARK}{stamp}")
    number = 1
    while target.is_symlink() or target.exists():
        number += 1
        target = path.with_name(f"{path.name}{MARK}{stamp}-{number}")
    path.rename(target)
    return target
