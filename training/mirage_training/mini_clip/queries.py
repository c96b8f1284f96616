"""Texts for training: captions, students' short queries and single attributes, each with what it claims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mirage_atlas.demo.captions import (
    AXIS,
    caption,
    choose,
    level_names,
    visible_names,
)
from mirage_atlas.demo.contrast import SEQUENCES
from mirage_atlas.demo.landmarks import BY_NAME, GROUPS, PLANES, SINGULAR, Plane
from mirage_atlas.demo.landmarks import level_range as cut_range
from mirage_atlas.demo.lesions import LOBES, SIGNALS
from mirage_atlas.demo.sections import Lesion, SectionSpec
from mirage_training.mini_clip.claims import Claim, full_claim, level_range

PLURAL = {singular: name for name, singular in SINGULAR.items()}
SEQUENCE_QUERIES: dict[str, tuple[str, ...]] = {
    "t1": ("t1", "T1", "T1-weighted", "T1w", "T1 weighted", "t1 weighted image"),
    "t2": ("t2", "T2", "T2-weighted", "T2w", "T2 weighted", "T2-like", "simulated T2"),
    "flair": (
        "flair",
        "FLAIR",
        "FLAIR-like",
        "FLAIR sequence",
        "fluid attenuated inversion recovery",
        "simulated FLAIR",
    ),
}
PLANE_QUERIES: dict[str, tuple[str, ...]] = {
    "axial": ("axial", "axial", "transverse", "axial plane", "axial section", "horizontal section"),
    "coronal": ("coronal", "coronal", "coronal plane", "coronal section"),
    "sagittal": ("sagittal", "sagittal", "sagittal plane", "sagittal section"),
}
SIDE_QUERIES: dict[str, tuple[str, ...]] = {
    "left": ("left", "left", "left side", "left-sided", "on the left", "left hemisphere"),
    "right": ("right", "right", "right side", "right-sided", "on the right", "right hemisphere"),
    "midline": ("midline", "midsagittal", "midline sagittal"),
}
SIGNAL_QUERIES: dict[str, tuple[str, ...]] = {
    "hyperintense": ("hyperintense", "bright", "high signal", "hyperintense lesion", "bright lesion"),
    "hypointense": ("hypointense", "dark", "low signal", "hypointense lesion", "dark lesion"),
}
LESION_QUERIES = ("lesion", "focal lesion", "simulated lesion", "abnormal", "pathology", "brain lesion", "a lesion")
PLAIN_QUERIES = ("normal", "no lesion", "normal brain", "healthy", "without lesion", "normal anatomy")
FRAMES = ("{}", "{}", "{}", "{}", "{}", "{} image", "show me {}", "find {}", "{} mri", "{} scan", "picture of {}",
          "an example of {}", "{} brain", "brain mri {}", "where is {}", "{} slice")  # fmt: skip
LOBE_ADJECTIVES = {
    "frontal lobe": "frontal",
    "parietal lobe": "parietal",
    "occipital lobe": "occipital",
    "temporal lobe": "temporal",
    "cerebellum": "cerebellar",
    "basal ganglia": "basal ganglia",
    "thalamus": "thalamic",
}


@dataclass(frozen=True)
class Query:
    """A text and what it claims."""

    text: str
    claim: Claim


@dataclass(frozen=True)
class Shift:
    """An arithmetic query: `base - minus + plus` should be close to `target`, whose `claim` says what is meant."""

    base: Query
    minus: str
    plus: str
    target: Query


def caption_query(spec: SectionSpec, rng: np.random.Generator) -> Query:
    """The atlas's own caption of the section with everything that is true of it."""
    return Query(caption(spec, rng), full_claim(spec))


def short_query(spec: SectionSpec, rng: np.random.Generator) -> Query:
    """A student's query: some attributes of the section in some order, with or without a frame of everyday words."""
    parts: list[str] = []
    claim = Claim()
    if rng.random() < 0.65:
        parts.append(choose(rng, PLANE_QUERIES[spec.plane][:3]))
        claim = claim.but(plane=spec.plane)
    if rng.random() < 0.6:
        parts.append(choose(rng, SEQUENCE_QUERIES[spec.sequence]))
        claim = claim.but(sequence=spec.sequence)
    if spec.lesion and rng.random() < 0.8:
        text, claim = lesion_part(spec.lesion, claim, rng)
        parts.append(text)
    else:
        if spec.plane == "sagittal" and claim.plane and spec.side and rng.random() < 0.4:
            parts.insert(0, spec.side)
            claim = claim.but(side=spec.side)
        if rng.random() < 0.7 or not parts:
            text, claim = level_part(spec, claim, rng)
            parts.append(text)
        if not spec.lesion and rng.random() < 0.12:
            parts.append(choose(rng, PLAIN_QUERIES[:4]))
            claim = claim.but(lesion=False)
    if rng.random() < 0.3:
        parts = [parts[i] for i in rng.permutation(len(parts))]
    return Query(framed((", " if rng.random() < 0.15 else " ").join(parts), rng), claim)


