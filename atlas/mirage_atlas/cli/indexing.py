"""Shared parts of the verbs that index: reading a dataset, progress, and the summary.

The exit code is 1 if any row was refused, unless that is allowed, or if nothing was stored.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from mirage.cli.output import note, plain, print_json
from mirage.errors import ClientError, InputError, PartMissingError

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage.indexing_plan import Plan
    from mirage.tally import Complaint, Tally
    from mirage_atlas.records import LeftOut

COMPLAINTS_SHOWN = 20
NAMES_SHOWN = 20
# Seconds between two lines of progress without a terminal.
_LINE_S = 10.0


class NothingStoredError(ClientError):
    """A dataset of which no row got in."""

    code = "NOTHING_STORED"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset to read: its rows, how many there are if that is known, and what its records do not have."""

    path: Path
    rows: Iterator[object]
    total: int | None
    left_out: "LeftOut"


def open_dataset(path: Path, name: str | None, *, limit: int | None = None, follow_links: bool = False) -> Dataset:
    """The dataset at a path; `name` of the reader, found by what is there if None. Raises InputError, BadParameter."""
    from mirage_atlas.readers import READERS, count_rows, detect_reader, open_reader

    if name is not None and name not in READERS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(READERS)}", param_hint="--reader")
    try:
        name = name or detect_reader(path, follow_links=follow_links)
        if name is None:
            raise InputError(
                f"{path} is not a dataset that a reader knows ({', '.join(READERS)}); docs/atlases.md has them"
            )
        reader = open_reader(name, path, follow_links=follow_links)
        rows = _guarded(reader.read(), path, name)
        total = count_rows(name, path)
    except ModuleNotFoundError as error:
        raise PartMissingError(str(error.name or "a package"), f"the reader {name}") from error
    except (ValueError, OSError) as error:
        raise _unreadable(path, name, error) from error
    if limit is not None:
        rows, total = islice(rows, limit), min(limit, total) if total is not None else None
    return Dataset(path, rows, total, reader.left_out)


def _guarded(rows: Iterator[object], path: Path, name: str) -> Iterator[object]:
    """The rows, with what a reader raises amid them as InputError."""
    try:
        yield from rows
    except (ValueError, OSError) as error:
        raise _unreadable(path, name, error) from error


def _unreadable(path: Path, name: str | None, error: Exception) -> InputError:
    """Says why a dataset cannot be read, in words of the readers or of the system: any others may quote the dataset."""
    from mirage_atlas.records import DatasetError

    reason = str(error) if isinstance(error, DatasetError) else "it is damaged"
    if isinstance(error, OSError):
        reason = error.strerror or "an error of the file system"
    return InputError(f"{path} cannot be read as {name or 'a dataset'}: {plain(reason)}")


@dataclasses.dataclass(frozen=True)
class Sending:
    """Options of sending a dataset and of its report; as in `sending_options`."""

    batch: int
    parallel: int
    report: Path | None
    allow_refused: bool
    as_json: bool


def index(client: "Client", dataset: Dataset, plan: "Plan", sending: Sending, *, activate: bool) -> int:
    """Sends a dataset and says what became of it, on Ctrl-C too.

    The exit code. `activate` turns searches to its collection.

    Searches are not turned to it if nothing was stored.
    """
    from mirage.indexing import Indexer
    from mirage.indexing_plan import Pace

    with ExitStack() as stack:
        show = stack.enter_context(_progress(dataset.total))
        report = stack.enter_context(_Report.open(sending.report))
        indexer = Indexer(
            client,
            plan=plan,
            pace=Pace(batch=sending.batch, parallel=sending.parallel),
            report=show,
            complain=report.refused,
        )
        try:
            tally = indexer.run(dataset.rows)
        except (KeyboardInterrupt, ClientError):
            note(f"stopped: {tally_text(indexer.tally)}; run it again to go on from here")
            raise
        finally:
            left = _left_out(dataset, indexer.left_out)
            report.left_out(left)
    failed = None if tally.stored else NothingStoredError(f"no row of {dataset.path} could be stored")
    _say(tally, left, failed, as_json=sending.as_json, collection=plan.collection)
    if failed:
        click.echo(f"error: {failed} [{failed.code}]", err=True)
        return 1
    if activate:
        client.activate_collection(plan.collection)
    elif (name := plan.collection) and not sending.as_json and not _is_active(client, name):
        note(
            f"search it with --collection {name}; `mirage collections activate {name}` makes it the one that is searched"
        )
    return 1 if tally.refused and not sending.allow_refused else 0


