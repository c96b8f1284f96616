"""The builder process: copies a shard as it stands, merges it and builds its HNSW graph, away from all searches."""

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from mirage_retriever.engines.edge.searcher import end_with_parent
from mirage_retriever.engines.edge.shard_files import ShardFiles
from mirage_retriever.engines.edge.shard_shape import ShardShape


def sync_tree(path: Path) -> None:
    """Forces every file and directory below `path` to the disk."""
    for directory, _, names in os.walk(path):
        for name in (*names, "."):
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def main() -> None:
    """Makes the empty shard at `target`, or with a `source` an optimised copy of that.

    Says `copied` when the source may change again, then `built N` with the number of points.
    """
    parser = argparse.ArgumentParser(description="Makes a shard, or an optimised copy of one.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--shape", required=True, help="ShardShape as JSON")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(arguments.parent)
    if arguments.source is None:
        fields = json.loads(arguments.shape)
        shard = ShardFiles.create(arguments.target, ShardShape(**{**fields, "facets": tuple(fields["facets"])}))
    else:
        # The files of a live shard with no write under way are what a kill at this moment would leave: loading
        # the copy applies its write-ahead log.
        shutil.copytree(arguments.source, arguments.target)
        sys.stdout.write("copied\n")
        sys.stdout.flush()
        # Searches go before: this may take minutes and no one waits for it.
        os.nice(10)
        shard = ShardFiles.load(arguments.target)
        shard.optimize()
    points, _ = shard.status()
    shard.close()
    sync_tree(arguments.target)
    sys.stdout.write(f"built {points}\n")


if __name__ == "__main__":
    main()
