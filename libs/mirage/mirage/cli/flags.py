"""`mirage flags`: what readers marked as wrong."""

import click

from mirage.cli.options import collection_option, open_client, server_options
from mirage.cli.output import note, print_json, print_table

REASONS = ("wrong-caption", "wrong-image", "licence", "privacy", "description", "other")


@click.group("flags", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List the marks that readers made, or make one."""


@command.command("list")
@click.option("--id", "record_id", default="", metavar="ID", help="Of this record only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many, newest first.")
@server_options
def list_(record_id: str, limit: int, url: str | None, as_json: bool) -> None:
    """List the marks, newest first."""
    with open_client(url) as client:
        found = client.flags(record_id=record_id, limit=limit)
    if as_json:
        print_json({"flags": [each.raw for each in found]})
    elif found:
        rows = [(each.create_time, each.record_id, each.reason, each.comment) for each in found]
        print_table(("when", "record", "reason", "comment"), rows)
    else:
        note("no record is marked")


@command.command("add")
@click.argument("record_id", metavar="ID")
@click.argument("reason", type=click.Choice(REASONS))
@click.option("--comment", default="", help="What is wrong, in at most 1,000 characters.")
@collection_option
@server_options
def add(record_id: str, reason: str, comment: str, collection: str, url: str | None, as_json: bool) -> None:
    """Mark the record ID as wrong in some way."""
    with open_client(url) as client:
        flag = client.flag(record_id, reason, comment=comment, collection=collection)
    if as_json:
        print_json(flag.raw)
    else:
        click.echo(f"{flag.record_id} is marked: {flag.reason}")
