"""`mirage compare`: a query and its shifted form side by side."""

import click

from mirage.cli.options import open_client, parse_where, query_options, server_options
from mirage.cli.output import labels_text, note, print_json, print_table
from mirage.cli.results import MATCH_NOTES, show_query
from mirage.queries import Query, VectorSpace
from mirage_api.search import CompareReply


@click.command("compare")
@click.argument("text")
@click.option("--minus", multiple=True, metavar="T", help="Phrase taken away; repeat for more.")
@click.option("--plus", multiple=True, metavar="T", help="Phrase added; repeat for more.")
@query_options
@server_options
def command(
    text: str,
    minus: tuple[str, ...],
    plus: tuple[str, ...],
    k: int,
    where: tuple[str, ...],
    min_score: float | None,
    vectors: VectorSpace | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Show the results of TEXT and of `TEXT - minus + plus` side by side.

    mirage compare "axial T1 of the ventricles" --minus axial --plus sagittal
    """
    if not (minus or plus):
        raise click.UsageError("Give --minus T, --plus T or both.")
    like = Query((), vectors=vectors, k=k, where=parse_where(where), min_score=min_score)
    with open_client(url) as client:
        comparison = client.compare(text, minus=minus, plus=plus, like=like)
    if as_json:
        print_json(comparison.raw)
    else:
        _show(comparison)


def _show(comparison: CompareReply) -> None:
    show_query(comparison.shifted.query)
    for side, reply in (("base", comparison.base), ("shifted", comparison.shifted)):
        if remark := MATCH_NOTES.get(reply.match or ""):
            note(f"{side}: {remark}")
    note(f"cosine of the two queries: {comparison.shift:.3f}")
    rows = [
        (side, f"{one.score:.4f}", one.id, one.caption, labels_text(one.labels))
        for side, reply in (("base", comparison.base), ("shifted", comparison.shifted))
        for one in reply.results
    ]
    print_table(("side", "score", "id", "caption", "labels"), rows)
