"""`mirage index`: brings a dataset into the atlas."""

from pathlib import Path

import click

from mirage.cli.indexing import index, open_dataset
from mirage.cli.options import open_client, sending_options, server_options


@click.command("index")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what lies at PATH where not given.")
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Ask the atlas first and send only what it lacks."
)
@click.option(
    "--into", default="", metavar="NAME", help="Collection to fill beside the active one; made where missing."
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
    limit: int | None,
    report: Path | None,
    batch: int,
    parallel: int,
    url: str | None,
    as_json: bool,
) -> None:
    """Read the dataset at PATH, encode it and store it in the atlas.

    A row that cannot be read or that the server refuses is listed with its reason and does not stop the others. After an
    interruption run it again: what is stored is not sent twice. With --into, searches go on in the active collection until
    --activate, or `mirage collections activate NAME`, turns them to the new one.
    """
    from mirage.indexing import Plan

    if activate and not into:
        raise click.UsageError("--activate needs --into NAME.")
    dataset = open_dataset(path, reader, limit=limit)
    plan = Plan(collection=into, resume=resume, skip_duplicates=duplicates == "skip")
    with open_client(url) as client:
        if into and into not in {each.name for each in client.collections()}:
            client.create_collection(into)
        index(client, dataset, plan, batch=batch, parallel=parallel, report=report, as_json=as_json)
        if activate:
            client.activate_collection(into)