def _is_active(client: "Client", name: str) -> bool:
    return any(each.active for each in client.collections() if each.name == name)


def with_rows(client: "Client", dataset: Dataset) -> Dataset:
    """Returns the dataset.

    Raises NothingStoredError if it is empty, before anything is made for it, and ClientError without a server.
    """
    # Asked first: without a server, waiting does not help.
    client.collection()
    first = list(islice(dataset.rows, 1))
    if not first:
        raise NothingStoredError(f"{dataset.path} has no rows: nothing was stored")
    return dataclasses.replace(dataset, rows=chain(first, dataset.rows))


class _Report:
    """A file with a JSON line for each refused row, in the order of the rows, and for what was left out."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path | None) -> "Iterator[_Report]":
        """Writes to a new file at a path; raises InputError if it cannot."""
        if path is None:
            yield cls(None)
            return
        try:
            # Line by line, so that a run that is killed leaves what it knew.
            file = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or 'an error of the file system'}") from error
        with file:
            yield cls(file)

    def refused(self, complaint: "Complaint") -> None:
        """Adds a refused row."""
        self._line({"outcome": "refused", **dataclasses.asdict(complaint)})

    def left_out(self, left: Mapping[str, Sequence[str]]) -> None:
        """Adds what records do not have, if there is any."""
        for what, names in left.items():
            self._line({"outcome": "left out", "what": what, "names": list(names)})

    def _line(self, value: Mapping[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(value, ensure_ascii=False) + "\n")


def _left_out(dataset: Dataset, by_server: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the parts that records do not have: names by kind, without empty kinds."""
    people = dict.fromkeys((*dataset.left_out.people, *by_server))
    named = {
        "people": people,
        "beyond": dataset.left_out.beyond,
        "others": dataset.left_out.others,
        "overlaps": dataset.left_out.overlaps,
    }
    return {what: tuple(names) for what, names in named.items() if names}


_LEFT = {
    "people": "left out {count} about people",
    "beyond": "left out {count}: a record has no room for more",
    "others": "set aside {count} of another kind",
    "overlaps": "segments overlap in {count}, where the smaller one is kept",
}


def _say(
    tally: "Tally", left: Mapping[str, Sequence[str]], failed: ClientError | None, *, as_json: bool, collection: str
) -> None:
    for complaint in tally.complaints[:COMPLAINTS_SHOWN]:
        where = complaint.where if complaint.id in ("", complaint.where) else f"{complaint.where} ({complaint.id})"
        note(f"{where}: {plain(complaint.reason)} [{complaint.code}]")
    if tally.refused > COMPLAINTS_SHOWN:
        note(f"... and {tally.refused - COMPLAINTS_SHOWN:,} more (--report FILE has all)")
    for what, names in left.items():
        noun = "file" if what in ("others", "overlaps") else "column"
        count = f"{len(names):,} {noun}{'' if len(names) == 1 else 's'}"
        shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
        note(f"{_LEFT[what].format(count=count)}: {shown}")
    if as_json:
        print_json(
            {
                **dataclasses.asdict(tally),
                "rows": tally.seen,
                "stored": tally.stored,
                "unchanged": tally.unchanged + tally.skipped,
                "refused": tally.refused,
                "left_out": {what: list(names) for what, names in left.items()},
                "rate": round(tally.rate, 2),
                "collection": collection,
                **(failed.problem() if failed else {}),
            }
        )
    else:
        click.echo(tally_text(tally))


def tally_text(tally: "Tally") -> str:
    """A run in one line: each row is created, updated, unchanged or refused."""
    counts = {
        "created": tally.created,
        "updated": tally.updated,
        "unchanged": tally.unchanged + tally.skipped,
        "refused": tally.refused,
    }
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no rows"
    if tally.duplicates:
        parts += f" ({tally.duplicates:,} of an image that another record shows)"
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
