"""Prompts with answers that this project composes: those of `train`, and about the demonstration's other records."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mirage_atlas.demo.captions import choose
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.captions import other_caption
from mirage_training.mini_lm.explanations import APART, QUESTIONS, Example
from mirage_training.mini_lm.heldout import training_examples
from mirage_training.mini_lm.roco import composed
from mirage_training.mini_lm.volumes import volume_caption


def volume_examples(rng: np.random.Generator) -> Iterator[Example]:
    """Prompts about the demonstration's other records, mostly labelled volumes; without end."""
    while True:
        captions = [
            volume_caption(rng) if rng.random() < 0.85 else other_caption(rng).caption
            for _ in range(int(rng.choice((1, 2, 3, 3, 3))))
        ]
        words = captions[0].split()
        start = int(rng.integers(len(words)))
        query = "" if rng.random() < 0.5 else " ".join(words[start : start + int(rng.integers(1, 6))]).strip(".,;:()")
        query = choose(rng, QUESTIONS).format(query) if query and rng.random() < 0.3 else query
        if made := composed(query, captions):
            yield made


def exercises(rng: np.random.Generator) -> Iterator[Example]:
    """The exercises of `train`, without facts, which the service adds itself; without end."""
    known = facts.sentences()
    for made in training_examples(rng, APART):
        query = "" if rng.random() < 0.3 else made.query
        kept = tuple(each for each in made.sentences if each not in known)
        if not query:
            kept = tuple(each for each in kept if " not name " not in each and "None of the captions" not in each)
        yield Example(query, made.seen, kept)
