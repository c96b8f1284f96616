"""`mirage restore`: what a backup holds, stored again."""

from pathlib import Path

import click

from mirage.cli.options import json_option
from mirage.cli.output import print_json
from mirage_launcher.cli import backups


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, resolve_path=True, allow_dash=True))
@click.option("--replace", is_flag=True, help="Replace what is stored, which is then deleted.")
@click.option("--check", is_flag=True, help="Only check that FILE is complete.")
@backups.place_options
@json_option
def command(file: Path, replace: bool, check: bool, data: Path | None, volumes: Path | None, as_json: bool) -> None:
    """Restore a backup that `mirage backup` wrote to FILE ("-" is standard input). MIRAGE must be down.

    Jobs are stored again one by one, after each of their values was checked; jobs that are left out are named.

    Stored data stays unchanged until all of FILE is unpacked and every hash is right. A restoration that was killed
    is undone, or finished, by the next `mirage up`, `backup` or `restore`.
    """
    from mirage_launcher.backups import operations

    source = None if str(file) == "-" else file
    with backups.progress() as report:
        if check:
            outcome = operations.check(source, report=report)
        else:
            outcome = operations.restore(backups.place(data, volumes), source, replace=replace, report=report)
    backups.note_remarks(outcome)
    if as_json:
        print_json({"file": str(file), "restored": not check, **backups.fields(outcome)})
    else:
        done = "is whole" if check else "restored"
        click.echo(f"{file} {done}: {len(outcome.manifest.members):,} files of {outcome.manifest.created}")
