"""Generation: whether generated images show what was asked for, and are like real ones without being copies.

An image is generated for the caption of each drawn record; the record's own image is measured in the same way, so that
each figure stands next to that of real images.
"""

import base64
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mirage.client import Client
from mirage.errors import ApiError, InputError
from mirage_api.search import ClassifyReply
from mirage_atlas.quality.gallery import LABELS, Gallery, Report
from mirage_atlas.quality.measures import (
    SEED,
    Floats,
    estimate,
    estimate_distance,
    frechet_distance,
    histogram,
    kernel_distance,
)
from mirage_atlas.quality.rating import generated
from mirage_atlas.quality.report import Findings

GENERATED, REAL = "generated images", "real images of the same captions"
_LIMIT = 100
_LEAST = 20
_PROMPT_CHARS = 2_000
_DECLINED = ("PROMPT_OUTSIDE", "PROMPT_NOT_MEDICAL")


@dataclass(frozen=True, eq=False)
class Images:
    """Images of the captions of `rows` of a gallery: unit vectors, and the best guess of each facet."""

    rows: Sequence[int]
    vectors: Floats
    guesses: Sequence[Mapping[str, str]]


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Generates images of at most `limit` captions (and at most 100: an image may take half a minute), drawn by seed.

    Captions that the generator declines are counted, and others take their places.
    """
    findings = Findings("generation", seeds={"bootstrap and samples": SEED, "first image": SEED})
    if not generates(client):
        findings.notes.append("Not measured: the server has no generator.")
        return findings
    count = min(limit, _LIMIT, len(gallery.records))
    rows = random.Random(SEED).sample(range(len(gallery.records)), len(gallery.records))
    made, failed = generate(client, gallery, rows, report, count=count)
    declined = sum(failed.pop(code, 0) for code in _DECLINED)
    if declined:
        findings.notes.append(
            f"The generator declined {declined} captions, which are about other things than it draws. "
            "The figures are of the others."
        )
    if failed:
        findings.notes.append(f"{failed.total()} of {count} images were not generated: {', '.join(sorted(failed))}.")
    if len(made.rows) < _LEAST:
        findings.notes.append(f"Not measured: there are fewer than {_LEAST} generated images.")
        return findings
    real = _real(client, gallery, made.rows, collection)
    for group, images in ((GENERATED, made), (REAL, real)):
        add_prompts(findings, gallery, images, group)
        add_labels(findings, gallery, images, group)
        add_nearest(findings, gallery, images, group)
    add_distances(findings, gallery, made, real)
    findings.notes += [
        "Prompts are captions of the collection. The server does not say which records its generator was trained on.",
        "The encoder that judges is the collection's own: what it cannot see is not measured.",
        "The label on a generated image is cut off before it is encoded.",
    ]
    return findings


def generates(client: Client) -> bool:
    """True if the server has a generator."""
    return any(each.task == "generate" for each in client.models())


def generate(
    client: Client, gallery: Gallery, rows: Sequence[int], report: Report, *, count: int | None = None
) -> tuple[Images, Counter[str]]:
    """Generates and encodes an image of each caption, or of `count` of those that the generator does not decline.

    Also returns why others have none, and how often.
    """
    wanted = len(rows) if count is None else count
    done: list[int] = []
    replies, failed = [], Counter[str]()
    for number, row in enumerate(rows):
        tried = number - sum(failed[code] for code in _DECLINED)
        if tried >= wanted:
            break
        try:
            image = generated(client, gallery.records[row].caption[:_PROMPT_CHARS], SEED + number)
        except ApiError as error:
            failed[error.code] += 1
        except InputError:
            failed["the job failed"] += 1
        else:
            done.append(row)
            replies.append(client.encode_image(image))
        report(number + 1 - sum(failed[code] for code in _DECLINED), wanted)
    vectors = [np.frombuffer(base64.b64decode(each.vector or ""), "<f4") for each in replies]
    unit = np.array([each / np.linalg.norm(each) for each in vectors], np.float64)
    return Images(done, unit, [_best(each) for each in replies]), failed


def _real(client: Client, gallery: Gallery, rows: Sequence[int], collection: str) -> Images:
    """The records' own images."""
    images = [client.image(gallery.records[row].id, collection=collection).data for row in rows]
    return Images(rows, gallery.images[list(rows)].astype(np.float64), [_best(client.encode_image(x)) for x in images])


def _best(reply: ClassifyReply) -> Mapping[str, str]:
    return {each.facet: each.values[0].value for each in reply.guess.facets if each.values}


