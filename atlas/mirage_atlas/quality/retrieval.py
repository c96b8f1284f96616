"""Retrieval: what captions, titles and images find.

By likeness everything is computed here from the stored vectors, exactly; words and hybrid are asked of the server.
"""

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mirage.client import Client
from mirage.queries import Query, SearchMode, Term
from mirage_atlas.quality.gallery import LABELS, Gallery, Report, ask_all
from mirage_atlas.quality.measures import (
    SEED,
    average_precision,
    chance_of_recall,
    chance_of_reciprocal_rank,
    estimate,
    ndcg,
    share,
)
from mirage_atlas.quality.report import Findings

CUTS = (1, 5, 10)
MODES: tuple[SearchMode, ...] = ("words", "hybrid", "images")
DEPTH = 100
# Figures for single values of a facet need so many queries.
_PART_MIN = 20
_PARTS_MAX = 12
_NOT_FOUND_MAX = 40
_CONFUSED_MAX = 40
_HUBS_MAX = 20
_EMPTY_MAX = 20
# The mean is 10 appearances: a hub appears more than this many times as often.
_HUB = 4
_WORDS_MIN = 3

Rows = npt.NDArray[np.intp]


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Measures recall, ranks and relevance by labels; the captions of at most `limit` records are asked, drawn by seed."""
    findings = Findings("retrieval")
    queries = sample(len(gallery.records), limit)
    captions = rankings(gallery.captions[queries], gallery.images)
    others = rankings(gallery.images[queries], gallery.images)
    others = [rows[rows != row] for rows, row in zip(others, queries, strict=True)]
    _add_ranks(findings, gallery, queries, captions, "text to image, likeness")
    _add_ranks(
        findings, gallery, queries, rankings(gallery.images[queries], gallery.captions), "image to text, likeness"
    )
    _add_ranks(findings, gallery, queries, others, "image to image, likeness", leave_out=True)
    _add_relevance(findings, gallery, queries, captions, "text to image, likeness")
    _add_relevance(findings, gallery, queries, others, "image to image, likeness")
    _add_parts(findings, gallery, queries, captions)
    _add_hard_cases(findings, gallery, queries, captions)
    _add_served(findings, client, gallery, queries, collection, report)
    findings.notes += [
        "A caption is answered by every record of the same caption or case.",
        "By words a caption finds itself, since it is indexed: this is a check. Titles are the measure.",
        "For mAP a record is relevant that has the modality, body part and plane of the query; nDCG counts how many.",
    ]
    return findings


def _add_served(
    findings: Findings, client: Client, gallery: Gallery, queries: Sequence[int], collection: str, report: Report
) -> None:
    """The ranks of what the server answers, to captions and to titles, in each mode."""
    titled = [row for row in queries if gallery.records[row].title]
    if not titled:
        findings.notes.append("Not measured: titles. The records have none.")
    asked = [("caption", row, gallery.records[row].caption) for row in queries]
    asked += [("title", row, gallery.records[row].title) for row in titled]
    for mode in MODES:

        def rows_of(text: str, mode: SearchMode = mode) -> Rows:
            query = Query((Term(text=text[:2000]),), k=DEPTH, mode=mode, collection=collection)
            ids = [each.id for each in client.search(query).results]
            return np.array([gallery.rows[each] for each in ids if each in gallery.rows], np.intp)

        # Captions and titles repeat; what is the same is asked once.
        rows = ask_all(rows_of, dict.fromkeys(text for _, _, text in asked), report)
        found: dict[str, list[tuple[int, Rows]]] = {}
        for kind, row, text in asked:
            found.setdefault(kind, []).append((row, rows[text]))
        for kind, answers in found.items():
            name = "likeness" if mode == "images" else mode
            _add_ranks(
                findings,
                gallery,
                [row for row, _ in answers],
                [rows for _, rows in answers],
                f"{kind} to image, {name}, served",
            )


def sample(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` rows in ascending order, drawn by seed."""
    return sorted(random.Random(SEED).sample(range(count), min(limit, count)))


