"""Explanations composed of what captions say and of facts about it: what the mini language model learns to write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mirage_atlas.demo.captions import choose, enumeration
from mirage_atlas.demo.landmarks import GROUPS, SINGULAR
from mirage_training.mini_clip.queries import PLANE_QUERIES, SEQUENCE_QUERIES, short_query
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.captions import Seen, brain_caption, brain_spec, named_structures, other_caption

ORDINALS = ("first", "second", "third")
SEQUENCE_WORDS = {"t1": "T1-weighted", "t2": "T2-weighted", "flair": "FLAIR"}
MODALITY_WORDS = {
    "x-ray": "X-ray image",
    "ct": "CT image",
    "mr": "MR image",
    "us": "ultrasound image",
    "nm": "nuclear medicine image",
}
QUESTIONS = ("{}", "{}", "{}", "what is {}?", "explain {}", "{} anatomy", "how does {} look?", "tell me about {}")


@dataclass(frozen=True)
class Example:
    """A student's query, the captions found for it (best first), and a description that they support.

    `texts` are the captions where rules do not know what each says, so that `seen` is empty.
    """

    query: str
    seen: tuple[Seen, ...]
    sentences: tuple[str, ...]
    texts: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions as they are written."""
        return self.texts or tuple(each.caption for each in self.seen)

    @property
    def text(self) -> str:
        """The explanation as it is written."""
        return " ".join(self.sentences)


def subject(indices: tuple[int, ...], count: int) -> str:
    """Returns `The first and third images`, or `All three images` or `Both images` for all of them."""
    if len(indices) == count > 1:
        return "Both images" if count == 2 else "All three images"
    if len(indices) == 1:
        return f"The {ORDINALS[indices[0]]} image" if count > 1 else "The image"
    return f"The {enumeration([ORDINALS[i] for i in indices])} images"


@dataclass(frozen=True)
class Composition:
    """Options for composing examples.

    `grouped` speaks of images together if they have something in common ("The first and third images have ..."), as the
    first rounds of training did: a small model often groups them wrongly, so explanations give each image its own
    sentence. `brain` is the share of queries about the brain atlas; the others are about radiographs and the like with
    invented findings.
    """

    grouped: bool = False
    brain: float = 0.72


APART = Composition()
"""As the mini model is to write."""
TOGETHER = Composition(grouped=True)
"""As it began."""


def example(rng: np.random.Generator, composition: Composition = APART) -> Example:
    """One query with captions as a retrieval would give them, and its explanation."""
    count = int(rng.choice((1, 2, 3, 3, 3, 3, 3, 3)))
    if rng.random() < composition.brain:
        anchor = brain_spec(rng)
        query = short_query(anchor, rng).text
        seen = [brain_caption(brain_spec(rng, like=anchor), rng) for _ in range(count)]
        if rng.random() < 0.06:
            seen[int(rng.integers(count))] = other_caption(rng)
    else:
        first = other_caption(rng)
        seen = [first, *(other_caption(rng, like=first) for _ in range(count - 1))]
        query = _other_query(first, rng)
        if rng.random() < 0.06:
            seen[int(rng.integers(count))] = brain_caption(brain_spec(rng), rng)
    if rng.random() < 0.3:
        query = choose(rng, QUESTIONS).format(query)
    return Example(query, tuple(seen), explain(query, tuple(seen), rng, grouped=composition.grouped))


def _other_query(seen: Seen, rng: np.random.Generator) -> str:
    noun = MODALITY_WORDS[seen.modality].removesuffix(" image")
    parts = (
        seen.part,
        f"{seen.part} {noun}",
        f"{noun} of the {seen.part}",
        f"{noun} {seen.finding or seen.part}",
        seen.finding or seen.part,
    )
    return choose(rng, parts)


def explain(query: str, seen: tuple[Seen, ...], rng: np.random.Generator, *, grouped: bool = False) -> tuple[str, ...]:
    """Returns sentences about the images' kinds, their contents and, if the query asks, facts; at most seven."""
    count = len(seen)
    brain = tuple(i for i, each in enumerate(seen) if each.brain)
    sentences: list[str] = []
    if grouped and brain:
        sentences.append(_groups(seen, brain, _section, count))
        sentences.append(_groups(seen, brain, lambda each: f"{{have}} {SEQUENCE_WORDS[each.sequence]} contrast", count))
    elif not grouped:
        sentences += _images(seen)
    if brain:
        sentences += _structures(query, seen, brain, count)
        sentences += _lesions(seen, brain, count)
    if grouped:
        sentences += [_other(seen[i], i, count) for i in range(count) if i not in brain]
    sentences += _facts(query, seen, rng)
    asked = named_structures(query)
    named = {name for each in seen for name in each.structures}
    if asked and not named & set(asked):
        sentences.append(
            f"None of the captions names the {asked[0]}." if count > 1 else f"The caption does not name the {asked[0]}."
        )
    return tuple(sentences[:7])


