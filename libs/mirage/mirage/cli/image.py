"""`mirage image`: fetches an image file."""

import sys
from pathlib import Path
from typing import Literal

import click

from mirage.cli.files import write_file
from mirage.cli.options import collection_option, open_client, server_options
from mirage.cli.output import note, print_json


@click.command("image")
@click.argument("record_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="File to write; - for standard output.",
)
@click.option(
    "--variant",
    type=click.Choice(["display", "pixels", "regions", "thumbnail"]),
    default="display",
    show_default=True,
    help="With 8 bits, the lossless 16-bit PNG of an image with more bits, the label map, or a small WebP.",
)
@collection_option
@server_options
def command(
    record_id: str,
    output: Path,
    variant: Literal["display", "pixels", "regions", "thumbnail"],
    collection: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Fetch the image of record ID into a file."""
    to_stdout = str(output) == "-"
    if to_stdout and (as_json or sys.stdout.isatty()):
        raise click.UsageError("An image goes to standard output only into a pipe, and without --json.")
    with open_client(url) as client:
        image = client.image(record_id, variant=variant, collection=collection)
    if to_stdout:
        sys.stdout.buffer.write(image.data)
        return
    write_file(output, image.data)
    if as_json:
        print_json({"id": record_id, "file": str(output), "media_type": image.media_type, "bytes": len(image.data)})
    else:
        note(f"{output}: {image.media_type}, {len(image.data):,} bytes")
