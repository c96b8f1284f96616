"""`mirage index`: brings a dataset into the atlas."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirage.cli.options import open_client, server_options
from mirage.cli.output import note, plain, print_json
from mirage.errors import ClientError, InputError, PartMissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirage.indexing import Complaint, Tally

COMPLAINTS_SHOWN = 20


class NothingStoredError(ClientError):
    """A dataset of which no row got in."""

    code = "NOTHING_STORED"


@click.command("index")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--reader",
    default="captions",
    show_default=True,
    metavar="NAME",
    help="Format: captions (a folder with captions.jsonl).",
)
@click.option("--resume", is_flag=True, help="Ask the atlas first, and send only what it does not hold yet.")
@click.option("--batch", type=click.IntRange(1, 64), default=32, show_default=True, help="Records sent at once.")
@server_options
def command(path: Path, reader: str, resume: bool, batch: int, url: str | None, as_json: bool) -> None:
    """Read the dataset at PATH, encode it and store it in the atlas.

    A row that cannot be read or that the server refuses is listed with its reason and does not stop the others. Storing is
    idempotent: run it again after an interruption, with --resume to send nothing twice.
    """
    from mirage.indexing import Indexer, Pace

    rows = _read(path, reader)
    with open_client(url) as client, _progress() as report:
        # Asked first: without a server there is nothing to be patient about.
        client.collection()
        try:
            tally = Indexer(client, resume=resume, pace=Pace(batch=batch), report=report).run(rows)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or 'an error of the file system'}") from error
    for complaint in tally.complaints[:COMPLAINTS_SHOWN]:
        note(_complaint_text(complaint))
    if len(tally.complaints) > COMPLAINTS_SHOWN:
        note(f"... and {len(tally.complaints) - COMPLAINTS_SHOWN} more (--json lists them)")
    if as_json:
        print_json({**dataclasses.asdict(tally), "stored": tally.stored, "rate": round(tally.rate, 2)})
    else:
        click.echo(tally_text(tally))
    if tally.seen and not tally.stored:
        raise NothingStoredError(f"no row of {path} could be stored")


def tally_text(tally: "Tally") -> str:
    """A run in one line."""
    counts = {
        "created": tally.created,
        "updated": tally.updated,
        "unchanged": tally.unchanged + tally.skipped,
        "refused": tally.rejected,
        "bad rows": tally.bad_rows,
    }
    parts = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no rows"
    return f"{parts} in {tally.elapsed_s:.1f} s ({tally.rate:.1f} rows/s)"


def _complaint_text(complaint: "Complaint") -> str:
    return f"{complaint.where}: {plain(complaint.reason)} [{complaint.code}]"


def _read(path: Path, name: str) -> Iterator[object]:
    try:
        from mirage_atlas.readers import READERS, open_reader
    except ModuleNotFoundError as error:
        raise PartMissingError("mirage-atlas", "mirage index") from error
    if name not in READERS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(READERS)}", param_hint="--reader")
    folder = path.parent if path.is_file() else path
    if name == "captions" and not (folder / "captions.jsonl").is_file():
        raise InputError(f"{folder} holds no captions.jsonl")
    return iter(open_reader(name, folder).read())


@contextmanager
def _progress() -> "Iterator[Callable[[Tally], None]]":
    """Reports a run as a line that renews itself, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _tally: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting")
        yield lambda tally: progress.update(task, description=tally_text(tally))
