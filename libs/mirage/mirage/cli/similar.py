"""`mirage similar`: the neighbours of one image."""

import click

from mirage.cli.options import (
    collection_option,
    open_client,
    page_option,
    parse_where,
    server_options,
    where_option,
)
from mirage.cli.output import print_json
from mirage.cli.results import note_values, show_reply


@click.command("similar")
@click.argument("record_id", metavar="ID")
@click.option("-k", type=int, default=10, show_default=True, metavar="K", help="How many, 1 to 99.")
@where_option
@page_option
@collection_option
@server_options
def command(
    record_id: str,
    k: int,
    where: tuple[str, ...],
    page_token: str | None,
    collection: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Find the images nearest to that of record ID."""
    facets = parse_where(where)
    with open_client(url) as client:
        reply = client.similar(record_id, k=k, where=facets, page_token=page_token, collection=collection)
        if not reply.results and facets:
            note_values(client, facets, collection)
    if as_json:
        print_json(reply.raw)
    else:
        show_reply(reply)
