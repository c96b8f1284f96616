"""The facts that an image shows (`modality:ct`), and how true a text is of it.

A text claims some facts, and of a rendering of the template perhaps more (`Claim`). What a source does not say of its images is
not known: such a pair of text and image is left out of the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.sections import SectionSpec
from mirage_training.mini_clip.claims import Claim, Shown, image_table, truth

Facts = frozenset[str]
NOTHING: Facts = frozenset({"kind:other"})
CLOSED = ("kind", "modality", "body")
"""Attributes that are known of every image: another value than those stated is false. Others are false only if `closed`."""


@dataclass(frozen=True)
class Item:
    """One image: who it is from, its facts, and the attributes of which all values are stated (`closed`).

    `spec` is that of a rendering. `caption` is the source's own text, or "".
    """

    key: str
    source: str
    facts: Facts
    closed: Facts = field(default_factory=frozenset)
    spec: SectionSpec | None = None
    caption: str = ""

    def values(self, attribute: str) -> list[str]:
        """Values of one attribute, sorted."""
        return sorted(fact.partition(":")[2] for fact in self.facts if fact.startswith(attribute + ":"))


@dataclass(frozen=True)
class Text:
    """A text: all of `facts` are claimed, and `claim` of a rendering."""

    text: str
    facts: Facts = field(default_factory=frozenset)
    claim: Claim | None = None


def rendering_facts(spec: SectionSpec) -> Facts:
    """Facts of a rendering that other images can share."""
    return frozenset({"modality:mr", "body:brain", "body:head", f"plane:{spec.plane}", f"sequence:{spec.sequence}"})


def truths(texts: list[Text], items: list[Item]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns how true each text is of each item, float32 [texts, items], and whether that is known, bool of the same shape."""
    true = np.ones((len(texts), len(items)), np.float32)
    known = np.ones((len(texts), len(items)), bool)
    columns: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    for text_row, text in enumerate(texts):
        false = np.zeros(len(items), bool)
        unknown = np.zeros(len(items), bool)
        for fact in text.facts:
            if fact not in columns:
                columns[fact] = _column(fact, items)
            false |= columns[fact][0]
            unknown |= columns[fact][1]
        true[text_row] = ~false & ~unknown
        known[text_row] = false | ~unknown
    table = image_table([Shown(spec=item.spec) for item in items])
    rendered = np.array([item.spec is not None for item in items])
    like = np.array([item.spec is None and {"modality:mr", "body:brain"} <= item.facts for item in items])
    cached: dict[Claim, NDArray[np.float32]] = {}
    for row, text in enumerate(texts):
        if text.claim is None:
            continue
        if text.claim not in cached:
            cached[text.claim] = truth(text.claim, table)
        # Of another brain nothing is known but its contrast.
        agrees = like & (true[row] > 0) & _may_be(text.claim, items)
        true[row] = np.where(rendered, true[row] * cached[text.claim], 0.0)
        known[row] = known[row] & ~agrees
    return true, known


def _may_be(claim: Claim, items: list[Item]) -> NDArray[np.bool_]:
    wrong = [f"sequence:{s}" for s in SEQUENCES if claim.sequence and s != claim.sequence]
    return np.array([not any(fact in item.facts for fact in wrong) for item in items])


def _column(fact: str, items: list[Item]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    attribute = fact.partition(":")[0]
    false, unknown = [], []
    for item in items:
        has = fact in item.facts
        decided = attribute in CLOSED or attribute in item.closed or "kind:other" in item.facts
        false.append(not has and decided)
        unknown.append(not has and not decided)
    return np.array(false), np.array(unknown)
