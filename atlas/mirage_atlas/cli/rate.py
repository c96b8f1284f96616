"""`mirage eval rate`: experts rate results without knowing where they came from."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirage.cli.options import open_client, server_options
from mirage.cli.output import note, on_terminal, print_json, print_table
from mirage.errors import InputError

if TYPE_CHECKING:
    from mirage_atlas.quality.measures import Estimate
    from mirage_atlas.quality.rating import Summary

_ITEMS = 60
_COLUMNS = "kind system items answers cannot_tell relevance relevant correct mislabelled misleading taken_for_real"
_KINDS = ("result", "image", "description")
_file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.group("rate")
def command() -> None:
    """Have experts rate results, generated images and descriptions, without knowing where each came from."""


@command.command("conditions")
def conditions() -> None:
    """Print the 30 standard conditions as a CSV, to fill in with the results of another search for --with."""
    from mirage_atlas.quality import rating

    click.echo(rating.template(), nl=False)


@command.command("prepare")
@click.option("--raters", type=click.IntRange(1, 10), default=1, show_default=True, metavar="N", help="Links to make.")
@click.option(
    "--items", type=click.IntRange(1, 300), default=_ITEMS, show_default=True, metavar="N", help="At most N items."
)
@click.option("--with", "other", type=_file, metavar="FILE.csv", help="Mix in the results of another search.")
@click.option("--queries", "own_queries", type=_file, metavar="FILE", help="Ask these, one a line.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(_KINDS),
    help="Only items of this kind; repeat for more. Images alone need a generator.",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Draw another sheet.")
@click.option("--collection", default="", metavar="NAME", help="Take the results from this collection.")
@server_options
def prepare(
    raters: int,
    items: int,
    other: Path | None,
    own_queries: Path | None,
    kinds: tuple[Any, ...],
    seed: int | None,
    collection: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Draw a sheet and print a link for each rater. Needs the role admin.

    The queries are the 30 standard conditions, those of FILE.csv, or those of --queries.
    """
    from mirage_atlas.quality import rating
    from mirage_atlas.quality.measures import SEED

    others = rating.read_others(other) if other else []
    queries = _lines(own_queries) if own_queries else [each.query for each in others] or rating.conditions()
    with open_client(url) as client:
        drawn = rating.draw(
            client,
            queries,
            others,
            items=items,
            kinds=kinds or _KINDS,
            seed=SEED if seed is None else seed,
            collection=collection,
            report=_progress("drawn"),
        )
        sheet, tokens = rating.send(client, drawn, raters=raters, collection=collection, report=_progress("stored"))
        links = [f"{client.url}/rate/{token}" for token in tokens]
    if as_json:
        print_json({"sheet": sheet, "items": len(drawn), "links": links})
        return
    for link in links:
        click.echo(link)
    note(f"{len(drawn)} items on the sheet {sheet}. One link for each rater; they cannot be printed again.")


@command.command("list")
@server_options
def list_(url: str | None, as_json: bool) -> None:
    """List the sheets. Needs the role admin."""
    with open_client(url) as client:
        sheets = client.rating_sheets()
    if as_json:
        print_json({"sheets": [each.raw for each in sheets]})
        return
    print_table(
        ("sheet", "made", "collection", "items", "raters", "answers"),
        [
            (each.id, each.create_time[:16], each.collection, str(each.size), str(each.raters), str(each.answered))
            for each in sheets
        ],
    )


@command.command("report")
@click.argument("sheet")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all answers here.")
@server_options
def report(sheet: str, csv_file: Path | None, url: str | None, as_json: bool) -> None:
    """Sum up the answers to the sheet with this id: scores of each system, and agreement. Needs the role admin."""
    from mirage_atlas.quality import rating

    with open_client(url) as client:
        found = client.rating_sheet(sheet)
    summary = rating.summed_up(found)
    if csv_file is not None:
        csv_file.write_text(rating.to_csv(found), encoding="utf-8")
        note(f"written to {csv_file}")
    if as_json:
        print_json({"sheet": found.id, **dataclasses.asdict(summary)})
        return
    _print(summary, raters=found.raters)


@command.command("delete")
@click.argument("sheet")
@server_options
def delete(sheet: str, url: str | None, as_json: bool) -> None:
    """Remove the sheet with this id, its links and its answers. Needs the role admin."""
    with open_client(url) as client:
        answers = client.delete_rating_sheet(sheet)
    print_json({"answers": answers}) if as_json else note(f"the sheet {sheet} is removed, with {answers} answers")


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8") from error
    if not found:
        raise InputError(f"{path} has no query")
    return found


def _progress(what: str) -> Callable[[int, int], None]:
    def report(done: int, of: int) -> None:
        if on_terminal():
            click.echo(f"\r{what}: {done:,} of {of:,} ", nl=done == of, err=True)

    return report


def _print(summary: "Summary", *, raters: int) -> None:
    def shown(found: "Estimate | None") -> str:
        if found is None or not found.count:
            return ""
        return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"

    print_table(
        tuple(name.replace("_", " ") for name in _COLUMNS.split()),
        [
            (
                each.kind,
                each.system,
                str(each.items),
                str(each.answers),
                str(each.cannot_tell),
                shown(each.relevance),
                str(each.relevant),
                *(
                    "" if each.kind == "image" else str(number)
                    for number in (each.correct, each.mislabelled, each.misleading)
                ),
                shown(each.as_real),
            )
            for each in summary.scores
        ],
    )
    for name, value in summary.agreement.items():
        if value is not None:
            note(f"agreement on {name} (Krippendorff's alpha): {value:.2f}")
    if raters < 2 or all(value is None for value in summary.agreement.values()):
        note("agreement: not known; it needs two raters whose answers differ from item to item")
    if summary.gone:
        note(f"{summary.gone} items are left out: their records were deleted")
