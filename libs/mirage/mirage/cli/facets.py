"""`mirage facets`: what the atlas holds, by label."""

import click

from mirage.cli.options import collection_option, not_option, open_client, parse_where, server_options, where_option
from mirage.cli.output import print_json, print_table


@click.command("facets")
@where_option
@not_option
@collection_option
@server_options
def command(
    where: tuple[str, ...], where_not: tuple[str, ...], collection: str, url: str | None, as_json: bool
) -> None:
    """Count the records by facet: modality, plane, body part and so on."""
    with open_client(url) as client:
        facets = client.facets(
            where=parse_where(where), where_not=parse_where(where_not, "--not"), collection=collection
        )
    if as_json:
        print_json({"facets": [each.raw for each in facets]})
    else:
        print_table(
            ("facet", "value", "records"),
            [
                (facet.name, value, str(count))
                for facet in facets
                for value, count in (
                    *((each.value, each.count) for each in facet.values),
                    *([(f"({len(facet.other.values)} rare values)", facet.other.count)] if facet.other else []),
                )
            ],
        )
