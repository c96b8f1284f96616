"""`mirage facets`: what the atlas holds, by label."""

import click

from mirage.cli.options import open_client, parse_where, server_options, where_option
from mirage.cli.output import print_json, print_table


@click.command("facets")
@where_option
@server_options
def command(where: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Count the records by facet: modality, plane, body part and so on."""
    with open_client(url) as client:
        facets = client.facets(where=parse_where(where))
    if as_json:
        print_json(
            {"facets": [{"name": f.name, "values": [{"value": v, "count": n} for v, n in f.values]} for f in facets]}
        )
    else:
        print_table(
            ("facet", "value", "records"), [(f.name, value, str(count)) for f in facets for value, count in f.values]
        )
