"""The options that verbs share, and how their values are read."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mirage.errors import InputError

if TYPE_CHECKING:
    from mirage.client import Client

F = TypeVar("F", bound=Callable[..., Any])

IMAGE_BYTES = 20 * 2**20

json_option = click.option("--json", "as_json", is_flag=True, help="Print the gateway's JSON.")
url_option = click.option("--url", envvar="MIRAGE_URL", metavar="URL", help="Gateway; default http://localhost:8080.")
not_option = click.option(
    "--not",
    "where_not",
    multiple=True,
    metavar="FACET=VALUE",
    help="Leave out records with this label; repeat for more.",
)
by_case_option = click.option("--by-case", is_flag=True, help="List each case once, by its best image.")
where_option = click.option(
    "--where", "-w", multiple=True, metavar="FACET=VALUE", help="Keep records with this label; repeat for more."
)
follow_links_option = click.option(
    "--follow-links", is_flag=True, help="Also read links that lead out of the dataset's folder."
)
collection_option = click.option(
    "--collection", default="", metavar="NAME", help="The collection; the active one if omitted."
)
page_option = click.option(
    "--page",
    "page_token",
    metavar="TOKEN",
    help="The token of an earlier answer, to get its next page; keep all other options.",
)
data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="MIRAGE_DATA",
    metavar="DIR",
    help="Folder of the atlas, logs and state; default ~/.local/share/mirage.",
)
image_path = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def server_options(verb: F) -> F:
    """Adds `--url` and `--json`."""
    return url_option(json_option(verb))


def term_options(verb: F) -> F:
    """Adds the argument TEXT and `--image`, `--id`, `--minus`, `--plus` and `--any-image`: what is asked."""
    for option in (
        click.option("--any-image", is_flag=True, help="Go on also with an image that seems not to be a medical one."),
        click.option("--plus", multiple=True, metavar="T", help="Add a phrase."),
        click.option("--minus", multiple=True, metavar="T", help="Take a phrase away."),
        click.option("--id", "ids", multiple=True, metavar="ID", help="Add a record of the atlas."),
        click.option(
            "--image",
            "images",
            type=image_path,
            multiple=True,
            metavar="FILE",
            help="Add an image: PNG, JPEG, WebP or DICOM.",
        ),
        click.argument("text", required=False),
    ):
        verb = option(verb)
    return verb


def sending_options(*, batch: int, parallel: int) -> Callable[[F], F]:
    """Adds the options that say how a dataset is read and sent, and what is said of it."""

    def add(verb: F) -> F:
        for option in (
            click.option(
                "--parallel",
                type=click.IntRange(1, 8),
                default=parallel,
                show_default=True,
                help="Batches on their way at a time.",
            ),
            click.option(
                "--batch", type=click.IntRange(1, 64), default=batch, show_default=True, help="Records sent at once."
            ),
            click.option(
                "--report",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Write every refused row here, as JSON lines in the order of the rows.",
            ),
            click.option("--limit", type=click.IntRange(1), metavar="N", help="Read only the first N rows."),
            click.option(
                "--duplicates",
                type=click.Choice(["skip", "keep"]),
                default="skip",
                show_default=True,
                help="What to do with an image that another record shows: refuse it, or store it too.",
            ),
            click.option("--allow-refused", is_flag=True, help="Exit with 0 if some rows were refused, but not all."),
            follow_links_option,
            click.option(
                "--activate", is_flag=True, help="Make the --into collection the active one once it is filled."
            ),
        ):
            verb = option(verb)
        return verb

    return add


def query_options(verb: F) -> F:
    """Adds `-k`, `--where`, `--min-score` and `--vectors`."""
    for option in (
        click.option(
            "--vectors",
            type=click.Choice(["image", "caption", "fused"]),
            help="Search by likeness alone: to the images' vectors, the captions', or both rankings fused.",
        ),
        click.option("--min-score", type=float, metavar="S", help="Leave out results with a cosine below S (-1 to 1)."),
        where_option,
        click.option("-k", type=int, default=10, show_default=True, metavar="K", help="How many results, 1 to 100."),
    ):
        verb = option(verb)
    return verb


def parse_where(pairs: Iterable[str], option: str = "--where") -> dict[str, tuple[str, ...]]:
    """`plane=axial` pairs as a filter: values of one facet are alternatives. Raises click.BadParameter."""
    where: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        facet, equals, value = pair.partition("=")
        if not (facet.strip() and equals and value.strip()):
            raise click.BadParameter(f"{pair!r} is not FACET=VALUE, such as plane=axial", param_hint=option)
        where[facet.strip()] = (*where.get(facet.strip(), ()), value.strip())
    return where


def read_image(path: Path) -> bytes:
    """Reads an image file to send. Raises InputError if it is too large or cannot be read."""
    try:
        if path.stat().st_size > IMAGE_BYTES:
            raise InputError(f"{path} has more than {IMAGE_BYTES // 2**20} MB, the most that the server takes")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read") from error


def open_client(url: str | None) -> "Client":
    """A client of the gateway that the options name."""
    # Imported here: `mirage --help` must not wait for an HTTP library.
    from mirage.client import Client

    return Client(url)