def framed(text: str, rng: np.random.Generator) -> str:
    """The text inside a few everyday words, or as it is."""
    return choose(rng, FRAMES).format(text)


def lesion_part(lesion: Lesion, claim: Claim, rng: np.random.Generator) -> tuple[str, Claim]:
    """Words about the lesion (some of side, lobe, signal, size) and the claim with them."""
    side = lesion.side if rng.random() < 0.75 else None
    lobe = lesion.lobe if rng.random() < 0.7 else None
    signal = lesion.signal if rng.random() < 0.4 else None
    size = lesion.size_mm if rng.random() < 0.15 else None
    claim = claim.but(lesion=True, side=side or claim.side, lobe=lobe, signal=signal)
    bright = choose(rng, SIGNAL_QUERIES[signal][:3]) if signal else ""
    noun = choose(rng, LESION_QUERIES[:3])
    where = " ".join(word for word in (side, lobe) if word)
    if size is not None:
        claim = claim.but(size=(size, size))
        noun = f"{size} mm {noun}"
    elif rng.random() < 0.12:
        small, large = lesion.size_mm <= 15, lesion.size_mm >= 24
        if small or large:
            noun = f"{'small' if small else 'large'} {noun}"
            claim = claim.but(size=(10, 15) if small else (24, 36))
    forms = [f"{bright} {noun} {where}", f"{where} {bright} {noun}"]
    if where:
        forms += [f"{bright} {noun} in the {where}", f"{bright} {noun} of the {where}", f"{where} with {bright} {noun}"]
    if lobe:
        forms.append(f"{side or ''} {LOBE_ADJECTIVES[lobe]} {bright} {noun}")
    return " ".join(choose(rng, forms).split()), claim


def level_part(spec: SectionSpec, claim: Claim, rng: np.random.Generator) -> tuple[str, Claim]:
    """Words about the level (landmark, visible structure or mm) and the claim with them."""
    plane = spec.plane
    landmarks = level_names(plane, spec.level_mm)
    roll = rng.random()
    if landmarks and roll < 0.45:
        text, claim = landmark_part(choose(rng, landmarks[:3]), plane, claim, rng)
        return text, claim.but(plane=plane) if claim.plane else claim
    seen = visible_names(plane, spec.level_mm)
    if seen and roll < 0.8:
        return structure_part(choose(rng, seen[:6]), claim, rng)
    mm = f"{spec.level_mm:+d}" if rng.random() < 0.5 else f"{spec.level_mm}"
    text = choose(
        rng, (f"{AXIS[plane]} = {mm} mm", f"{AXIS[plane]} {mm}", f"{AXIS[plane]}={mm}", f"at {AXIS[plane]} {mm} mm")
    )
    side = spec.side if plane == "sagittal" else claim.side
    # An axis letter implies the plane, and a signed x the side.
    return text, claim.but(plane=plane, side=side, levels=((plane, level_range(plane, spec.level_mm, 2)),))


def landmark_part(name: str, plane: Plane, claim: Claim, rng: np.random.Generator) -> tuple[str, Claim]:
    """`at the level of the X`: near the middle of X in this plane, or in any plane while the claim leaves it open."""
    text = choose(rng, (f"at the level of the {name}", f"through the {name}", f"level of the {name}", f"at the {name}"))
    planes = (plane,) if claim.plane else PLANES
    return text, claim.but(levels=tuple((p, middle_range(PLURAL.get(name, name), p)) for p in planes))


def middle_range(name: str, plane: Plane) -> tuple[float, float]:
    """Levels within 8 mm of a structure's middle that still cut it."""
    low, high = cut_range(name, plane)
    middle = (low + high) / 2
    return (max(low, middle - 8), min(high, middle + 8))


def structure_part(name: str, claim: Claim, rng: np.random.Generator) -> tuple[str, Claim]:
    """The name of a structure, or of the group it belongs to: true of every section that cuts it."""
    plural = PLURAL.get(name, name)
    groups = [group for group, parts in GROUPS.items() if plural in parts]
    if groups and rng.random() < 0.5:
        name = plural = choose(rng, groups)
    elif rng.random() < 0.5:
        name = SINGULAR.get(plural, plural)
    planes = (claim.plane,) if claim.plane else PLANES
    text = choose(rng, (name, name, f"showing the {name}", f"the {name}", f"with the {name}"))
    return text, claim.but(levels=tuple((p, cut_range(plural, p)) for p in planes))


