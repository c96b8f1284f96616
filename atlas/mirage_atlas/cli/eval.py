"""`mirage eval`: measures the answers of a collection, next to chance."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mirage.cli.options import follow_links_option, server_options
from mirage.cli.output import note, on_terminal, print_json, print_table
from mirage.errors import InputError
from mirage_atlas.cli import rate
from mirage_atlas.cli.indexing import open_dataset

if TYPE_CHECKING:
    from mirage.client import Client
    from mirage.queries import SearchMode
    from mirage_api.quality import Measured
    from mirage_atlas.quality.gallery import Gallery
    from mirage_atlas.quality.measures import Estimate
    from mirage_atlas.quality.report import Findings

F = TypeVar("F", bound=Callable[..., Any])
_LIMIT = 500
_CALIBRATION_S = 120


def open_client(url: str | None) -> "Client":
    """A client that asks again if the server is busy or restarts for a moment: an evaluation has thousands of calls."""
    from mirage_atlas.quality.gallery import PatientClient

    return PatientClient(url)


@click.group("eval", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Measure how good the answers of a collection are: each figure with its interval and chance."""


command.add_command(rate.command)


def _options(verb: F) -> F:
    for option in (
        click.option(
            "--collection", default="", metavar="NAME", help="Measure this collection instead of the active one."
        ),
        click.option(
            "--limit",
            type=click.IntRange(1),
            default=_LIMIT,
            show_default=True,
            metavar="N",
            help="At most N queries of each kind, drawn by seed: the same each time.",
        ),
        click.option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write the result here as JSON.",
        ),
        click.option(
            "--store", is_flag=True, help="Keep the result with the collection, for the page. Needs the role admin."
        ),
    ):
        verb = option(verb)
    return server_options(verb)


