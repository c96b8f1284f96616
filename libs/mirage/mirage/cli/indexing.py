"""What the verbs that index share: reading a dataset, showing progress, and what is said at the end."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirage.cli.output import note, plain, print_json
from mirage.errors import ClientError, InputError, PartMissingError

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage.indexing import Complaint, Plan, Tally

COMPLAINTS_SHOWN = 20
# Where there is no terminal, a line so often.
_LINE_S = 10.0


class NothingStoredError(ClientError):
    """A dataset of which no row got in."""

    code = "NOTHING_STORED"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset to read: its rows, and how many there are where that is known."""

    path: Path
    rows: Iterator[object]
    total: int | None


def open_dataset(path: Path, name: str | None, *, limit: int | None = None) -> Dataset:
    """The dataset at a path; `name` of the reader, found by what lies there where None. Raises InputError, BadParameter."""
    try:
        from mirage_atlas.readers import READERS, count_rows, detect_reader, open_reader
    except ModuleNotFoundError as error:
        raise PartMissingError("mirage-atlas", "mirage index") from error
    if name is not None and name not in READERS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(READERS)}", param_hint="--reader")
    try:
        name = name or detect_reader(path)
        if name is None:
            raise InputError(
                f"{path} is no dataset that a reader knows ({', '.join(READERS)}); docs/atlases.md has them"
            )
        rows: Iterator[object] = iter(open_reader(name, path).read())
        total = count_rows(name, path)
    except ModuleNotFoundError as error:
        raise PartMissingError(str(error.name or "a package"), f"the reader {name}") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as {name}: {plain(str(error))}") from error
    if limit is not None:
        rows, total = islice(rows, limit), min(limit, total) if total is not None else None
    return Dataset(path, rows, total)


def index(
    client: "Client", dataset: Dataset, plan: "Plan", *, batch: int, parallel: int, report: Path | None, as_json: bool
) -> None:
    """Sends a dataset and says what became of it; on Ctrl-C too."""
    from mirage.indexing import Indexer, Pace

    # Asked first: without a server there is nothing to be patient about.
    client.collection()
    with ExitStack() as stack:
        show = stack.enter_context(_progress(dataset.total))
        file = stack.enter_context(report.open("w", encoding="utf-8")) if report else None

        def complain(complaint: "Complaint") -> None:
            if file:
                file.write(json.dumps(dataclasses.asdict(complaint), ensure_ascii=False) + "\n")

        indexer = Indexer(client, plan=plan, pace=Pace(batch=batch, parallel=parallel), report=show, complain=complain)
        try:
            tally = indexer.run(dataset.rows)
        except OSError as error:
            reason = error.strerror or "an error of the file system"
            raise InputError(f"{dataset.path} cannot be read: {reason}") from error
        except (KeyboardInterrupt, ClientError):
            note(f"stopped: {tally_text(indexer.tally)}; run it again to go on from here")
            raise
    _say(tally, as_json=as_json, collection=plan.collection)
    if tally.seen > tally.duplicates and not tally.stored:
        raise NothingStoredError(f"no row of {dataset.path} could be stored")


def _say(tally: "Tally", *, as_json: bool, collection: str) -> None:
    for complaint in tally.complaints[:COMPLAINTS_SHOWN]:
        note(f"{complaint.where}: {plain(complaint.reason)} [{complaint.code}]")
    if len(tally.complaints) > COMPLAINTS_SHOWN:
        note(f"... and {len(tally.complaints) - COMPLAINTS_SHOWN} more (--report FILE has all)")
    if as_json:
        print_json(
            {
                **dataclasses.asdict(tally),
                "stored": tally.stored,
                "rate": round(tally.rate, 2),
                "collection": collection,
            }
        )
    else:
        click.echo(tally_text(tally))


def tally_text(tally: "Tally") -> str:
    """A run in one line."""
    counts = {
        "created": tally.created,
        "updated": tally.updated,
        "unchanged": tally.unchanged + tally.skipped,
        "duplicates": tally.duplicates,
        "refused": tally.rejected,
        "bad rows": tally.bad_rows,
    }
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no rows"
    return f"{parts} in {tally.elapsed_s:.1f} s ({tally.rate:.1f} rows/s)"


@contextmanager
def _progress(total: int | None) -> "Iterator[Callable[[Tally], None]]":
    """Reports a run: a bar on a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=total)
        yield lambda tally: progress.update(task, completed=tally.seen, description=tally_text(tally))


def _lines(total: int | None) -> "Callable[[Tally], None]":
    said_at = time.monotonic()

    def say(tally: "Tally") -> None:
        nonlocal said_at
        if time.monotonic() - said_at < _LINE_S:
            return
        said_at = time.monotonic()
        of = f" of {total:,}" if total else ""
        left = f", about {(total - tally.seen) / tally.rate:,.0f} s left" if total and tally.rate else ""
        note(f"{tally.seen:,}{of} rows: {tally_text(tally)}{left}")

    return say
