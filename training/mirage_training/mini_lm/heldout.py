"""Combinations that training never sees: a tenth of them, chosen by a hash of what a caption says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from mirage_training.mini_lm.captions import Seen
from mirage_training.mini_lm.explanations import APART, Composition, Example, example

_OF = 10


def combination(seen: Seen) -> str:
    """Returns the combination in a caption: plane, contrast and lesion.

    Or plane, contrast and structure; or kind, plane and part.
    """
    parts: tuple[str, ...]
    if seen.lesion:
        parts = (seen.plane, seen.sequence, seen.lesion.signal, seen.lesion.side, seen.lesion.lobe)
    elif seen.brain:
        parts = (seen.plane, seen.sequence, *seen.structures[:1])
    else:
        parts = (seen.modality, seen.plane, seen.part)
    return "/".join(parts)


def is_held_out(seen: Seen) -> bool:
    """True for a combination that is kept from training."""
    return hashlib.sha256(combination(seen).encode()).digest()[0] % _OF == 0


def training_examples(rng: np.random.Generator, composition: Composition = APART) -> Iterator[Example]:
    """Examples without a held-out combination, without end."""
    while True:
        made = example(rng, composition)
        if not any(map(is_held_out, made.seen)):
            yield made


def heldout_examples(rng: np.random.Generator) -> Iterator[Example]:
    """Examples whose first caption is a held-out combination, without end."""
    while True:
        made = example(rng)
        if is_held_out(made.seen[0]):
            yield made
