"""`mirage down`: stops what `mirage up` started."""

from pathlib import Path

import click

from mirage.cli.options import data_option, json_option
from mirage.cli.output import print_json


@click.command("down")
@data_option
@json_option
def command(data: Path | None, as_json: bool) -> None:
    """Stop the services of this machine. The atlas stays."""
    from mirage_launcher.operations import down

    stopped = down(data)
    if as_json:
        print_json({"stopped": stopped})
    else:
        click.echo("stopped" if stopped else "nothing was running")
