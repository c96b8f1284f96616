"""Progress of cleaning an older version's images (image_cleaning.py), for processes that wait for it. Imports hardly
anything.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mirage_core.files import write_atomically

PROGRESS_FILE = "cleaning.json"


@dataclass(frozen=True)
class Progress:
    """Progress of the cleaning: `done` of `total` in this `step` ("images", then "records", "words" and "finished").

    `cleaned` images are stored, `removed` ones could not be, and `records_removed` records showed those.
    """

    step: str
    done: int
    total: int
    cleaned: int = 0
    removed: int = 0
    records_removed: int = 0

    def write(self, data: Path) -> None:
        """Writes the progress. A full disk does not end the cleaning."""
        with suppress(OSError):
            write_atomically(data / PROGRESS_FILE, json.dumps(asdict(self)).encode(), sync_data=False, sync_name=False)

    @classmethod
    def read(cls, data: Path) -> "Progress | None":
        """Returns the progress written last; None if nothing is cleaned."""
        try:
            return cls.parse(json.loads((data / PROGRESS_FILE).read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> "Progress":
        """From JSON; raises ValueError, KeyError or TypeError for what is something else."""
        numbers = {name: int(fields[name]) for name in ("done", "total", "cleaned", "removed", "records_removed")}
        return cls(str(fields["step"]), **numbers)
