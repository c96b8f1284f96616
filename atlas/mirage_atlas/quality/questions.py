"""Measures answers to questions of a file, and to images of a dataset: what is called good, and what is right.

A line of the file is a question that the collection answers, with the terms that name the answer in a record's text after "=":

    # comment
    broken hip = hip fracture | fracture of the hip
    sarcoidosis
    ! gallium scan of the parotid

Without terms the question names its own answer. "!" marks a question that the collection does not answer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mirage.errors import InputError
from mirage.queries import Query, SearchMode, Term
from mirage_atlas.quality.measures import Estimate, share

FIRST = 5
# Labels that the first result must share with an image.
LABELS = ("modality", "body_part")
Report = Callable[[int, int], None]


class SearchClient(Protocol):
    """The part of a client that is used here."""

    def search(self, query: Query) -> Any:
        """The reply to a query."""


@dataclass(frozen=True)
class Question:
    """A question, the terms that name its answer, and whether the collection answers it."""

    text: str
    terms: tuple[str, ...] = ()
    held: bool = True


@dataclass(frozen=True)
class Answer:
    """The server's verdict on a question, how many of the first five results name it, and their ids."""

    text: str
    held: bool
    match: str
    naming: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class Figures:
    """The answers in figures: results that name it among all places, and the questions called good."""

    naming: Estimate
    held_good: Estimate
    false_good: Estimate
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Uploaded:
    """An image that was searched: the verdict, its labels and the first result's, and those that differ."""

    id: str
    match: str
    first: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class UploadFigures:
    """Images called good, and those called good whose first result has another modality or body part."""

    good: Estimate
    wrong_good: Estimate
    answers: tuple[Uploaded, ...]


def read_questions(path: Path) -> list[Question]:
    """The questions of a file; raises InputError, naming the line, for a line that is not a question."""
    found: list[Question] = []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        text, _, terms = line.removeprefix("!").partition("=")
        names = tuple(filter(None, (term.strip() for term in terms.split("|"))))
        held = not line.startswith("!")
        if not text.strip() or (names and not held):
            raise InputError(f"{path}, line {number}: not QUESTION, QUESTION = TERM | TERM, or ! QUESTION")
        found.append(Question(text.strip(), names or (text.strip(),), held))
    if not found:
        raise InputError(f"{path} has no question")
    return found


def ask(
    client: SearchClient,
    questions: Sequence[Question],
    *,
    collection: str = "",
    mode: SearchMode = "hybrid",
    report: Report,
) -> Figures:
    """Searches each question."""
    answers = []
    for done, question in enumerate(questions, 1):
        reply = client.search(Query((Term(text=question.text),), k=FIRST, mode=mode, collection=collection))
        naming = sum(names(result, question.terms) for result in reply.results)
        ids = tuple(result.id for result in reply.results)
        answers.append(Answer(question.text, question.held, reply.match or "not judged", naming, ids))
        report(done, len(questions))
    held = [each for each in answers if each.held]
    absent = [each for each in answers if not each.held]
    return Figures(
        share(sum(each.naming for each in held), FIRST * len(held)),
        share(sum(each.match == "good" for each in held), len(held)),
        share(sum(each.match == "good" for each in absent), len(absent)),
        tuple(answers),
    )


def names(result: Any, terms: Sequence[str]) -> bool:
    """True if a result's text has one of the terms, each at the beginning of a word; the history does not count."""
    text = " ".join((result.title, *result.keywords, result.caption, result.findings, result.impression))
    return any(re.search(rf"(?<!\w){re.escape(term)}", text, re.IGNORECASE) for term in terms)


def upload(
    client: SearchClient,
    images: Sequence[tuple[str, Mapping[str, Sequence[str]], Callable[[], bytes]]],
    *,
    collection: str = "",
    report: Report,
) -> UploadFigures:
    """Searches images, each with its id, its labels, and what reads its file; compares the first result's labels."""
    answers = []
    for done, (id_, labels, read) in enumerate(images, 1):
        query = Query((Term(image=read()),), k=1, collection=collection, accept_any_image=True)
        reply = client.search(query)
        result = reply.results[0] if reply.results else None
        others: Mapping[str, Sequence[str]] = result.labels if result else {}
        wrong = tuple(name for name in LABELS if labels.get(name) and not set(labels[name]) & set(others.get(name, ())))
        answers.append(Uploaded(id_, reply.match or "not judged", result.id if result else "", wrong))
        report(done, len(images))
    good = [each for each in answers if each.match == "good"]
    wrong_good = sum(bool(each.wrong) for each in good)
    return UploadFigures(share(len(good), len(answers)), share(wrong_good, len(answers)), tuple(answers))