def rankings(queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> list[Rows]:
    """For each query all rows of the gallery, the most similar first; ties in order of rows."""
    found: list[Rows] = []
    for start in range(0, len(queries), 256):
        found.extend(np.argsort(-(queries[start : start + 256] @ gallery.T), axis=1, kind="stable"))
    return found


def _add_ranks(
    findings: Findings,
    gallery: Gallery,
    asked: Sequence[int],
    found: Sequence[Rows],
    group: str,
    *,
    leave_out: bool = False,
) -> None:
    """Recall, mean reciprocal rank and median rank. `leave_out`: the query's own record is not searched."""
    size = len(gallery.records) - leave_out
    ranks, rights, cases = [], [], []
    for row, rows in zip(asked, found, strict=True):
        right = gallery.right(row)
        right = right[right != row] if leave_out else right
        if not len(right):
            continue
        places = np.flatnonzero(np.isin(rows, right))
        ranks.append(int(places[0]) + 1 if len(places) else 0)
        rights.append(len(right))
        cases.append(gallery.cases[row])
    if not ranks:
        findings.notes.append(f"Not measured: {group}. No record has another one of its case or caption.")
        return
    for k in CUTS:
        chance = float(np.mean([chance_of_recall(size, right, k) for right in rights]))
        findings.add(
            f"recall@{k}", estimate([float(0 < rank <= k) for rank in ranks], cases), group=group, chance=chance
        )
    chances = {right: chance_of_reciprocal_rank(size, right, DEPTH) for right in set(rights)}
    reciprocal = [1 / rank if 0 < rank <= DEPTH else 0.0 for rank in ranks]
    findings.add(
        "mean reciprocal rank",
        estimate(reciprocal, cases),
        group=group,
        chance=float(np.mean([chances[each] for each in rights])),
    )
    reached = sorted(rank if rank else size + 1 for rank in ranks)
    findings.add_number("median rank", reached[len(reached) // 2], count=len(ranks), group=group, unit="rank")


def _add_relevance(
    findings: Findings, gallery: Gallery, queries: Sequence[int], ranked: Sequence[Rows], group: str
) -> None:
    """mAP and nDCG@10 by labels, without the query's own record."""
    precisions, gains, shares, cases = [], [], [], []
    for row, rows in zip(queries, ranked, strict=True):
        named = sum(len(gallery.records[row].labels.get(facet, ())) for facet in LABELS)
        if not named:
            continue
        shared = gallery.shared_labels(row)[rows[rows != row]]
        relevant = shared == named
        if relevant.any():
            precisions.append(average_precision(relevant))
            shares.append(float(relevant.mean()))
            gains.append(ndcg(shared, 10))
            cases.append(gallery.cases[row])
    if precisions:
        findings.add("mAP by labels", estimate(precisions, cases), group=group, chance=float(np.mean(shares)))
        findings.add("nDCG@10 by labels", estimate(gains, cases), group=group)


def _add_parts(findings: Findings, gallery: Gallery, queries: Sequence[int], ranked: Sequence[Rows]) -> None:
    """Recall@1 and the first result's label, by value of each facet."""
    size = len(gallery.records)
    first = [int(next((each for each in rows if each != row), row)) for row, rows in zip(queries, ranked, strict=True)]
    for facet in LABELS:
        for value in gallery.values(facet, at_least=_PART_MIN)[:_PARTS_MAX]:
            having = gallery.having(facet, value)
            part = [number for number, row in enumerate(queries) if having[row]]
            if len(part) < _PART_MIN:
                continue
            group = f"{facet} {value}"
            rights = [gallery.right(queries[number]) for number in part]
            hits = [
                float(np.isin(ranked[number][:10], right).any()) for number, right in zip(part, rights, strict=True)
            ]
            chance = float(np.mean([chance_of_recall(size, len(right), 10) for right in rights]))
            cases = [gallery.cases[queries[number]] for number in part]
            findings.add("recall@10", estimate(hits, cases), group=f"{group}: text to image, likeness", chance=chance)
            findings.add(
                "first result has the label",
                estimate([float(having[first[number]]) for number in part], cases),
                group=f"{group}: text to image, likeness",
                chance=float(having.mean()),
            )


def _add_hard_cases(findings: Findings, gallery: Gallery, queries: Sequence[int], ranked: Sequence[Rows]) -> None:
    _add_missed(findings, gallery, queries, ranked)
    _add_confused(findings, gallery, queries, ranked)
    _add_hubs(findings, gallery, queries, ranked)
    for record in [each for each in gallery.records if len(each.caption.split()) < _WORDS_MIN][:_EMPTY_MAX]:
        findings.add_case("no_content", record.id, record.caption)


def _add_missed(findings: Findings, gallery: Gallery, queries: Sequence[int], ranked: Sequence[Rows]) -> None:
    """Captions whose image is far down, with what came instead; the furthest first."""
    missed = []
    for row, rows in zip(queries, ranked, strict=True):
        place = int(np.flatnonzero(np.isin(rows, gallery.right(row)))[0]) + 1
        if place > max(CUTS):
            missed.append((-place, row, rows))
    for place, row, rows in sorted(missed, key=lambda each: each[:2])[:_NOT_FOUND_MAX]:
        record = gallery.records[row]
        instead = tuple(gallery.records[int(each)].id for each in rows[:3])
        findings.add_case("not_found", record.id, record.caption, instead, -place)


def _add_confused(findings: Findings, gallery: Gallery, queries: Sequence[int], ranked: Sequence[Rows]) -> None:
    """Labels that the first result has instead of the query's own, the most frequent first, each with an example."""
    examples: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for row, rows in zip(queries, ranked, strict=True):
        best = int(rows[0])
        for facet in LABELS:
            wanted, got = (gallery.records[each].labels.get(facet, ()) for each in (row, best))
            if len(wanted) == len(got) == 1 and wanted != got:
                examples.setdefault((facet, wanted[0], got[0]), []).append((row, best))
    for (facet, old, new), pairs in sorted(examples.items(), key=lambda each: (-len(each[1]), each[0]))[:_CONFUSED_MAX]:
        one, other = (gallery.records[each].id for each in pairs[0])
        findings.add_case("confused", one, f"{facet}: {old} taken for {new}", (other,), len(pairs))


def _add_hubs(findings: Findings, gallery: Gallery, queries: Sequence[int], ranked: Sequence[Rows]) -> None:
    """Images that are among the first ten of far more captions than usual."""
    appearances = Counter(int(each) for rows in ranked for each in rows[:10])
    usual = 10 * len(queries) / len(gallery.records)
    hubs = [(row, count) for row, count in appearances.most_common() if count > _HUB * max(1.0, usual)]
    for row, count in hubs[:_HUBS_MAX]:
        findings.add_case("hub", gallery.records[row].id, gallery.records[row].caption, count=count)
    taken = sum(count for _, count in hubs)
    findings.add(
        "places among the first ten that hubs take", share(taken, appearances.total()), group="text to image, likeness"
    )
