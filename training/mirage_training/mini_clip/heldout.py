"""The evaluation's questions: sections and lesions that training never saw, and queries in frames that it never
read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mirage_atlas.demo.captions import choose, level_names
from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import PLANES
from mirage_atlas.demo.lesions import draw_lesion
from mirage_atlas.demo.plan import LEVEL_STEP_MM, Entry, plan
from mirage_atlas.demo.render import Renderer
from mirage_atlas.demo.sections import LEVELS_MM, SectionSpec
from mirage_atlas.demo.template import Template
from mirage_training.mini_clip.claims import Claim, level_range
from mirage_training.mini_clip.queries import (
    PLURAL,
    Query,
    Shift,
    caption_query,
    middle_range,
    shift_query,
    short_query,
)

EVALUATION_SEED = 990_017


@dataclass(frozen=True)
class Asked:
    """A query, the section that it was written from, and whether it names a level (by landmark or mm)."""

    query: Query
    source: SectionSpec
    kind: str
    names_level: bool


def held_out_gallery(template: Template, lesions: int) -> list[SectionSpec]:
    """All plain sections at held-out levels, and lesions centred in held-out cells seen at held-out levels."""
    specs = [entry.spec for entry in plan(template) if entry.spec.lesion is None]
    rng = np.random.default_rng(EVALUATION_SEED)
    found = 0
    while found < lesions:
        plane = PLANES[int(rng.integers(3))]
        low, high = LEVELS_MM[plane]
        level = int(rng.integers(-(-low // LEVEL_STEP_MM), high // LEVEL_STEP_MM + 1)) * LEVEL_STEP_MM
        sequence = SEQUENCES[int(rng.integers(3))]
        lesion = draw_lesion(template, rng, plane=plane, level_mm=level, sequence=sequence, want_held_out=True)
        if lesion:
            specs.append(SectionSpec(plane, level, sequence, lesion))
            found += 1
    return specs


def atlas_gallery(template: Template) -> tuple[Entry, ...]:
    """The demonstration atlas's renderings: also held out, by the same rules."""
    return plan(template)


def pictures(renderer: Renderer, specs: list[SectionSpec]) -> list[Image.Image]:
    """The sections as the atlas stores them (through its WebP encoding), RGB."""
    return [Image.open(io.BytesIO(renderer.file(spec))).convert("RGB") for spec in specs]


FRAMES = (
    "could you pull up a {plane} cut in {sequence} contrast {place}",
    "{sequence} acquisition, {plane} orientation, {place}",
    "i would like to study {place} on a {plane} {sequence} view",
    "{place} / {plane} / {sequence}",
    "please open one {plane} {sequence} picture {place} for my exam",
    "give me {sequence} in the {plane} direction {place}",
)
LESION_FRAMES = (
    "could you pull up a {plane} cut in {sequence} contrast where a {signal} lesion sits in the {side} {lobe}",
    "{plane} orientation, {sequence} acquisition: {side} {lobe}, {signal} lesion",
    "i would like to study a {signal} {side} {lobe} lesion on a {plane} {sequence} view",
    "patient with a lesion in the {side} {lobe}, {sequence}, {plane} view please",
    "{side} / {lobe} / lesion / {plane} / {sequence}",
    "quiz question: {plane} {sequence} with one {signal} lesion in {side} {lobe}",
)


def framed_query(spec: SectionSpec, rng: np.random.Generator) -> Asked:
    """A query in a frame of words that training never used, naming plane, contrast, and the lesion or the level."""
    words = {"plane": spec.plane, "sequence": {"t1": "T1", "t2": "T2", "flair": "FLAIR"}[spec.sequence]}
    claim = Claim(plane=spec.plane, sequence=spec.sequence)
    lesion = spec.lesion
    if lesion:
        frame = choose(rng, LESION_FRAMES)
        claim = claim.but(lesion=True, side=lesion.side, lobe=lesion.lobe)
        if "{signal}" in frame:
            claim = claim.but(signal=lesion.signal)
        text = frame.format(**words, side=lesion.side, lobe=lesion.lobe, signal=lesion.signal)
        return Asked(Query(text, claim), spec, "unseen frame", names_level=False)
    names = level_names(spec.plane, spec.level_mm)
    if names:
        name = names[0]
        place = choose(rng, (f"at the level of the {name}", f"through the {name}"))
        claim = claim.but(levels=((spec.plane, middle_range(PLURAL.get(name, name), spec.plane)),))
    else:
        axis = {"axial": "z", "coronal": "y", "sagittal": "x"}[spec.plane]
        place = f"at {axis} = {spec.level_mm:+d} mm"
        claim = claim.but(levels=((spec.plane, level_range(spec.plane, spec.level_mm, 2)),), side=spec.side)
    text = choose(rng, FRAMES).format(**words, place=place)
    return Asked(Query(text, claim), spec, "unseen frame", names_level=True)


def text_queries(specs: list[SectionSpec], count: int, rng: np.random.Generator) -> list[Asked]:
    """Queries about sections of a gallery: captions, short queries and unseen frames in equal parts."""
    asked = []
    for index in range(count):
        spec = specs[int(rng.integers(len(specs)))]
        if index % 3 == 0:
            query = caption_query(spec, rng)
            asked.append(Asked(query, spec, "caption", names_level=_narrow(query)))
        elif index % 3 == 1:
            query = short_query(spec, rng)
            asked.append(Asked(query, spec, "short", names_level=_narrow(query)))
        else:
            asked.append(framed_query(spec, rng))
    return asked


def shift_queries(specs: list[SectionSpec], count: int, rng: np.random.Generator) -> list[tuple[SectionSpec, Shift]]:
    """Arithmetic queries about sections of a gallery."""
    chosen = [specs[int(rng.integers(len(specs)))] for _ in range(count)]
    return [(spec, shift_query(spec, rng)) for spec in chosen]


def _narrow(query: Query) -> bool:
    return query.claim.plane is not None and any(high - low <= 17 for _, (low, high) in query.claim.levels)
