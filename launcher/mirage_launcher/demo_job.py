"""`python -m mirage_launcher.demo_job MARK NAME FOLDER`: sends a demonstration atlas to the gateway of MIRAGE_URL.

Archives with real images are looked for in FOLDER, and fetched into it unless `--offline` is given. Its standard output is
one JSON object a line, the fields of `mirage_launcher.state.IndexState`; complaints go to standard error.
"""

import argparse
import json
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mirage.client import Client
from mirage.errors import ClientError
from mirage.indexing import Indexer
from mirage.indexing_plan import Pace, Plan
from mirage.tally import Tally
from mirage_atlas.demo.demonstration import Demonstration
from mirage_atlas.demo.sources import SETS, sources_of
from mirage_core.files import write_atomically
from mirage_launcher.demo import is_due, parts_done, read_mark, write_mark
from mirage_launcher.state import IndexState

# The file is written this often, and at once if something else than the count has changed.
_KEEP_S = 1.0


class Job:
    """One run of the job. What an earlier run completed is not read again.

    `progress` is a file in which the state is kept too, for the gateway.
    """

    def __init__(self, mark: Path, name: str, archives: Path, *, offline: bool, progress: Path | None = None) -> None:
        self._mark = mark
        self._name = name
        self._progress = progress
        self._kept_at = 0.0
        self._before = read_mark(mark)
        self._done = parts_done(self._before)
        self._state = IndexState()
        self._lock = threading.Lock()
        self._atlas = Demonstration(sources_of(name), [archives], done=self._done, offline=offline, report=self._say)

    def run(self) -> int:
        """Exit code 0 with the atlas complete as far as it can be had, or not wanted; 1 otherwise."""
        if not is_due(self._before, self._name):
            self._say(finished=True)
            return 0
        try:
            with Client() as client:
                if not self._before and client.collection().records:
                    write_mark(self._mark, {"finished": True, "declined": "the atlas held other records already"})
                    self._say(finished=True)
                    return 0
                self._note(finished=False)
                plan = Plan(resume=bool(self._before), skip_duplicates=False)
                indexer = Indexer(client, plan=plan, pace=Pace(), report=lambda tally: self._say(done=tally.seen))
                self._end(indexer.run(self._atlas.read()))
        except ClientError as error:
            self._say(problem=f"{error} [{error.code}]")
        except OSError as error:
            self._say(problem=f"its files cannot be read: {error.strerror}")
        return 0 if self._state.finished else 1

    def _end(self, tally: Tally) -> None:
        for complaint in tally.complaints:
            print(f"{complaint.where}: {complaint.reason} [{complaint.code}]", file=sys.stderr)
        if not (tally.stored or self._done):
            self._say(problem="no record of the demonstration atlas could be stored")
            return
        self._done += self._atlas.done
        self._note(finished=True)
        self._say(done=tally.seen, finished=True)

    def _note(self, *, finished: bool) -> None:
        write_mark(self._mark, {"finished": finished, "done": self._done})

    def _say(self, **changes: Any) -> None:
        with self._lock:
            before = self._state.fetching, self._state.missing
            missing = "; ".join(f"{what}: {reason}" for what, reason in self._atlas.missing.items())
            self._state = replace(
                self._state,
                total=self._atlas.total,
                fetching=self._atlas.fetching,
                missing=f"the demonstration atlas is without {missing}" if missing else "",
                **changes,
            )
            line = json.dumps(asdict(self._state))
            print(line, flush=True)
            is_other = any(name in changes for name in ("finished", "problem")) or before != (
                self._state.fetching,
                self._state.missing,
            )
            if self._progress and (is_other or time.monotonic() - self._kept_at > _KEEP_S):
                self._kept_at = time.monotonic()
                with suppress(OSError):
                    write_atomically(self._progress, line.encode(), sync_data=False, sync_name=False)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="demo_job")
    parser.add_argument("mark", type=Path)
    parser.add_argument("name", choices=("none", *SETS))
    parser.add_argument("archives", type=Path)
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--progress", type=Path)
    arguments = parser.parse_args()
    if arguments.name == "none":
        return 0
    return Job(
        arguments.mark, arguments.name, arguments.archives, offline=arguments.offline, progress=arguments.progress
    ).run()


if __name__ == "__main__":
    sys.exit(main())
