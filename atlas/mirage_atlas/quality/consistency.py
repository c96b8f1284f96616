"""Consistency: whether things that are alike have vectors that are alike, and others have not."""

import random
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mirage.client import Client
from mirage.errors import ApiError
from mirage.queries import Query, Term
from mirage_atlas.quality.gallery import Gallery, Report
from mirage_atlas.quality.generation import generate, generates
from mirage_atlas.quality.measures import SEED, auroc, estimate, histogram, threshold_accuracy
from mirage_atlas.quality.report import Findings

Floats = npt.NDArray[np.float64]
Pairs = Sequence[tuple[int, int]]
# Names that mean the same, for paraphrases.
_NAMES = (
    ("CT", "computed tomography"),
    ("MRI", "magnetic resonance imaging"),
    ("MR", "magnetic resonance"),
    ("X-ray", "radiograph"),
    ("ultrasound", "sonography"),
    ("axial", "transverse"),
    ("kidney", "renal"),
    ("shows", "demonstrates"),
    ("with contrast", "contrast-enhanced"),
    ("image", "picture"),
    ("section", "slice"),
)
_PARAPHRASES = 120
# A description takes about a second, an image up to half a minute.
_MADE = 24
_TEXT_CHARS = 2_000
_PAIRS_MIN = 20
_TRIES = 20
_REST_CHARS = 10


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Measures the cosines of similar and of dissimilar pairs, at most `limit` of each kind, drawn by seed."""
    findings = Findings("consistency")
    drawn = random.Random(SEED)
    rows = list(range(len(gallery.records)))
    drawn.shuffle(rows)
    others, unlike = _others(gallery, rows, drawn, all), "neither modality nor part of the body"
    if len(others) < _PAIRS_MIN:
        others, unlike = _others(gallery, rows, drawn, any), "not both modality and part of the body"
    others = others[:limit]
    captions, images = gallery.captions.astype(np.float64), gallery.images.astype(np.float64)
    own = [(row, row) for row in rows[:limit]]
    texts_of = [record.caption for record in gallery.records]
    one_case = _of_one_case(gallery, rows, lambda one, other: texts_of[one] != texts_of[other])
    neighbours = _of_one_case(gallery, rows, lambda one, other: one != other)
    of_captions, of_images = (_cosines(others, each, each) for each in (captions, images))
    mixed = _cosines(others, images, captions)
    _compare(findings, "image and its caption", _cosines(own, images, captions), mixed)
    _compare(findings, "captions of one case", _cosines(one_case[:limit], captions, captions), of_captions)
    _compare(findings, "images of one case", _cosines(neighbours[:limit], images, images), of_images)
    texts = [(texts_of[row], text) for row in rows if (text := paraphrase(texts_of[row])) != texts_of[row]]
    texts = texts[: min(limit, _PARAPHRASES)]
    paraphrased = []
    for done, (caption, text) in enumerate(texts, 1):
        paraphrased.append(text_cosine(client, caption[:_TEXT_CHARS], text[:_TEXT_CHARS], collection))
        report(done, len(texts))
    _compare(findings, "caption and its paraphrase", np.array(paraphrased), of_captions)
    made = others[: min(limit, _MADE)]
    _compare(findings, "caption and its description", *_described(client, gallery, made, collection, report))
    _compare(findings, "generated image and its caption", *_generated(client, gallery, made, report))
    findings.notes += [
        f"Each is compared with pairs of records that have {unlike} in common.",
        "Paraphrases are made by rules: other names for the same, and the parts of a sentence in another order.",
        f"At most {_MADE} descriptions are written and as many images generated. Descriptions that only quote are left out.",
        "The server does not say which records its model was trained on: the pairs may be among them.",
    ]
    return findings


def paraphrase(caption: str) -> str:
    """The caption in other words, by rules; the caption itself if none applies."""
    text = caption
    for one, other in _NAMES:
        for given, taken in ((one, other), (other, one)):
            text, count = re.subn(rf"\b{re.escape(given)}\b", taken, text, flags=re.IGNORECASE)
            if count:
                break
    first, comma, rest = text.rstrip(". ").partition(", ")
    return f"{rest}: {first}" if comma and len(rest) > _REST_CHARS else text


def text_cosine(client: Client, one: str, other: str, collection: str = "") -> float:
    """The cosine of two texts' vectors, as the shift of a comparison with `one - one + other`."""
    return client.compare(one, minus=one, plus=other, like=Query((), k=1, collection=collection)).shift


