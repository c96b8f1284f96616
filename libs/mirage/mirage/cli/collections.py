"""`mirage collections`: atlases side by side, of which searches see one."""

import click

from mirage.cli.options import open_client, server_options
from mirage.cli.output import print_json, print_table


@click.group("collections", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, make, activate and delete collections. Searches run on the active one."""


@command.command("list")
@server_options
def list_(url: str | None, as_json: bool) -> None:
    """List the collections."""
    with open_client(url) as client:
        found = client.collections()
    if as_json:
        print_json({"collections": [each.raw for each in found]})
        return
    print_table(
        ("name", "", "records", "indexed", "dimension", "model"),
        [
            (
                each.name,
                "active" if each.active else "",
                f"{each.records:,}",
                f"{each.indexed:,}",
                str(each.dimension),
                each.fingerprint[:12],
            )
            for each in found
        ],
    )


@command.command("create")
@click.argument("name")
@click.option(
    "--dimension", type=click.IntRange(1), default=None, help="Length of the vectors; the encoder's by default."
)
@click.option(
    "--fingerprint", default="", help="Name of the model that the vectors come from; the encoder's by default."
)
@server_options
def create(name: str, dimension: int | None, fingerprint: str, url: str | None, as_json: bool) -> None:
    """Make an empty collection NAME next to the active one."""
    with open_client(url) as client:
        made = client.create_collection(name, dimension=dimension or 0, fingerprint=fingerprint)
    if as_json:
        print_json(made.raw)
    else:
        click.echo(f"{made.name} is there, empty; fill it with `mirage index PATH --into {made.name}`")


@command.command("activate")
@click.argument("name")
@server_options
def activate(name: str, url: str | None, as_json: bool) -> None:
    """Turn all searches to the collection NAME. None fails meanwhile."""
    with open_client(url) as client:
        previous = client.activate_collection(name)
    if as_json:
        print_json({"active": name, "previous": previous})
    else:
        click.echo(f"searches run on {name} now; before on {previous}")


@command.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options
def delete(name: str, yes: bool, url: str | None, as_json: bool) -> None:
    """Delete the collection NAME with all its records. The active one cannot be deleted."""
    if not yes:
        click.confirm(f"Delete {name} with all its records?", abort=True, err=True)
    with open_client(url) as client:
        records = client.delete_collection(name)
    if as_json:
        print_json({"deleted": name, "records": records})
    else:
        click.echo(f"{name} is gone, with {records:,} records")
