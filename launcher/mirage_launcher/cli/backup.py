"""`mirage backup`: everything that is stored, as one file."""

from pathlib import Path

import click

from mirage.cli.files import check_writable
from mirage.cli.options import json_option
from mirage.cli.output import print_json
from mirage_launcher.cli import backups


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, resolve_path=True, allow_dash=True))
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
@backups.place_options
@json_option
def command(file: Path, force: bool, data: Path | None, volumes: Path | None, as_json: bool) -> None:
    """Write all that is stored to FILE: index, records, images, flags, jobs and the images that they made.

    MIRAGE must be down meanwhile, so that the parts fit each other. FILE is a gzipped tar that begins with a list of its
    files and their hashes; "-" is standard output. Models, logs and keys are not in it. Keep it as safe as the atlas itself.
    """
    from mirage_launcher.backups.operations import back_up

    to_output = str(file) == "-"
    if to_output and as_json:
        raise click.UsageError("--json and FILE - would both write to standard output.")
    if not to_output:
        check_writable(file, replace=force)
    with backups.progress() as report:
        outcome = back_up(backups.place(data, volumes), None if to_output else file, report=report)
    backups.note_remarks(outcome)
    if to_output:
        return
    size = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "bytes": size, **backups.fields(outcome)})
    else:
        click.echo(f"{file}: {size / 2**20:,.1f} MiB, {len(outcome.manifest.members):,} files")