def attribute_query(rng: np.random.Generator) -> Query:
    """One attribute alone: a plane, contrast, side, signal, lobe, lesion or structure."""
    kind = int(rng.integers(8))
    if kind == 0:
        plane = PLANES[int(rng.integers(3))]
        return Query(choose(rng, PLANE_QUERIES[plane]), Claim(plane=plane))
    if kind == 1:
        sequence = SEQUENCES[int(rng.integers(3))]
        return Query(choose(rng, SEQUENCE_QUERIES[sequence]), Claim(sequence=sequence))
    if kind == 2:
        side = choose(rng, ("left", "right", "left", "right", "midline"))
        return Query(choose(rng, SIDE_QUERIES[side]), Claim(side=side, plane="sagittal" if side == "midline" else None))
    if kind == 3:
        signal = choose(rng, SIGNALS)
        return Query(choose(rng, SIGNAL_QUERIES[signal]), Claim(lesion=True, signal=signal))
    if kind == 4:
        lobe = choose(rng, LOBES)
        text = choose(rng, (f"{lobe} lesion", f"lesion of the {lobe}", f"{LOBE_ADJECTIVES[lobe]} lesion"))
        return Query(text, Claim(lesion=True, lobe=lobe))
    if kind == 5:
        return Query(choose(rng, LESION_QUERIES), Claim(lesion=True))
    if kind == 6:
        return Query(choose(rng, PLAIN_QUERIES), Claim(lesion=False))
    name = choose(rng, tuple(BY_NAME) + tuple(GROUPS))
    text, claim = (
        structure_part(name, Claim(), rng)
        if name in BY_NAME
        else (
            name,
            Claim(levels=tuple((p, cut_range(name, p)) for p in PLANES)),
        )
    )
    return Query(text, claim)


def shift_query(spec: SectionSpec, rng: np.random.Generator) -> Shift:
    """An arithmetic query about the section: a base that names the attribute, and the same words with it exchanged."""
    kinds = ["plane", "sequence"]
    if spec.lesion or (spec.plane == "sagittal" and spec.side != "midline"):
        kinds += ["side", "side"]
    if spec.lesion:
        kinds.append("signal")
    kind = choose(rng, kinds)
    values: dict[str, tuple[str, ...]] = {"plane": PLANES, "sequence": SEQUENCES, "side": SIDES[:2], "signal": SIGNALS}
    words = {"plane": PLANE_QUERIES, "sequence": SEQUENCE_QUERIES, "side": SIDE_QUERIES, "signal": SIGNAL_QUERIES}[kind]
    old = {"plane": spec.plane, "sequence": spec.sequence, "side": spec.side, "signal": None}[kind]
    if kind == "signal" and spec.lesion:
        old = spec.lesion.signal
    new = choose(rng, [value for value in values[kind] if value != old])
    slots, claim = _shift_slots(spec, kind, rng)
    form = choose(
        rng,
        ("{side} {plane} {sequence} {rest}", "{plane} {sequence} {rest} {side}", "{rest} {side} {plane} {sequence}"),
    )
    if spec.lesion and ("lesion" in slots["rest"]):
        form = choose(
            rng,
            (
                "{plane} {sequence} {signal} lesion in the {side} {lobe}",
                "{signal} lesion {side} {lobe} {plane} {sequence}",
                "{side} {lobe} {signal} lesion, {sequence} {plane}",
                "{sequence} {plane} {side} {lobe} {signal} lesion",
            ),
        )
    form = choose(rng, FRAMES).format(form)
    changed = {**slots, kind: choose(rng, values_of(kind, new))}
    slots[kind] = choose(rng, values_of(kind, str(old)))
    base_claim = claim.but(**{kind: old})
    target_claim = claim.but(**{kind: new})
    if kind == "plane" and new == "sagittal" and spec.lesion is None:
        target_claim = target_claim.but(side=None)
    return Shift(
        Query(" ".join(form.format(**slots).split()), base_claim),
        choose(rng, words[str(old)][:3]),
        choose(rng, words[new][:3]),
        Query(" ".join(form.format(**changed).split()), target_claim),
    )


SIDES = ("left", "right", "midline")


def values_of(kind: str, value: str) -> tuple[str, ...]:
    """Words for an attribute's value that fit into any of the arithmetic forms."""
    if kind == "plane":
        return (value,)
    if kind == "sequence":
        return SEQUENCE_QUERIES[value][:3]
    if kind == "signal":
        return SIGNAL_QUERIES[value][:2]
    return (value,)


def _shift_slots(spec: SectionSpec, kind: str, rng: np.random.Generator) -> tuple[dict[str, str], Claim]:
    """Words for the other attributes of a base query, some left out, with their claim; `rest` is level or lesion."""
    slots = dict.fromkeys(("plane", "sequence", "side", "signal", "lobe", "rest"), "")
    claim = Claim()
    for name, value in (("plane", spec.plane), ("sequence", spec.sequence)):
        if name != kind and rng.random() < 0.7:
            slots[name] = choose(rng, values_of(name, value))
            claim = claim.but(**{name: value})
    lesion = spec.lesion
    if lesion and (kind in ("side", "signal") or rng.random() < 0.6):
        slots["rest"] = "lesion"
        claim = claim.but(lesion=True)
        for name, word in (("side", lesion.side), ("lobe", lesion.lobe), ("signal", lesion.signal)):
            if name != kind and rng.random() < (0.35 if name == "signal" else 0.7):
                slots[name] = word
                claim = claim.but(**{name: word})
    elif kind != "plane" and rng.random() < 0.8:
        text, claim = level_part(spec, claim, rng)
        slots["rest"] = text
        if claim.side and kind == "side":
            # A signed x names the side already, and would contradict the exchanged one.
            slots["rest"], claim = "", claim.but(side=None, levels=())
    return slots, claim
