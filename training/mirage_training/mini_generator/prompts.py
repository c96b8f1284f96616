"""The texts of pictures in training: captions of the atlas, everyday English, short queries, and sometimes an empty one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mirage_atlas.demo.captions import choose
from mirage_training.mini_clip.facts import Item, rendering_facts
from mirage_training.mini_clip.queries import PLANE_QUERIES, SEQUENCE_QUERIES, caption_query, framed, short_query
from mirage_training.mini_clip.wordings import about_rendering

if TYPE_CHECKING:
    from mirage_atlas.demo.sections import SectionSpec

NOTHING_SHARE = 0.1
"""Share of pictures without a text, which guidance needs (Ho and Salimans 2022)."""
CAPTION_SHARE = 0.3
NATURAL_SHARE = 0.35
WHOLE_SHARE = 0.15
_LESION_FORMS = (
    "{plane} {sequence}, {signal} lesion in the {side} {lobe}",
    "{sequence} {plane} with a {signal} lesion in the {side} {lobe}",
    "{side} {lobe} lesion, {signal}, {plane} {sequence}",
    "{signal} {side} {lobe} lesion {sequence} {plane}",
    "{plane} {sequence} brain mri, lesion in the {side} {lobe}",
)
_PLAIN_FORMS = (
    "{plane} {sequence}",
    "{sequence} {plane}",
    "{plane} {sequence}, no lesion",
    "normal {plane} {sequence}",
)


def training_text(spec: SectionSpec, rng: np.random.Generator) -> str:
    """A text that is true of the section."""
    roll = rng.random()
    if roll < NOTHING_SHARE:
        return ""
    if roll < NOTHING_SHARE + CAPTION_SHARE:
        return caption_query(spec, rng).text
    if roll < NOTHING_SHARE + CAPTION_SHARE + NATURAL_SHARE:
        return _natural_text(spec, rng)
    if roll < NOTHING_SHARE + CAPTION_SHARE + NATURAL_SHARE + WHOLE_SHARE:
        return whole_query(spec, rng)
    return _short_text(spec, rng)


def _natural_text(spec: SectionSpec, rng: np.random.Generator) -> str:
    """Everyday English, as for the mini CLIP; a lesion is named if there is one."""
    item = Item("", "", rendering_facts(spec), spec=spec)
    text = about_rendering(item, rng)
    while spec.lesion and not (text.claim and text.claim.lesion):
        text = about_rendering(item, rng)
    return text.text


def _short_text(spec: SectionSpec, rng: np.random.Generator) -> str:
    """A student's query, which names a lesion if there is one: what is not asked for is not to be drawn."""
    query = short_query(spec, rng)
    while spec.lesion and not query.claim.lesion:
        query = short_query(spec, rng)
    return query.text


def whole_query(spec: SectionSpec, rng: np.random.Generator) -> str:
    """Plane, contrast and lesion in a few words."""
    words = {
        "plane": choose(rng, PLANE_QUERIES[spec.plane][:3]),
        "sequence": choose(rng, SEQUENCE_QUERIES[spec.sequence]),
    }
    lesion = spec.lesion
    if lesion is None:
        return framed(choose(rng, _PLAIN_FORMS).format(**words), rng)
    form = choose(rng, _LESION_FORMS)
    return framed(form.format(**words, side=lesion.side, lobe=lesion.lobe, signal=lesion.signal), rng)
