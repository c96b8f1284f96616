"""`mirage record`: all that is known about one image, and its end."""

import sys

import click

from mirage.cli.options import collection_option, open_client, server_options
from mirage.cli.output import labels_text, note, print_fields, print_json, print_table
from mirage_api.records import Pixels


class _Record(click.Group):
    """The group; `mirage record ID`, as it was before there were verbs, shows the record."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, with `show` if no verb is given."""
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group("record", cls=_Record, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Show a record, or delete records. `mirage record ID` is short for `mirage record show ID`."""


@command.command("show")
@click.argument("record_id", metavar="ID")
@collection_option
@server_options
def show(record_id: str, collection: str, url: str | None, as_json: bool) -> None:
    """Show record ID: caption, labels, source and licence."""
    with open_client(url) as client:
        record = client.record(record_id, collection=collection)
    if as_json:
        print_json(record.raw)
        return
    print_fields(
        {
            "id": record.id,
            "title": record.title,
            "caption": record.caption,
            "findings": record.findings,
            "impression": record.impression,
            "history": record.history,
            "keywords": "; ".join(record.keywords),
            "case": f"{record.case_id}{f', image {record.position}' if record.position else ''}",
            "labels": labels_text(record.labels),
            "original labels": " ".join(f"{name}={value}" for name, value in record.original_labels.items()),
            "licence": record.licence,
            "source": record.source,
            "attribution": record.attribution,
            "pixels": _pixels_text(record.pixels),
            "regions": "; ".join(each.name for each in record.regions),
            "image sha256": record.image_sha256,
            "original sha256": record.original_sha256,
            "open flags": str(record.flags or ""),
        }
    )


@command.command("case")
@click.argument("case_id", metavar="CASE")
@collection_option
@server_options
def case(case_id: str, collection: str, url: str | None, as_json: bool) -> None:
    """Show the case CASE: its images in their order."""
    with open_client(url) as client:
        found = client.case(case_id, collection=collection)
    if as_json:
        print_json(found.raw)
        return
    print_fields({"case": found.id, "title": found.title, "history": found.history, "images": str(found.images)})
    rows = [(str(each.position or ""), each.id, each.caption, labels_text(each.labels)) for each in found.records]
    print_table(("position", "id", "caption", "labels"), rows)


@command.command("delete")
@click.argument("record_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@collection_option
@server_options
def delete(record_ids: tuple[str, ...], yes: bool, collection: str, url: str | None, as_json: bool) -> int:
    """Delete records with their images. Exit code 1 if one of them was not there."""
    ids = tuple(dict.fromkeys(record_ids))
    if not yes and sys.stdin.isatty():
        what = f"record {ids[0]}" if len(ids) == 1 else f"{len(ids)} records"
        click.confirm(f"Delete {what} with what they show?", abort=True, err=True)
    deleted: list[str] = []
    missing: list[str] = []
    try:
        with open_client(url) as client:
            for record_id in ids:
                (deleted if client.delete(record_id, collection=collection) else missing).append(record_id)
    finally:
        # Also if the server stops before the last one: these are deleted.
        if deleted and not as_json:
            click.echo(f"deleted: {' '.join(deleted)}")
    if as_json:
        print_json({"deleted": deleted, "missing": missing})
    if missing:
        note(f"not there: {' '.join(missing)}")
    return 1 if missing else 0


def _pixels_text(pixels: Pixels | None) -> str:
    if pixels is None:
        return ""
    windows = ", ".join(f"{each.name or 'window'} {each.center:g}/{each.width:g}" for each in pixels.windows)
    scale = f"value = {pixels.slope:g} x stored {pixels.intercept:+g} {pixels.unit}".rstrip()
    return "; ".join(filter(None, (f"{pixels.bits} bits", scale, windows)))
