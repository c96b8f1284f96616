"""The builder process: copies a shard, merges it and builds its HNSW graph, apart from all searches."""

import argparse
import errno
import json
import os
import re
import shutil
import signal
import sys
import traceback
from pathlib import Path

from mirage_core.files import sync_path
from mirage_retriever.engines.edge.searcher import end_with_parent
from mirage_retriever.engines.edge.shard_files import ShardFiles
from mirage_retriever.engines.edge.shard_shape import ShardShape

# A limit on the size of files counts as a full disk, as everywhere else.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Both ways in which Rust writes an error of the system.
_OS_ERROR = re.compile(r"\bos error (\d+)\b|\bOs \{ code: (\d+)\b")


def is_full(error: Exception) -> bool:
    """True if the disk was full; the engine says that in the exception's text alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return any(int(first or second) in _FULL for first, second in _OS_ERROR.findall(str(error)))


def sync_tree(path: Path) -> None:
    """Forces every file and directory below `path` to the disk."""
    for directory, _, names in os.walk(path):
        for name in (*names, "."):
            sync_path(Path(directory, name))


def build(target: Path, source: Path | None, shape: str) -> int:
    """Makes the shard and forces it to the disk; the number of points in it."""
    if source is None:
        fields = json.loads(shape)
        shard = ShardFiles.create(target, ShardShape(**{**fields, "facets": tuple(fields["facets"])}))
    else:
        # The files of a live shard with no write under way are what a kill at this moment would leave: loading
        # the copy applies its write-ahead log.
        shutil.copytree(source, target)
        sys.stdout.write("copied\n")
        sys.stdout.flush()
        # Searches go before: this may take minutes and no one waits for it.
        os.nice(10)
        shard = ShardFiles.load(target)
        shard.optimize()
    points, _ = shard.status()
    shard.close()
    sync_tree(target)
    return points


def main() -> None:
    """Makes the empty shard at `target`, or with a `source` an optimised copy of that.

    Says `copied` when the source may change again, then `built N` with the number of points, or `full` if the disk is.
    """
    parser = argparse.ArgumentParser(description="Makes a shard, or an optimised copy of one.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--shape", required=True, help="ShardShape as JSON")
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(arguments.parent)
    try:
        points = build(arguments.target, arguments.source, arguments.shape)
    except Exception as error:
        traceback.print_exc()
        if is_full(error):
            sys.stdout.write("full\n")
        raise SystemExit(1) from None
    sys.stdout.write(f"built {points}\n")


if __name__ == "__main__":
    main()