def _described(
    client: Client, gallery: Gallery, pairs: Pairs, collection: str, report: Report
) -> tuple[Floats, Floats]:
    """Cosines of what the language model writes about the first record of a pair with its caption, and with the second's."""
    own, other = [], []
    for done, pair in enumerate(pairs, 1):
        caption, foreign = (gallery.records[row].caption[:_TEXT_CHARS] for row in pair)
        try:
            found = client.description(Query((Term(id=gallery.records[pair[0]].id),), collection=collection))
        except ApiError:
            # No language model, or captions of another kind than it has learnt.
            continue
        text = " ".join(each.text for each in found.sentences if each.kind != "extract")[:_TEXT_CHARS]
        if text:
            own.append(text_cosine(client, caption, text, collection))
            other.append(text_cosine(client, foreign, text, collection))
        report(done, len(pairs))
    return np.array(own), np.array(other)


def _generated(client: Client, gallery: Gallery, pairs: Pairs, report: Report) -> tuple[Floats, Floats]:
    """Cosines of an image of the first record's caption with this caption, and with the second's."""
    if not generates(client):
        return np.empty(0), np.empty(0)
    made, _ = generate(client, gallery, [one for one, _ in pairs], report)
    second = dict(pairs)
    captions = gallery.captions.astype(np.float64)
    found = list(zip(made.rows, made.vectors, strict=True))
    return np.array([each @ captions[row] for row, each in found]), np.array(
        [each @ captions[second[row]] for row, each in found]
    )


def _cosines(pairs: Pairs, left: Floats, right: Floats) -> Floats:
    return np.array([left[one] @ right[other] for one, other in pairs])


def _of_one_case(gallery: Gallery, rows: Sequence[int], fits: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """For each record that has one: another of its case that fits."""
    pairs = []
    for row in rows:
        alike = (int(each) for each in gallery.right(row) if gallery.cases[each] == gallery.cases[row])
        other = next((each for each in alike if fits(row, each)), None)
        if other is not None:
            pairs.append((row, other))
    return pairs


def _others(
    gallery: Gallery, rows: Sequence[int], drawn: random.Random, much: Callable[[Iterable[bool]], bool]
) -> list[tuple[int, int]]:
    """Pairs of records of different cases that differ in modality and part of the body: in `all` that both have, or `any`."""
    pairs = []
    for row in rows:
        for other in drawn.choices(range(len(gallery.records)), k=_TRIES):
            if gallery.cases[other] != gallery.cases[row] and _differ(gallery, row, other, much):
                pairs.append((row, other))
                break
    return pairs


def _differ(gallery: Gallery, one: int, other: int, much: Callable[[Iterable[bool]], bool]) -> bool:
    both = [
        (set(gallery.records[one].labels.get(facet, ())), set(gallery.records[other].labels.get(facet, ())))
        for facet in ("modality", "body_part")
    ]
    known = [(left, right) for left, right in both if left and right]
    return bool(known) and much(not left & right for left, right in known)


def _compare(findings: Findings, group: str, similar: Floats, dissimilar: Floats) -> None:
    if min(len(similar), len(dissimilar)) < _PAIRS_MIN:
        findings.notes.append(f"Not measured: {group}. There are fewer than {_PAIRS_MIN} pairs to compare.")
        return
    for kind, values in (("similar pairs", similar), ("dissimilar pairs", dissimilar)):
        findings.add("mean cosine", estimate(values), group=f"{group}: {kind}")
        findings.add_series("distribution of cosines", f"{group}: {kind}", *histogram(values))
    count = len(similar) + len(dissimilar)
    findings.add_number("AUROC", auroc(similar, dissimilar), group=group, count=count)
    at, right = threshold_accuracy(similar, dissimilar)
    findings.add("accuracy of the best threshold", right, group=group, chance=0.5)
    findings.add_number("best threshold", at, group=group, count=count, unit="cosine")
