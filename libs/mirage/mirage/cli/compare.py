"""`mirage compare`: a query and its shifted form, or another query, side by side."""

from dataclasses import replace

import click

from mirage.cli.options import (
    by_case_option,
    collection_option,
    not_option,
    open_client,
    parse_where,
    query_options,
    server_options,
)
from mirage.cli.output import labels_text, note, print_json, print_table
from mirage.cli.results import match_note, show_query
from mirage.queries import Query, Term, VectorSpace
from mirage_api.search import CompareReply


@click.command("compare")
@click.argument("text")
@click.option("--minus", multiple=True, metavar="T", help="Phrase taken away; repeat for more.")
@click.option("--plus", multiple=True, metavar="T", help="Phrase added; repeat for more.")
@click.option("--to", "second", metavar="T", help="Another TEXT to compare with, by words and likeness.")
@query_options
@not_option
@by_case_option
@collection_option
@server_options
def command(
    text: str,
    minus: tuple[str, ...],
    plus: tuple[str, ...],
    second: str | None,
    k: int,
    where: tuple[str, ...],
    min_score: float | None,
    vectors: VectorSpace | None,
    where_not: tuple[str, ...],
    by_case: bool,
    collection: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Show the results of TEXT and of `TEXT - minus + plus`, or of another TEXT, side by side.

    mirage compare "axial T1 of the ventricles" --minus axial --plus sagittal

    mirage compare "pulmonary embolism" --to pneumonia
    """
    if bool(minus or plus) == (second is not None):
        raise click.UsageError("Give --minus T, --plus T or both, or --to T.")
    like = Query(
        (),
        vectors=vectors,
        k=k,
        where=parse_where(where),
        min_score=min_score,
        collection=collection,
        where_not=parse_where(where_not, "--not"),
        group_by="case" if by_case else None,
    )
    with open_client(url) as client:
        if second is None:
            comparison = client.compare(text, minus=minus, plus=plus, like=like)
        else:
            sides = [replace(like, terms=(Term(text=each),)) for each in (text, second)]
            comparison = client.compare_two(*sides)
    if as_json:
        print_json(comparison.raw)
    else:
        _show(comparison)


def _show(comparison: CompareReply) -> None:
    show_query(comparison.shifted.query)
    for side, reply in (("base", comparison.base), ("shifted", comparison.shifted)):
        if remark := match_note(reply):
            note(f"{side}: {remark}")
    note(f"cosine of the two queries: {comparison.shift:.3f}")
    rows = [
        (side, f"{one.score:.4f}", one.id, one.caption, labels_text(one.labels))
        for side, reply in (("base", comparison.base), ("shifted", comparison.shifted))
        for one in reply.results
    ]
    print_table(("side", "score", "id", "caption", "labels"), rows)
