"""`mirage fetch`: gets a published dataset from its own host."""

import sys
import time
from pathlib import Path

import click

from mirage.cli.output import note, print_json
from mirage.errors import InputError

_SHOW_S = 0.5


@click.command("fetch")
@click.argument("dataset", type=click.Choice(["openi", "rocov2"]))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Fetch the first N images only.")
@click.option(
    "--licence",
    "licences",
    multiple=True,
    metavar="NAME",
    help="Fetch images of this licence only, such as CC-BY or CC-BY-4.0. Repeat it for several.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(dataset: str, folder: Path | None, limit: int | None, licences: tuple[str, ...], as_json: bool) -> None:
    """Fetch DATASET with its licences into FOLDER (the dataset's name if omitted).

    openi: 7,470 chest X-rays with reports of Indiana University (CC BY-NC-ND 4.0), from openi.nlm.nih.gov. rocov2: 79,789
    figures of PubMed Central with captions (a licence for each), from zenodo.org. Nothing else is contacted. After an
    interruption run it again: what is there is kept. Then `mirage index FOLDER`.
    """
    from mirage_atlas.fetching.datasets import Wanted, fetch
    from mirage_atlas.fetching.remote import FetchError

    target = folder or Path(dataset)
    try:
        count = fetch(dataset, target, Wanted(limit, licences), _Progress().show)
    except FetchError as error:
        raise InputError(str(error)) from None
    if as_json:
        print_json({"dataset": dataset, "folder": str(target), "images": count})
    else:
        note(f"{count:,} images are in {target}: mirage index {target}")


class _Progress:
    """A line that is written over, on a terminal only."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._on_terminal = sys.stderr.isatty()

    def show(self, name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not self._on_terminal or (now - self._shown < _SHOW_S and done != total):
            return
        self._shown = now
        text = f"{name}: {done:,}{f' of {total:,}' if total else ''}"
        click.echo(f"\r\x1b[K{text}", err=True, nl=done == total)
