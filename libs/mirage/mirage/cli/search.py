"""`mirage search`: by text, image, record and arithmetic."""

from pathlib import Path

import click

from mirage.cli.options import (
    open_client,
    page_option,
    parse_where,
    query_options,
    read_image,
    server_options,
    term_options,
)
from mirage.cli.output import print_json
from mirage.cli.results import note_values, show_reply
from mirage.queries import Query, SearchMode, VectorSpace, weighted_terms


@click.command("search")
@term_options
@query_options
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "words", "images", "captions"]),
    help="How to search one TEXT; hybrid if omitted: what says it, then what looks like it.",
)
@page_option
@server_options
def command(
    text: str | None,
    images: tuple[Path, ...],
    ids: tuple[str, ...],
    minus: tuple[str, ...],
    plus: tuple[str, ...],
    any_image: bool,
    k: int,
    where: tuple[str, ...],
    min_score: float | None,
    vectors: VectorSpace | None,
    mode: SearchMode | None,
    page_token: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Find images by text, image, record and arithmetic.

    A TEXT alone is searched by its words first ("in quotes" as a phrase, -word without it), then by likeness.

    mirage search "axial T2 with a lesion" --minus axial --plus sagittal --where sequence=t2
    """
    if text is None and not (images or ids or plus):
        raise click.UsageError("Give a TEXT, --image FILE, --id ID or --plus T.")
    query = Query(
        weighted_terms(text, images=map(read_image, images), ids=ids, minus=minus, plus=plus),
        vectors=vectors,
        mode=mode,
        k=k,
        where=parse_where(where),
        min_score=min_score,
        page_token=page_token,
        accept_any_image=any_image,
    )
    with open_client(url) as client:
        reply = client.search(query)
        if not reply.results and query.where:
            note_values(client, query.where)
    if as_json:
        print_json(reply.raw)
    else:
        show_reply(reply)
