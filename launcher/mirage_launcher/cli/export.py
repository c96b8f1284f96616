"""`mirage export site`: the atlas as a folder of files that any web server can show and a browser can search."""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mirage.cli.options import collection_option, open_client, parse_where, server_options, where_option
from mirage.cli.output import note, print_json

if TYPE_CHECKING:
    from mirage_launcher.site.search_data import Report


@click.group("export", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Take the atlas along: as a static site that needs no server."""


@command.command("site")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@where_option
@collection_option
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Take only the N newest records.")
@click.option(
    "--models", default="mini", metavar="DIR", help="The bundle that the server runs, as for `mirage up`; default mini."
)
@click.option("--no-images", is_flag=True, help="Leave out the full images: only thumbnails of at most 256 pixels.")
@click.option(
    "--allow-licence",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="Also take records of this licence, for whose copies you are responsible; repeat for more.",
)
@click.option("--skip-refused", is_flag=True, help="Leave out records whose licence is not known to allow copies.")
@click.option(
    "--assets-url", default="", metavar="URL", help="Address of the folder `model`, if another host serves it."
)
@click.option("--title", default="MIRAGE", show_default=True, help="The name of the site.")
@server_options
def site(
    folder: Path,
    where: tuple[str, ...],
    collection: str,
    limit: int | None,
    models: str,
    no_images: bool,
    allowed: tuple[str, ...],
    skip_refused: bool,
    assets_url: str,
    title: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Write the atlas of a running MIRAGE to DIR as a static site. A second export writes only what changed."""
    from mirage_launcher.bundles import find_bundle
    from mirage_launcher.site.export import ASKED_BYTES, Wanted, export

    wanted = Wanted(
        bundle=find_bundle(models),
        collection=collection,
        where=parse_where(where) or None,
        limit=limit,
        images=not no_images,
        allowed=frozenset(allowed),
        skip=skip_refused,
        assets=assets_url,
        title=title,
    )
    with _progress() as report, open_client(url) as client:
        done = export(client, folder.expanduser().resolve(), wanted, report)
    if as_json:
        print_json({"folder": str(folder), **dataclasses.asdict(done)})
        return
    if done.left_out:
        note(f"{done.left_out:,} records were left out: their licence is not known to allow copies")
    if done.model_bytes > ASKED_BYTES:
        note(
            f"the model has {done.model_bytes / 2**20:,.0f} MB. The page asks a visitor before it downloads so much; "
            "common queries, words and similar images work without it"
        )
    click.echo(
        f"{done.records:,} records in {folder}, {done.bytes / 2**20:,.1f} MB ({done.model_bytes / 2**20:,.1f} MB are the "
        f"model): {done.written:,} files written, {done.kept:,} unchanged, {done.removed:,} removed"
    )
    click.echo(f"try it: python3 -m http.server -d {folder} 8000")


@contextmanager
def _progress() -> "Iterator[Report]":
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
