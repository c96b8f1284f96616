"""`mirage read`: an image, step by step."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mirage.cli.options import image_path, open_client, read_image, server_options
from mirage.cli.output import note, plain, print_json

if TYPE_CHECKING:
    from mirage_api.readings import ReadEvidence, ReadKind, ReadSimilar, ReadStep

_SHOWN = 3
_MARKS = {"supported": "+", "contradicted": "!", "not_judged": "?"}


@click.command("read")
@click.argument("file", type=image_path, required=False)
@click.option("--record", "record_id", default="", metavar="ID", help="Read the image of a record instead of a file.")
@click.option("--text", default="", metavar="T", help="Ask in words instead: label, similar images and context.")
@click.option("--modality", default="", metavar="M", help="Correct the modality, such as x-ray.")
@click.option("--body-part", default="", metavar="P", help="Correct the part of the body, such as chest.")
@click.option("--view", default="", metavar="V", help="Say the plane or projection, such as frontal.")
@click.option("--collection", default="", metavar="NAME", help="Take the evidence from this collection.")
@click.option("--any-image", is_flag=True, help="Go on also with an image that seems not to be a medical one.")
@server_options
def command(
    file: Path | None,
    record_id: str,
    text: str,
    modality: str,
    body_part: str,
    view: str,
    collection: str,
    any_image: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Read the image FILE step by step. For education, not for diagnosis.

    First what kind of image it is and what to look at, then what the nearest cases show, with counts and intervals, a
    sentence for each item of the checklist, a label or "not known", similar images, and general knowledge.

    The image is not stored. Ctrl-C stops the reading.
    """
    if sum(map(bool, (file, record_id, text))) != 1:
        raise click.UsageError("Give one of FILE, --record ID and --text T.")
    kind = {name: value for name, value in (("modality", modality), ("body_part", body_part), ("view", view)) if value}
    with open_client(url) as client:
        events = client.read(
            read_image(file) if file else None,
            record_id=record_id,
            text=text,
            collection=collection,
            kind=kind,
            accept_any_image=any_image,
        )
        if as_json:
            print_json(_whole(events))
        else:
            for event in events:
                _show(event)


def _whole(events: Any) -> dict[str, Any]:
    """All events as one document, by their names; `reading` is a list."""
    from mirage_api.readings import EVENTS, ReadStep

    names = {model: name for name, model in EVENTS.items()}
    found: dict[str, Any] = {}
    for event in events:
        if isinstance(event, ReadStep):
            found.setdefault("reading", []).append(event.raw)
        else:
            found[names[type(event)]] = event.raw
    return found


def _show(event: Any) -> None:
    from mirage_api.readings import (
        ReadChecklist,
        ReadContext,
        ReadDone,
        ReadEvidence,
        ReadKind,
        ReadLabel,
        ReadSimilar,
        ReadStep,
    )

    match event:
        case ReadKind():
            _say("Kind", _kind(event))
        case ReadChecklist():
            _say(f"Look at ({event.title})" if event.title else "Look at", event.notice)
            for number, item in enumerate(event.items, start=1):
                click.echo(plain(f"  {number}. {item.title}: {item.text}"))
        case ReadEvidence():
            _evidence(event)
        case ReadStep():
            click.echo(plain(f"  {_MARKS[event.state]} {_item(event)}: {event.text}"))
        case ReadLabel():
            _say("Label", event.text)
            if event.properties:
                click.echo(plain("  " + ", ".join(f"{each.facet} {each.value}" for each in event.properties)))
        case ReadSimilar():
            _similar(event)
        case ReadContext():
            _say("Context", event.notice)
            for each in event.notes:
                origin = " ".join(filter(None, (each.provider, each.url, each.licence)))
                click.echo(plain(f"  {each.text} [{origin}]"))
        case ReadDone():
            if event.notice:
                note(event.notice)
            click.echo(f"\n{plain(event.disclaimer)}")


def _item(step: "ReadStep") -> str:
    return step.item or ("summary" if step.source == "summary" else "reading")


def _say(head: str, text: str) -> None:
    click.echo(f"{plain(head)}: {plain(text)}".rstrip())


def _kind(kind: "ReadKind") -> str:
    known = []
    for name, each in (("modality", kind.modality), ("part of the body", kind.body_part), ("view", kind.view)):
        if each is not None:
            doubt = "" if each.sure else ", not sure"
            known.append(f"{name} {each.value} ({each.score:.2f}{doubt})")
    return ", ".join(known) or "not known"


def _evidence(evidence: "ReadEvidence") -> None:
    kind = " of this kind" if evidence.where else ""
    _say("Evidence", f"{evidence.cases} nearest cases of {evidence.records:,} records{kind}. {evidence.notice}")
    for facet in evidence.facets:
        for each in facet.values[:_SHOWN]:
            few = "" if each.enough else ", not enough cases"
            often = f", {each.lift:.1f} times as often as usual" if each.prior else ""
            click.echo(
                plain(
                    f"  {facet.facet} {each.value}: {each.cases} cases, {each.share:.0%} "
                    f"({each.low:.0%} to {each.high:.0%}){often}{few}"
                )
            )
    click.echo("Reading:")


def _similar(similar: "ReadSimilar") -> None:
    for head, results in (("Similar", similar.results), ("Look alike, with another finding", similar.look_alikes)):
        if results:
            _say(head, "")
            for each in results:
                click.echo(plain(f"  {each.id}: {each.caption}"))
