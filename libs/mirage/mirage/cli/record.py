"""`mirage record`: all that is known about one image."""

import click

from mirage.cli.options import open_client, server_options
from mirage.cli.output import labels_text, print_fields, print_json


@click.command("record")
@click.argument("record_id", metavar="ID")
@server_options
def command(record_id: str, url: str | None, as_json: bool) -> None:
    """Show record ID: caption, labels, source and licence."""
    with open_client(url) as client:
        record = client.record(record_id)
    if as_json:
        print_json(record.raw)
        return
    print_fields(
        {
            "id": record.id,
            "caption": record.caption,
            "labels": labels_text(record.labels),
            "original labels": " ".join(f"{name}={value}" for name, value in record.original_labels.items()),
            "licence": record.licence,
            "source": record.source,
            "attribution": record.attribution,
            "image sha256": record.image_sha256,
            "open flags": str(record.flags or ""),
        }
    )
