"""`mirage embeddings`: vectors out of the atlas into a file, and a dataset in with vectors that are there already."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirage.cli.options import open_client, sending_options, server_options
from mirage.cli.output import note, print_json
from mirage.errors import InputError
from mirage_atlas.cli.indexing import Sending, index, open_dataset, with_rows

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage_api.records import StoredRecord

_PAGE = 500


@click.group("embeddings", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Export the atlas' vectors to an .npz (ids, vectors, caption_vectors, fingerprint), or import a dataset with its vectors."""


@command.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--collection", default="", metavar="NAME", help="The collection; the active one if omitted.")
@server_options
def export(file: Path, collection: str, url: str | None, as_json: bool) -> None:
    """Write the vectors of every record to FILE, which appears whole or not at all."""
    from mirage.embeddings import save

    if not file.parent.is_dir():
        raise InputError(f"there is no folder {file.parent}")
    with open_client(url) as client:
        first = client.records(limit=1, collection=collection)
        try:
            count = save(file, _records(client, collection), fingerprint=first.fingerprint)
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror or 'an error of the file system'}") from error
    if as_json:
        print_json({"file": str(file), "records": count, "fingerprint": first.fingerprint})
    else:
        click.echo(f"{count:,} records' vectors in {file}")


def _records(client: "Client", collection: str) -> "Iterator[StoredRecord]":
    token = ""
    while True:
        page = client.records(limit=_PAGE, page_token=token, vectors=True, collection=collection)
        yield from page.records
        token = page.next_page_token
        if not token:
            return


@command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@click.option("--into", default="", metavar="NAME", help="Collection to fill; created for the file's model if missing.")
@click.option("--strict", is_flag=True, help="Refuse a record that FILE has no vector of; otherwise it is encoded.")
@sending_options(batch=64, parallel=3)
@server_options
def import_(
    file: Path,
    path: Path,
    reader: str | None,
    into: str,
    activate: bool,
    strict: bool,
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
    """Store the dataset at PATH with the vectors in FILE, matched by id: nothing that FILE holds is encoded.

    FILE is checked whole before anything is sent: its fingerprint and dimension must be the collection's.
    """
    from mirage.embeddings import Embeddings
    from mirage.indexing_plan import Plan

    if activate and not into:
        raise click.UsageError("--activate needs --into NAME.")
    dataset = open_dataset(path, reader, limit=limit, follow_links=follow_links)
    sending = Sending(batch, parallel, report, allow_refused, as_json)
    with Embeddings(file) as embeddings, open_client(url) as client:
        dataset = with_rows(client, dataset)
        there = {each.name: each for each in client.collections()}
        if into and into not in there:
            there[into] = client.create_collection(
                into, dimension=embeddings.dimension, fingerprint=embeddings.fingerprint
            )
        target = there[into] if into else next(each for each in there.values() if each.active)
        if (target.fingerprint, target.dimension) != (embeddings.fingerprint, embeddings.dimension):
            raise InputError(
                f"{file} was made with the model {embeddings.fingerprint[:12]} ({embeddings.dimension} numbers a vector), the "
                f"collection {target.name} with {target.fingerprint[:12]} ({target.dimension}): use --into NEW"
            )
        if not as_json:
            note(f"{len(embeddings):,} vectors of {embeddings.dimension} numbers in {file}")
        plan = Plan(collection=into, skip_duplicates=duplicates == "skip", vectors=embeddings, strict=strict)
        return index(client, dataset, plan, sending, activate=activate)