def _section(seen: Seen) -> str:
    side = {"": "", "midline": "midline ", "left": "left ", "right": "right "}[seen.section_side]
    return f"{{be}} {{a}}{side}{seen.plane} section{{s}} of the brain"


def _images(seen: tuple[Seen, ...]) -> list[str]:
    """Returns a sentence on the kind of each image, or one for all if they are sections of the same kind."""
    count = len(seen)

    def say(each: Seen) -> str:
        return f"{_section(each)} with {SEQUENCE_WORDS[each.sequence]} contrast"

    if all(each.brain for each in seen) and len({say(each) for each in seen}) == 1:
        return [_groups(seen, tuple(range(count)), say, count)]
    return [_groups(seen, (i,), say, count) if each.brain else _other(each, i, count) for i, each in enumerate(seen)]


def _groups(seen: tuple[Seen, ...], indices: tuple[int, ...], say: Callable[[Seen], str], count: int) -> str:
    groups: dict[str, list[int]] = {}
    for index in indices:
        groups.setdefault(say(seen[index]), []).append(index)
    clauses = []
    for phrase, members in groups.items():
        several = len(members) > 1
        words = phrase.replace("{be}", "are" if several else "is").replace("{s}", "s" if several else "")
        words = words.replace("{have}", "have" if several else "has")
        article = "" if several else ("an " if "{a}axial" in phrase else "a ")
        clauses.append(f"{subject(tuple(members), count)} {words.replace('{a}', article)}")
    return "; ".join([clauses[0], *(clause[0].lower() + clause[1:] for clause in clauses[1:])]) + "."


def _structures(query: str, seen: tuple[Seen, ...], brain: tuple[int, ...], count: int) -> list[str]:
    asked = set(asked_structures(query))
    naming = [i for i in brain if seen[i].structures]
    naming.sort(key=lambda i: (not asked & set(seen[i].structures), i))
    chosen = sorted(naming[:2])
    return [
        f"{subject((i,), count)} shows the {enumeration([_written(name, seen[i]) for name in seen[i].structures[:3]])}."
        for i in chosen
    ]


def _written(name: str, seen: Seen) -> str:
    return SINGULAR.get(name, name) if seen.plane == "sagittal" else name


def asked_structures(query: str) -> tuple[str, ...]:
    """Structures that a query names, a group standing for its parts."""
    lower = query.lower()
    groups = (part for group, parts in GROUPS.items() if group in lower for part in parts)
    return tuple(dict.fromkeys((*named_structures(lower), *groups)))


def _lesions(seen: tuple[Seen, ...], brain: tuple[int, ...], count: int) -> list[str]:
    with_lesion = [(i, lesion) for i in brain if (lesion := seen[i].lesion)]
    if not with_lesion:
        if len(brain) == count:
            return ["None of the images has a lesion." if count > 1 else "The image has no lesion."]
        return [f"{subject(brain, count)} {'have' if len(brain) > 1 else 'has'} no lesion."]
    sentences = []
    for i, lesion in with_lesion:
        what, where = f"simulated {lesion.signal} lesion of {lesion.size_mm} mm", f"{lesion.side} {lesion.lobe}"
        sentences.append(f"{subject((i,), count)} has a {what} in the {where}.")
    return sentences


def _other(seen: Seen, index: int, count: int) -> str:
    words = " ".join(f"{seen.plane} {MODALITY_WORDS[seen.modality]}".split())
    article = "an" if words[0] in "aeiouX" or words.startswith("MR") else "a"
    shows = {None: "", "": " and shows nothing abnormal"}.get(seen.finding, f" and shows {seen.finding}")
    return f"{subject((index,), count)} is {article} {words} of the {seen.part}{shows}."


def _facts(query: str, seen: tuple[Seen, ...], rng: np.random.Generator) -> list[str]:
    """At most two facts: about what the query asks for, as far as the captions say it too.

    Else about what they share.
    """
    lower = query.lower()
    named = tuple(dict.fromkeys(name for each in seen for name in each.structures))
    found = [facts.STRUCTURES[name] for name in asked_structures(query) if name in named]
    lobes = tuple(dict.fromkeys(each.lesion.lobe for each in seen if each.lesion))
    found += [choose(rng, facts.LOBES[lobe]) for lobe in lobes if lobe in lower or lobe.split()[0] in lower.split()]
    for table, queries, attribute in (
        (facts.SEQUENCES, SEQUENCE_QUERIES, "sequence"),
        (facts.PLANES, PLANE_QUERIES, "plane"),
    ):
        values = {getattr(each, attribute) for each in seen} - {""}
        found += [
            choose(rng, table[v])
            for v in sorted(values)
            if v in queries and any(w.lower() in lower for w in queries[v])
        ]
    if not found:
        first = seen[0]
        if first.brain:
            found = [choose(rng, facts.SEQUENCES[first.sequence])]
        else:
            found = [choose(rng, facts.MODALITIES[first.modality])]
            found += [facts.PARTS[first.part]] if first.part in facts.PARTS else []
    return found[:2]