@command.command("retrieval")
@click.argument("path", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@follow_links_option
@_options
def retrieval(path: Path | None, reader: str | None, follow_links: bool, **options: Any) -> None:
    """Measure what captions, titles and images find: recall, ranks, and relevance by labels.

    With PATH, only among the records of the dataset there, which must be indexed.
    """
    _run(("retrieval",), path=path, reader=reader, follow_links=follow_links, **options)


@command.command("consistency")
@_options
def consistency(**options: Any) -> None:
    """Measure whether things that are alike have vectors that are alike."""
    _run(("consistency",), **options)


@command.command("arithmetic")
@_options
def arithmetic(**options: Any) -> None:
    """Measure whether q - minus + plus changes what it should, and nothing else."""
    _run(("arithmetic",), **options)


@command.command("calibration")
@_options
def calibration(**options: Any) -> None:
    """Measure how often a good, a weak and no match are right."""
    _run(("calibration",), **options)


@command.command("generation")
@_options
def generation(**options: Any) -> None:
    """Measure generated images: prompts followed, labels, likeness to real ones; at most 100 of them."""
    _run(("generation",), **options)


@command.command("descriptions")
@_options
def descriptions(**options: Any) -> None:
    """Measure what descriptions show: supported, general, quoted, withheld; at most 60 of them."""
    _run(("descriptions",), **options)


@command.command("speed")
@_options
def speed(**options: Any) -> None:
    """Measure how long each call takes on this machine."""
    _run(("speed",), **options)


@command.command("all")
@_options
def everything(**options: Any) -> None:
    """Measure all of these."""
    _run(("retrieval", "consistency", "arithmetic", "calibration", "generation", "descriptions", "speed"), **options)


@command.command("read")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@click.option("--split", metavar="NAME", help="Read only the images of this split, such as dev.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Read N images, drawn at random (always the same).")
@click.option("--collection", default="", metavar="NAME", help="Take the evidence from this collection.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the result here as JSON."
)
@click.option("--store", is_flag=True, help="Keep the result with the collection, for the page. Needs the role admin.")
@follow_links_option
@server_options
def read(
    path: Path,
    reader: str | None,
    split: str | None,
    limit: int | None,
    collection: str,
    out: Path | None,
    store: bool,
    follow_links: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Read every image of the dataset at PATH and measure the labels: precision, recall and AUROC, with intervals.

    Images that the atlas has are read without their own case as evidence. Labels that fewer than ten images have are not
    measured. A label whose AUROC may be chance is named in a note; with --store, the page does not show it.
    """
    from mirage.indexing import stored_ids
    from mirage_atlas.records import BadRow

    try:
        from mirage_atlas.quality.readings import HeldOut, evaluate_readings, to_findings
    except ModuleNotFoundError as error:
        raise InputError("mirage eval read needs the vocabulary of findings: install mirage-atlas[read]") from error
    dataset = open_dataset(path, reader, follow_links=follow_links)
    with open_client(url) as client:
        rows: list[Any] = list(dataset.rows)
        refused = [row for row in rows if isinstance(row, BadRow)]
        records = [
            row for row in rows if hasattr(row, "read_image") and split in (None, row.original_labels.get("split"))
        ]
        if not records:
            why = f": rows refused: {len(refused)}, the first because: {refused[0].reason}" if refused else ""
            raise InputError(f"{path} holds no image to read{why}")
        ids = stored_ids(client, records)
        items = [
            HeldOut(row.case_id or row.id, row.labels, row.read_image, stored)
            for stored, row in zip(ids, records, strict=True)
        ]
        result = evaluate_readings(client, items, limit=limit, collection=collection, report=_progress("images"))
        held = client.collection(collection)
        parts = [
            _command("read", collection, _LIMIT, path),
            f"--split {split}" if split else "",
            f"--limit {limit}" if limit else "",
        ]
        made = to_findings(result).measured(held.fingerprint, " ".join(filter(None, parts)))
        results = [_keep(client, made, collection, held.name, held.records, store=store, as_json=as_json)]
    _write(results, out, as_json=as_json)


@command.command("questions")
@click.argument("path", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--mode", type=click.Choice(("hybrid", "words", "images", "captions")), default="hybrid", show_default=True
)
@click.option("--collection", default="", metavar="NAME", help="Ask this collection instead of the active one.")
@server_options
def questions(path: Path, mode: "SearchMode", collection: str, url: str | None, as_json: bool) -> None:
    """Ask the questions of FILE, a line each, and measure how many of the first five results name the answer.

    "QUESTION = TERM | TERM" lists what names it, and "! QUESTION" is one that the collection does not answer.
    """
    from mirage_atlas.quality.questions import ask, read_questions

    asked = read_questions(path)
    with open_client(url) as client:
        _wait_for_calibration(client, collection)
        found = ask(client, asked, collection=collection, mode=mode, report=_progress("questions"))
        _print_shares(
            client,
            collection,
            {
                "first five results that name it": found.naming,
                "called good, of those that are held": found.held_good,
                "called good, of those that are not": found.false_good,
            },
            found,
            as_json=as_json,
        )
    if not as_json:
        for each in found.answers:
            if each.held == (each.match != "good"):
                note(f"{'held' if each.held else 'not held'}, called {each.match}: {each.text} ({each.naming} of five)")


@command.command("uploads")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@click.option("--collection", default="", metavar="NAME", help="Search this collection instead of the active one.")
@follow_links_option
@server_options
def uploads(
    path: Path, reader: str | None, collection: str, follow_links: bool, url: str | None, as_json: bool
) -> None:
    """Search with each image of the dataset at PATH, and measure how many are called good.

    An answer is wrong if the first result has another modality or part of the body than the dataset says.
    """
    from mirage_atlas.quality.questions import upload

    dataset = open_dataset(path, reader, follow_links=follow_links)
    rows: list[Any] = [row for row in dataset.rows if hasattr(row, "read_image")]
    if not rows:
        raise InputError(f"{path} holds no image")
    images = [(row.id, row.labels, row.read_image) for row in rows]
    with open_client(url) as client:
        _wait_for_calibration(client, collection)
        found = upload(client, images, collection=collection, report=_progress("images"))
        shares = {"called good": found.good, "called good, first result wrong": found.wrong_good}
        _print_shares(client, collection, shares, found, as_json=as_json)


def _print_shares(
    client: "Client", collection: str, shares: Mapping[str, "Estimate"], found: Any, *, as_json: bool
) -> None:
    """Prints shares with their intervals, and of which collection and model they are."""
    held = client.collection(collection)
    of = {"collection": held.name, "records": held.records, "fingerprint": held.fingerprint}
    if as_json:
        print_json({**of, **dataclasses.asdict(found)})
        return
    rows = [
        (name, f"{each.value:.3f}", f"{each.low:.3f} to {each.high:.3f}", f"{each.count:,}")
        for name, each in shares.items()
        if each.count
    ]
    print_table(("measure", "value", "95 % interval", "over"), rows)
    note(f"{held.name}: {held.records:,} records, model {held.fingerprint[:12]}")


def _run(
    subjects: tuple[str, ...],
    *,
    collection: str,
    limit: int,
    out: Path | None,
    store: bool,
    url: str | None,
    as_json: bool,
    path: Path | None = None,
    reader: str | None = None,
    follow_links: bool = False,
) -> None:
    from mirage_atlas.quality import gallery

    results: list[dict[str, Any]] = []
    with open_client(url) as client:
        only = None if path is None else _indexed(client, path, reader, follow_links=follow_links)
        records = gallery.load(client, collection=collection, only=only, report=_progress("records"))
        _wait_for_calibration(client, collection)
        for subject in subjects:
            found = _measure(subject, client, records, limit, collection)
            made = found.measured(records.fingerprint, _command(subject, collection, limit, path))
            count = len(records.records)
            results.append(_keep(client, made, collection, records.name, count, store=store, as_json=as_json))
    _write(results, out, as_json=as_json)


def _keep(
    client: "Client", made: "Measured", collection: str, name: str, records: int, *, store: bool, as_json: bool
) -> dict[str, Any]:
    """Stores an evaluation if asked to, prints it unless it is printed as JSON later, and returns it as it is written."""
    if store:
        client.store_evaluation(made, collection=collection)
        note(f"{made.subject}: kept with the collection {name}")
    if not as_json:
        _print(made)
    return made.model_dump(mode="json") | {"collection": name, "records": records}


def _write(results: list[dict[str, Any]], out: Path | None, *, as_json: bool) -> None:
    from mirage_atlas.quality import report

    if out is not None:
        report.write(out, results)
        note(f"written to {out}")
    if as_json:
        print_json({"evaluations": results})


def _wait_for_calibration(client: "Client", collection: str) -> None:
    """Waits until the server has calibrated the collection: before that, hybrid searches rank differently."""
    for second in range(_CALIBRATION_S):
        if client.collection(collection).calibration is not None:
            return
        if second == 0:
            note("the collection is being calibrated; that comes first")
        time.sleep(1)
    note("the collection is not calibrated yet: figures of hybrid searches may change")


def _measure(subject: str, client: "Client", records: "Gallery", limit: int, collection: str) -> "Findings":
    from mirage_atlas.quality import arithmetic, calibration, consistency, descriptions, generation, retrieval, speed

    measures: dict[str, Callable[..., Findings]] = {
        "retrieval": retrieval.measure,
        "consistency": consistency.measure,
        "arithmetic": arithmetic.measure,
        "calibration": calibration.measure,
        "generation": generation.measure,
        "descriptions": descriptions.measure,
        "speed": speed.measure,
    }
    return measures[subject](client, records, limit=limit, collection=collection, report=_progress(subject))


def _indexed(client: "Client", path: Path, reader: str | None, *, follow_links: bool) -> Collection[str]:
    """The ids under which the records of a dataset are stored."""
    from mirage.indexing import stored_ids

    dataset = open_dataset(path, reader, follow_links=follow_links)
    rows: list[Any] = [row for row in dataset.rows if hasattr(row, "read_image")]
    ids = [each for each in stored_ids(client, rows) if each]
    if len(ids) < len(rows):
        note(f"{len(rows) - len(ids):,} of {len(rows):,} records are not in the atlas; they are left out")
    return frozenset(ids)


def _command(subject: str, collection: str, limit: int, path: Path | None) -> str:
    parts = [
        "mirage eval",
        subject,
        *(["DATASET"] if path else []),
        *([f"--collection {collection}"] if collection else []),
    ]
    return " ".join([*parts, *([f"--limit {limit}"] if limit != _LIMIT else [])])


def _progress(what: str) -> Callable[[int, int], None]:
    def report(done: int, of: int) -> None:
        if on_terminal():
            click.echo(f"\r{what}: {done:,} of {of:,} ", nl=done == of, err=True)

    return report


def _print(made: "Measured") -> None:
    def shown(value: float | None, unit: str) -> str:
        return "" if value is None else f"{value:.1f} {unit}" if unit in ("ms", "rank") else f"{value:.3f}"

    rows = [
        (
            each.group,
            each.name,
            shown(each.value, each.unit),
            "" if each.low is None or each.high is None else f"{each.low:.3f} to {each.high:.3f}",
            shown(each.chance, ""),
            f"{each.count:,}",
        )
        for each in made.figures
    ]
    print_table(("of", "measure", "value", "95 % interval", "chance", "over"), rows)
    for each in made.notes:
        note(each)
