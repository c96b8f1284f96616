"""Measure the check of sentences on the pairs that we wrote: `python -m mirage_training.trust.citations [--wrong]`.

A pair is a sentence and one caption; it counts as found if the caption is cited for the sentence.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np

from mirage_inference.llm.citations import supporting
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.heldout import heldout_examples
from mirage_training.trust.intervals import Share

MEASURED_FROM = 24
CLINICAL_FROM = 75
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


def groups(file: str = "citation_pairs.txt") -> tuple[Group, ...]:
    """Returns the pairs of a file of this project; a sentence that is listed twice keeps its last label."""
    return parse(resources.files("mirage_training.trust").joinpath(file).read_text("utf-8"))


def parse(text: str) -> tuple[Group, ...]:
    """Returns the pairs of a text in the format of `citation_pairs.txt`."""
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


def clinical(*, held_out: bool) -> tuple[Group, ...]:
    """Returns groups in the language of clinical captions: a right sentence and one that is wrong in a word."""
    return tuple(group for group in groups("clinical_pairs.txt") if (group.number >= CLINICAL_FROM) == held_out)


def measure(chosen: Iterable[Group]) -> Measured:
    """The measures on some groups."""
    cited = right = wanted = 0
    marks: dict[bool, list[bool]] = {True: [], False: []}
    wrong: list[str] = []
    for group in chosen:
        for sentence, labels in group.sentences:
            found = set(supporting(sentence, group.captions))
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


def _letters(indices: Iterable[int]) -> str:
    return "".join(LETTERS[index] for index in sorted(indices)) or "-"


def main() -> None:
    """Prints the measures of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrong", action="store_true", help="list what goes wrong")
    parser.add_argument("--pairs", type=Path, nargs="+", default=[], help="files with pairs of your own, measured too")
    arguments = parser.parse_args()
    parts = {
        "tuning": tuning(),
        "held out": held_out(),
        "clinical, tuning": clinical(held_out=False),
        "clinical, held out": clinical(held_out=True),
        **{path.name: parse(path.read_text("utf-8")) for path in arguments.pairs},
    }
    for name, part in parts.items():
        found = measure(part)
        print(
            f"{name}: precision {found.precision}, recall {found.recall}; sentences: supported ones marked so "
            f"{found.supported_right}, unsupported ones {found.unsupported_right}"
        )
        if arguments.wrong:
            print(*found.wrong, sep="\n")
    for kind, share in measure_composed().items():
        print(f"composed explanations, {kind}: supported {share}")


if __name__ == "__main__":
    main()