def add_prompts(findings: Findings, gallery: Gallery, images: Images, group: str) -> None:
    """Adds how much nearer an image is to its own prompt than to those of other images."""
    cosines = images.vectors @ gallery.captions[list(images.rows)].astype(np.float64).T
    captions = np.array([gallery.records[row].caption for row in images.rows])
    cases = [gallery.cases[row] for row in images.rows]
    own, other = np.diagonal(cosines), captions[:, None] != captions[None, :]
    compared = np.flatnonzero(other.any(axis=1)).tolist()
    if not compared:
        findings.notes.append(f"Not measured: prompt margin of {group}. All captions are the same.")
        return
    margins = np.array([own[each] - cosines[each][other[each]].mean() for each in compared])
    nearer = [float((own[each] > cosines[each][other[each]]).mean()) for each in compared]
    groups = [cases[each] for each in compared]
    findings.add("prompt margin", estimate(margins, groups), group=group, chance=0.0, unit="cosine")
    findings.add("nearer to its own prompt than to another", estimate(nearer, groups), group=group, chance=0.5)
    findings.add_series("distribution of cosines with the prompt", group, *histogram(own))
    for value in gallery.values("body_part"):
        having = gallery.having("body_part", value)
        part = [place for place, each in enumerate(compared) if having[images.rows[each]]]
        if len(part) >= _LEAST:
            of_part = estimate(margins[part], [groups[place] for place in part])
            findings.add("prompt margin", of_part, group=f"body_part {value}: {group}", chance=0.0, unit="cosine")


def add_labels(findings: Findings, gallery: Gallery, images: Images, group: str) -> None:
    """Adds how often the encoder's best guess is a label of the record whose caption was asked for."""
    for facet in LABELS:
        places = [
            place
            for place, row in enumerate(images.rows)
            if gallery.records[row].labels.get(facet) and facet in images.guesses[place]
        ]
        if len(places) < _LEAST:
            findings.notes.append(
                f"Not measured: {facet} of {group}. The encoder does not guess it, or few records have it."
            )
            continue
        labels = [set(gallery.records[images.rows[place]].labels[facet]) for place in places]
        guesses = [images.guesses[place][facet] for place in places]
        right = [float(guess in named) for guess, named in zip(guesses, labels, strict=True)]
        shuffled = float(np.mean([guess in named for guess in guesses for named in labels]))
        cases = [gallery.cases[images.rows[place]] for place in places]
        findings.add("label guessed by the encoder", estimate(right, cases), group=f"{facet}: {group}", chance=shuffled)


def add_nearest(findings: Findings, gallery: Gallery, images: Images, group: str) -> None:
    """Adds how near the nearest real image of another record is, if it has the labels, and how much images differ."""
    cosines = images.vectors @ gallery.images.T.astype(np.float64)
    cosines[np.arange(len(images.rows)), list(images.rows)] = -np.inf
    nearest, cases = cosines.argmax(axis=1), [gallery.cases[row] for row in images.rows]
    findings.add("nearest real image", estimate(cosines.max(axis=1), cases), group=group, unit="cosine")
    for facet in LABELS:
        named = [
            (place, set(gallery.records[row].labels[facet]))
            for place, row in enumerate(images.rows)
            if gallery.records[row].labels.get(facet)
        ]
        if len(named) < _LEAST:
            continue
        right = [bool(each & set(gallery.records[nearest[place]].labels.get(facet, ()))) for place, each in named]
        chances = [np.logical_or.reduce([gallery.having(facet, value) for value in each]).mean() for _, each in named]
        findings.add(
            "nearest real image has the label",
            estimate(np.array(right, np.float64), [cases[place] for place, _ in named]),
            group=f"{facet}: {group}",
            chance=float(np.mean(chances)),
        )
    count = len(images.rows)
    apart = (count - (images.vectors @ images.vectors.T).sum(axis=1)) / (count - 1)
    findings.add("diversity: mean distance of two", estimate(apart, cases), group=group, unit="distance")


def add_distances(findings: Findings, gallery: Gallery, made: Images, real: Images) -> None:
    """Adds the distances of generated images from held-out real ones, with the floor: those of real images."""
    held_out = _held_out(gallery, made.rows)
    if len(held_out) < _LEAST:
        findings.notes.append(f"Not measured: distances. There are fewer than {_LEAST} real images of other captions.")
        return
    others = gallery.images[held_out].astype(np.float64)
    for name, distance in (("Fréchet distance", frechet_distance), ("kernel distance", kernel_distance)):
        for group, images in ((GENERATED, made), (f"floor: {REAL}", real)):
            found = estimate_distance(distance, images.vectors, others)
            findings.add(f"{name} to held-out real images", found, group=group, unit="distance")


def _held_out(gallery: Gallery, rows: Sequence[int]) -> list[int]:
    """As many records whose captions were not asked for: of other cases, if there are enough of these."""
    cases = {gallery.cases[row] for row in rows}
    rest = [row for row in range(len(gallery.records)) if row not in set(rows)]
    foreign = [row for row in rest if gallery.cases[row] not in cases]
    rest = foreign if len(foreign) >= len(rows) else rest
    return sorted(random.Random(SEED).sample(rest, min(len(rows), len(rest))))
