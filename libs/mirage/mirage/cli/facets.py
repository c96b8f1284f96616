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
        print_json({"facets": [each.raw for each in facets]})
    else:
        print_table(
            ("facet", "value", "records"),
            [(facet.name, each.value, str(each.count)) for facet in facets for each in facet.values],
        )
