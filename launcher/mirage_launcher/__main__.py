"""`python -m mirage_launcher`: the launcher that `mirage up --detach` leaves behind. Its output is a log."""

import argparse
import json
import sys
import time
from pathlib import Path

from mirage.errors import ClientError
from mirage_atlas.demo.sources import STANDARD
from mirage_launcher.operations import UpOptions, up
from mirage_launcher.state import State


def main() -> int:
    """Runs until a signal; exit code 1 if the start failed."""
    parser = argparse.ArgumentParser(prog="mirage_launcher")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", default="mini")
    parser.add_argument("--llm", default="")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--qdrant", default="")
    parser.add_argument("--qdrant-key-file", type=Path)
    parser.add_argument("--demo", default=STANDARD)
    options = UpOptions(**vars(parser.parse_args()))
    phases: list[str] = []

    def note(state: State) -> None:
        if phases[-1:] != [state.phase]:
            phases.append(state.phase)
            print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {state.phase}", flush=True)

    try:
        up(options, note)
    except ClientError as error:
        # Read by the `mirage up --detach` that waits for this process.
        print(json.dumps(error.problem()), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
