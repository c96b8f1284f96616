"""`python -m mirage_launcher.demo_job MARK`: sends the demonstration atlas to the gateway of MIRAGE_URL.

Its standard output is one JSON object a line, the fields of `mirage_launcher.state.IndexState`; complaints go to standard error.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mirage.client import Client
from mirage.errors import ClientError
from mirage.indexing import Indexer, Pace, Plan, Tally
from mirage_atlas.readers import open_reader
from mirage_launcher.demo import read_mark, write_mark
from mirage_launcher.state import IndexState


def main(mark: Path) -> int:
    """Exit code 0 with the atlas complete or not wanted, 1 otherwise."""
    begun = bool(read_mark(mark))
    reader = open_reader("demo")
    state = IndexState()
    try:
        with Client(timeout_s=60.0) as client:
            if not begun and client.collection().records:
                write_mark(mark, {"finished": True, "declined": "the atlas held other records already"})
                _say(IndexState(finished=True))
                return 0
            write_mark(mark, {"finished": False})
            total = sum(1 for _ in reader.read())
            _say(IndexState(0, total))
            plan = Plan(resume=begun, skip_duplicates=False)
            indexer = Indexer(client, plan=plan, pace=Pace(), report=lambda tally: _say(IndexState(tally.seen, total)))
            tally = indexer.run(reader.read())
            state = _outcome(tally, total)
    except ClientError as error:
        state = IndexState(problem=f"{error} [{error.code}]")
    except OSError as error:
        state = IndexState(problem=f"its files cannot be read: {error.strerror}")
    if state.finished:
        write_mark(mark, {"finished": True})
    _say(state)
    return 0 if state.finished else 1


def _outcome(tally: Tally, total: int) -> IndexState:
    for complaint in tally.complaints:
        print(f"{complaint.where}: {complaint.reason} [{complaint.code}]", file=sys.stderr)
    if not tally.stored:
        return IndexState(tally.seen, total, problem="no record of the demonstration atlas could be stored")
    return IndexState(tally.seen, total, finished=True)


def _say(state: IndexState) -> None:
    print(json.dumps(asdict(state)), flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
