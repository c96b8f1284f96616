"""`mirage index`: brings a dataset into the atlas."""

from pathlib import Path

import click

from mirage.cli.options import open_client, sending_options, server_options
from mirage_atlas.cli.indexing import Sending, index, open_dataset, with_rows


@click.command("index")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Ask the atlas first and send only what it lacks."
)
@click.option(
    "--into", default="", metavar="NAME", help="Collection to fill, instead of the active one; created if missing."
)
@sending_options(batch=32, parallel=2)
@server_options
def command(
    path: Path,
    reader: str | None,
    resume: bool,
    into: str,
    activate: bool,
    duplicates: str,
    allow_refused: bool,
    follow_links: bool,
    limit: int | None,
    report: Path | None,
    batch: int,
    parallel: int,
    url: str | None,
    as_json: bool,
) -> int:
    """Read the dataset at PATH, encode it and store it in the atlas.

    Every row ends as created, updated, unchanged or refused. A refused one is listed with its file, line and reason and does not
    stop the others; the exit code is then 1. After an interruption run it again: what is stored is not sent twice. With --into,
    searches go on in the active collection until --activate, or `mirage collections activate NAME`, turns them to the new one.
    """
    from mirage.indexing_plan import Plan

    if activate and not into:
        raise click.UsageError("--activate needs --into NAME.")
    dataset = open_dataset(path, reader, limit=limit, follow_links=follow_links)
    sending = Sending(batch, parallel, report, allow_refused, as_json)
    plan = Plan(collection=into, resume=resume, skip_duplicates=duplicates == "skip")
    with open_client(url) as client:
        dataset = with_rows(client, dataset)
        if into and into not in {each.name for each in client.collections()}:
            client.create_collection(into)
        return index(client, dataset, plan, sending, activate=activate)
