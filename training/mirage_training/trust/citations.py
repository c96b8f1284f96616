"""Measure citations on the pairs that we wrote, and tune their thresholds: `python -m mirage_training.trust.citations
[--tune]`.

A pair is a sentence and one caption; it counts as found if the caption is cited for the sentence.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice

import numpy as np

from mirage_inference.llm.citations import DEFAULT, Thresholds, supporting
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.heldout import heldout_examples
from mirage_training.trust.intervals import Share

MEASURED_FROM = 24
Cosines = Callable[[str, Sequence[str]], Sequence[float] | None]
LETTERS = "ABCD"


@dataclass(frozen=True)
class Group:
    """Captions, and sentences each with the captions (indices) that support it."""

    number: int
    captions: tuple[str, ...]
    sentences: tuple[tuple[str, frozenset[int]], ...]


@dataclass(frozen=True)
class Measured:
    """On pairs: `precision` of what is cited, `recall` of what should be. On sentences: the share that is marked
    rightly.
    """

    precision: Share
    recall: Share
    supported_right: Share
    unsupported_right: Share
    wrong: tuple[str, ...]


def groups() -> tuple[Group, ...]:
    """The pairs of citation_pairs.txt; a sentence that is listed twice keeps its last label."""
    text = resources.files("mirage_training.trust").joinpath("citation_pairs.txt").read_text("utf-8")
    found: list[Group] = []
    for block in text.split("\n== ")[1:]:
        number, *lines = block.strip().splitlines()
        captions = tuple(line[3:] for line in lines if line[1:3] == ": ")
        sentences: dict[str, frozenset[int]] = {}
        for line in lines:
            if line[0] in "+-":
                letters, _, sentence = line[1:].partition(" ")
                sentences[sentence] = frozenset(map(LETTERS.index, letters))
        found.append(Group(int(number), captions, tuple(sentences.items())))
    return tuple(found)


def tuning() -> tuple[Group, ...]:
    """The groups that rules and thresholds are tuned on."""
    return tuple(group for group in groups() if group.number < MEASURED_FROM)


def held_out() -> tuple[Group, ...]:
    """The groups that are only measured."""
    return tuple(group for group in groups() if group.number >= MEASURED_FROM)


def measure(
    chosen: Iterable[Group], thresholds: Thresholds = DEFAULT, cosines: Cosines = lambda _, __: None
) -> Measured:
    """The measures on some groups."""
    cited = right = wanted = 0
    marks: dict[bool, list[bool]] = {True: [], False: []}
    wrong: list[str] = []
    for group in chosen:
        for sentence, labels in group.sentences:
            found = set(supporting(sentence, group.captions, cosines(sentence, group.captions), thresholds=thresholds))
            cited, wanted, right = cited + len(found), wanted + len(labels), right + len(found & labels)
            marks[bool(labels)].append(bool(found) == bool(labels))
            if found != labels:
                wrong.append(f"{group.number}: {sentence} should {_letters(labels)}, is {_letters(found)}")
    return Measured(
        Share(right, cited),
        Share(right, wanted),
        Share(sum(marks[True]), len(marks[True])),
        Share(sum(marks[False]), len(marks[False])),
        tuple(wrong),
    )


def measure_composed(count: int = 400, *, seed: int = 11) -> dict[str, Share]:
    """Returns the shares of sentences in composed explanations that count as supported: claims, textbook facts, and
    absences.

    "claims on other captions" are claims with the captions of another explanation; some of them are true there too.
    """
    made = list(islice(heldout_examples(np.random.default_rng(seed)), count))
    known = facts.sentences()
    marks: dict[str, list[bool]] = {}
    for place, example in enumerate(made):
        captions = [each.caption for each in example.seen]
        others = [each.caption for each in made[(place + 7) % count].seen][: len(captions)]
        for sentence in example.sentences:
            kind = "claims"
            if sentence in known:
                kind = "facts"
            elif sentence.startswith(("None of the captions", "The caption does not")):
                kind = "what is not named"
            marks.setdefault(kind, []).append(bool(supporting(sentence, captions)))
            if kind == "claims" and len(others) == len(captions):
                marks.setdefault("claims on other captions", []).append(bool(supporting(sentence, others)))
    return {kind: Share(sum(supported), len(supported)) for kind, supported in marks.items()}


def tune(cosines: Cosines | None) -> list[tuple[float, Thresholds]]:
    """Thresholds by F1 on the tuning part, best first; of equal ones the strictest."""
    shares = (0.0, 0.1, 0.2, 0.3, 0.5) if cosines else (0.0,)
    grid = itertools.product((0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95), shares)
    scored = []
    for covered, share in grid:
        thresholds = Thresholds(covered, share)
        found = measure(tuning(), thresholds, cosines or (lambda _, __: None))
        precision, recall = found.precision.value, found.recall.value
        scored.append((2 * precision * recall / max(1e-9, precision + recall), thresholds))
    return sorted(scored, key=lambda each: (-each[0], -each[1].covered, each[1].cosine_share))


def _letters(indices: Iterable[int]) -> str:
    return "".join(LETTERS[index] for index in sorted(indices)) or "-"


def main() -> None:
    """Print the measures of both parts.

    With --tune also the best thresholds, without and with the mini CLIP's cosines.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="search thresholds on the tuning part")
    parser.add_argument("--wrong", action="store_true", help="list what goes wrong on the tuning part")
    arguments = parser.parse_args()
    from mirage_training.trust.mini_encoder import cosines

    for name, part in (("tuning", tuning()), ("held out", held_out())):
        for words, given in (("words alone", lambda _, __: None), ("with cosines", cosines)):
            found = measure(part, cosines=given)
            print(
                f"{name}, {words}: precision {found.precision}, recall {found.recall}; sentences: supported ones marked so "
                f"{found.supported_right}, unsupported ones {found.unsupported_right}"
            )
    for kind, share in measure_composed().items():
        print(f"composed explanations, {kind}: supported {share}")
    if arguments.wrong:
        print(*measure(tuning()).wrong, sep="\n")
    if arguments.tune:
        for words, way in (("words alone", None), ("with cosines", cosines)):
            for score, thresholds in tune(way)[:5]:
                print(f"{words}: F1 {score:.3f} {thresholds}")


if __name__ == "__main__":
    main()
