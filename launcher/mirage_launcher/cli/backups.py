"""Shared parts of `mirage backup` and `mirage restore`: places, progress, and the summary of a backup."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mirage.cli.options import data_option
from mirage.cli.output import note

if TYPE_CHECKING:
    from mirage_launcher.backups.archive import Report
    from mirage_launcher.backups.operations import Outcome, Place

F = TypeVar("F", bound=Callable[..., Any])
# Seconds between two lines of progress without a terminal.
_LINE_S = 10.0


def place_options(verb: F) -> F:
    """Adds `--data` and `--volumes`."""
    volumes = click.option(
        "--volumes",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Instead of --data: the volumes of containers, mounted below DIR (deploy/backup.sh does that).",
    )
    return data_option(volumes(verb))


def place(data: Path | None, volumes: Path | None) -> "Place":
    """The launcher's word for where things are stored."""
    source = click.get_current_context().get_parameter_source("data")
    if volumes is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--data and --volumes are two places: give one.")
    from mirage_launcher.backups.operations import Place

    return Place(data=data, volumes=volumes)


def note_remarks(outcome: "Outcome") -> None:
    """Says on standard error what was left out."""
    for remark in outcome.remarks:
        note(remark)


def fields(outcome: "Outcome") -> dict[str, Any]:
    """A backup as `--json` prints it."""
    manifest = outcome.manifest
    return {
        "created": manifest.created,
        "mirage": manifest.mirage,
        "files": len(manifest.members),
        "unpacked_bytes": manifest.total_bytes,
        "counts": manifest.counts(),
        "collections": dict(manifest.collections),
        "remarks": list(outcome.remarks),
    }


@contextmanager
def progress() -> "Iterator[Report]":
    """Reports bytes: a bar on a terminal, a line every ten seconds elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _lines() -> "Report":
    said_at = time.monotonic()

    def say(what: str, done: int, total: int) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= _LINE_S:
            said_at = time.monotonic()
            note(f"{what}: {done / 2**20:,.0f} of {total / 2**20:,.0f} MiB")

    return say
