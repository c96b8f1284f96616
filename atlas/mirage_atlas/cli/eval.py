"""`mirage eval`: measures the atlas' answers, next to chance."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from mirage.cli.options import follow_links_option, open_client, parse_where, server_options, where_option
from mirage.cli.output import note, print_json, print_table
from mirage.errors import InputError
from mirage_atlas.cli.indexing import open_dataset


@click.group("eval", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Measure how well a dataset's captions find its images, and how well its images are read."""


@command.command("retrieval")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Ask for N captions, drawn at random (always the same)."
)
@follow_links_option
@where_option
@server_options
def retrieval(
    path: Path,
    reader: str | None,
    limit: int | None,
    follow_links: bool,
    where: tuple[str, ...],
    url: str | None,
    as_json: bool,
) -> None:
    """Search for every caption of the dataset at PATH, which must be indexed, and measure the ranks of its images.

    An image counts as found for its own caption and for those of the same case. Each figure is given with chance.
    """
    from mirage.evaluation import evaluate, item_of
    from mirage.indexing import stored_ids

    dataset = open_dataset(path, reader, follow_links=follow_links)
    with open_client(url) as client:
        records: list[Any] = [row for row in dataset.rows if hasattr(row, "read_image")]
        ids = stored_ids(client, records)
        items = [
            item_of(stored or row.id, row.caption, row.original_labels)
            for stored, row in zip(ids, records, strict=True)
        ]
        facets = parse_where(where)
        if facets:
            items = [
                item
                for item, row in zip(items, records, strict=True)
                if all(set(values) & set(row.labels.get(facet, ())) for facet, values in facets.items())
            ]
        if not items:
            raise InputError(f"{path} holds no record to ask for")
        there = frozenset(filter(None, ids))
        present = sum(item.id in there for item in items)
        if present < len(items):
            note(f"{len(items) - present:,} of {len(items):,} records are not in the atlas; they cannot be found")
        gallery = len(items) if facets else client.collection().records
        result = evaluate(client, items, gallery=gallery, limit=limit, where=facets)
    if as_json:
        print_json({**dataclasses.asdict(result), "indexed": present})
        return
    rows = [
        (f"recall@{k}", f"{each.value:.3f}", f"{each.low:.3f} to {each.high:.3f}", f"{each.chance:.3f}")
        for k, each in result.recall.items()
    ]
    mrr = result.mrr
    rows.append(("mean reciprocal rank", f"{mrr.value:.3f}", f"{mrr.low:.3f} to {mrr.high:.3f}", f"{mrr.chance:.3f}"))
    print_table(("measure", "value", "95 % interval", "chance"), rows)
    median = str(result.median_rank) if result.median_rank else f"beyond {result.depth}"
    note(f"{result.queries:,} captions, {result.gallery:,} images, median rank {median}")


@command.command("read")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--reader", metavar="NAME", help="Format of the dataset; found by what is at PATH if omitted.")
@click.option("--split", metavar="NAME", help="Read only the images of this split, such as dev.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Read N images, drawn at random (always the same).")
@click.option("--collection", default="", metavar="NAME", help="Take the evidence from this collection.")
@follow_links_option
@server_options
def read(
    path: Path,
    reader: str | None,
    split: str | None,
    limit: int | None,
    collection: str,
    follow_links: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Read every image of the dataset at PATH and measure the labels: precision, recall and AUROC, with intervals.

    Images that the atlas has are read without their own case as evidence. Labels that fewer than ten images have are not
    measured. A label whose AUROC may be chance is marked.
    """
    from mirage.indexing import stored_ids
    from mirage.reading_evaluation import HeldOut, evaluate_readings

    dataset = open_dataset(path, reader, follow_links=follow_links)
    with open_client(url) as client:
        rows: list[Any] = [row for row in dataset.rows if hasattr(row, "read_image")]
        records = [row for row in rows if split in (None, row.original_labels.get("split"))]
        if not records:
            raise InputError(f"{path} holds no image to read")
        ids = stored_ids(client, records)
        items = [
            HeldOut(row.case_id or row.id, row.labels, row.read_image, stored)
            for stored, row in zip(ids, records, strict=True)
        ]
        result = evaluate_readings(client, items, limit=limit, collection=collection)
    if as_json:
        print_json(dataclasses.asdict(result))
        return
    print_table(
        ("label", "images", "named", "precision", "recall", "AUROC", "beyond chance"),
        [
            (
                name,
                str(each.images),
                str(each.named),
                *(f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in (each.precision, each.recall)),
                f"{each.auroc.value:.2f} ({each.auroc.low:.2f} to {each.auroc.high:.2f})",
                "yes" if each.beyond_chance else "no",
            )
            for name, each in result.labels.items()
        ],
    )
    first = result.first
    note(f"{result.images:,} images read, {result.declined:,} declined")
    note(
        f"label among the first three: {first.value:.3f} ({first.low:.3f} to {first.high:.3f}); the three most frequent "
        f"would be {first.chance:.3f}"
    )
    if result.kind is not None:
        note(f"kind right: {result.kind.value:.3f} ({result.kind.low:.3f} to {result.kind.high:.3f})")
