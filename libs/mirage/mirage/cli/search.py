"""`mirage search`: by text, image, record and arithmetic."""

from pathlib import Path

import click

from mirage.cli.options import (
    by_case_option,
    collection_option,
    not_option,
    open_client,
    page_option,
    parse_where,
    query_options,
    read_image,
    server_options,
    term_options,
)
from mirage.cli.output import print_json
from mirage.cli.results import note_values, note_where_records_are, show_reply
from mirage.queries import Order, Query, SearchMode, VectorSpace, weighted_terms


@click.command("search")
@term_options
@query_options
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "words", "images", "captions"]),
    help="How to search one TEXT; hybrid if omitted: what says it, then what looks like it.",
)
@not_option
@by_case_option
@click.option("--variety", is_flag=True, help="Show different images first, among those that match well.")
@click.option("--like", multiple=True, metavar="ID", help="In place of a TEXT: be like this record; up to 8.")
@click.option("--unlike", multiple=True, metavar="ID", help="With --like: be unlike this record; up to 8.")
@click.option("--order", type=click.Choice(["newest", "case", "random"]), help="Without a TEXT; newest if omitted.")
@click.option("--seed", type=int, metavar="N", help="With --order random: the same one gives the same order.")
@page_option
@collection_option
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
    where_not: tuple[str, ...],
    by_case: bool,
    variety: bool,
    like: tuple[str, ...],
    unlike: tuple[str, ...],
    order: Order | None,
    seed: int | None,
    page_token: str | None,
    collection: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Find images by text, image, record and arithmetic, or list those that pass a filter.

    A TEXT alone is searched by its words first ("in quotes" as a phrase, -word without it), then by likeness.

    mirage search "axial T2 with a lesion" --minus axial --plus sagittal --where sequence=t2
    """
    if minus and text is None and not (images or ids or plus):
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
        collection=collection,
        where_not=parse_where(where_not, "--not"),
        group_by="case" if by_case else None,
        order=order,
        seed=seed,
        variety=variety,
        positive=like,
        negative=unlike,
    )
    with open_client(url) as client:
        reply = client.search(query)
        if not reply.results and query.where:
            note_values(client, query.where, collection)
        if not reply.results:
            note_where_records_are(client, collection)
    if as_json:
        print_json(reply.raw)
    else:
        show_reply(reply)
