"""Calibration: how often a good, a weak and no match are right."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from mirage.client import Client
from mirage.queries import Query, SearchMode, Term
from mirage_api.search import SearchReply
from mirage_atlas.quality.gallery import Gallery, Report, ask_all
from mirage_atlas.quality.measures import auroc, share
from mirage_atlas.quality.report import Findings
from mirage_atlas.quality.retrieval import sample

_MODES: tuple[tuple[SearchMode, str], ...] = (("hybrid", "hybrid"), ("images", "likeness"))
_VERDICTS = ("good", "weak", "none", "not judged")
_FIRST = 5
_BINS = 10
_BIN_MIN = 5
_WORD_CHARS = 4


@dataclass(frozen=True)
class Answer:
    """A question's answer: whether the collection holds one, the server's verdict, and whether it is right."""

    held: bool
    verdict: str
    right: bool
    best: float | None


def off_topic() -> list[str]:
    """Questions that a medical atlas rarely answers; written for evaluation and used for nothing else."""
    content = resources.files("mirage_atlas.quality").joinpath("off_topic.txt").read_text("utf-8")
    return [line for each in content.splitlines() if (line := each.strip()) and not line.startswith("#")]


def measure(client: Client, gallery: Gallery, *, limit: int, collection: str = "", report: Report) -> Findings:
    """Asks titles (or else captions), of at most `limit` records, and off-topic questions; reads what the server calls them."""
    findings = Findings("calibration")
    held = _held(gallery, limit)
    words = " ".join(f"{each.title} {each.caption} {each.findings}".lower() for each in gallery.records)
    unknown = [
        text
        for text in off_topic()
        if not any(word in words for word in text.lower().split() if len(word) >= _WORD_CHARS)
    ]
    questions = [*held.items(), *((text, frozenset[str]()) for text in unknown)]
    for mode, name in _MODES:

        def reply_to(text: str, mode: SearchMode = mode) -> SearchReply:
            return client.search(Query((Term(text=text),), k=_FIRST, mode=mode, collection=collection))

        replies = ask_all(reply_to, [text for text, _ in questions], report)
        answers = []
        for text, right in questions:
            reply = replies[text]
            hit = any(each.id in right for each in reply.results)
            best = reply.results[0].cosine if reply.results else None
            answers.append(Answer(bool(right), reply.match or "not judged", hit, best))
        _add(findings, name, answers)
        if mode == "images":
            _add_curve(findings, name, answers)
    findings.notes.append(
        f"{len(held)} titles or captions of the collection's own, and {len(unknown)} questions none of whose words it has. "
        "An answer is right if one of the first five has the same title, caption or case."
    )
    return findings


def _held(gallery: Gallery, limit: int) -> dict[str, frozenset[str]]:
    """Questions with the ids that answer them."""
    found = {}
    for row in sample(len(gallery.records), limit):
        record = gallery.records[row]
        right = {gallery.records[int(each)].id for each in gallery.right(row)}
        if record.title:
            right |= {each.id for each in gallery.records if each.title == record.title}
        found[(record.title or record.caption)[:2000]] = frozenset(right)
    return found


def _add(findings: Findings, name: str, answers: Sequence[Answer]) -> None:
    for verdict in _VERDICTS:
        if hits := [each.right for each in answers if each.verdict == verdict]:
            findings.add(
                f"right among the first {_FIRST}", share(sum(hits), len(hits)), group=f"{name}: called {verdict}"
            )
    for held, what in ((True, "asked for what it holds"), (False, "asked for what it does not hold")):
        given = [each.verdict for each in answers if each.held == held]
        for verdict in _VERDICTS:
            if given and (verdict != "not judged" or verdict in given):
                findings.add(f"called {verdict}", share(given.count(verdict), len(given)), group=f"{name}: {what}")


def _add_curve(findings: Findings, name: str, answers: Sequence[Answer]) -> None:
    """The share of right answers in tenths of the questions, by the best result's cosine."""
    scored = sorted((each.best, each.right, each.held) for each in answers if each.best is not None)
    best, right, held = (np.array([each[column] for each in scored]) for column in range(3))
    if not len(scored) or held.all() or not held.any():
        return
    separated = auroc(best[held], best[~held])
    findings.add_number("AUROC of the best cosine", separated, group=name, count=len(scored))
    parts = [part for part in np.array_split(np.arange(len(scored)), _BINS) if len(part) >= _BIN_MIN]
    x, y = (tuple(float(values[part].mean()) for part in parts) for values in (best, right))
    findings.add_series("share of right answers by the best cosine", name, x, y)
