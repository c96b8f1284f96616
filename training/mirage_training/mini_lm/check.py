"""Checks that a sentence agrees with the captions that it was written from; it reads the words alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirage_atlas.demo.lesions import SIGNALS, ZONES
from mirage_training.mini_lm import facts
from mirage_training.mini_lm.captions import OTHER_PARTS, Seen, named_structures
from mirage_training.mini_lm.explanations import MODALITY_WORDS, SEQUENCE_WORDS

_ORDINALS = {"first": 0, "second": 1, "third": 2}
_LOBES = tuple(dict.fromkeys(zone.lobe for zone in ZONES))
_PLANES = ("axial", "coronal", "sagittal", "frontal", "lateral")
_FACTS = facts.sentences()
_SPLIT = re.compile(r"(?<=[.!?])\s+")
_LESION = re.compile(
    rf"has a simulated ({'|'.join(SIGNALS)}) lesion of (\d+) mm in the (left|right) ({'|'.join(_LOBES)})\.?$"
)
_SECTION = re.compile(
    r"(?:is an?|are) (?:(left|right|midline) )?(axial|coronal|sagittal) sections? of the brain"
    rf"(?: with ({'|'.join(SEQUENCE_WORDS.values())}) contrast)?\.?$"
)
_CONTRAST = re.compile(rf"(?:has|have) ({'|'.join(SEQUENCE_WORDS.values())}) contrast\.?$")
_SHOWS = re.compile(r"shows the (.+?)\.?$")
_NO_LESION = re.compile(r"^(?:None of the images has a|.*\b(?:has|have) no) lesion\.?$")
_NOT_NAMED = re.compile(r"^(?:None of the captions names|The caption does not name) the (.+?)\.?$")
_OTHER = re.compile(
    rf"is an? (?:({'|'.join(_PLANES)}) )?({'|'.join(map(re.escape, MODALITY_WORDS.values()))}) of the ({'|'.join(OTHER_PARTS)}"
    r"|brain|whole body)(?: and shows (.+?))?\.?$"
)


@dataclass(frozen=True)
class Verdict:
    """One sentence: whether every claim in it is true of the images that it speaks of, and if not, what is wrong."""

    sentence: str
    agrees: bool
    reason: str = ""


def split(text: str) -> tuple[str, ...]:
    """The sentences of a text."""
    return tuple(part for part in _SPLIT.split(text.strip()) if part)


def check(text: str, seen: tuple[Seen, ...]) -> tuple[Verdict, ...]:
    """A verdict on each sentence; one that cannot be read as any known kind of claim does not agree."""
    return tuple(_check(sentence, seen) for sentence in split(text))


def _check(sentence: str, seen: tuple[Seen, ...]) -> Verdict:
    if sentence in _FACTS:
        return Verdict(sentence, *_fact_belongs(sentence, seen))
    if found := _NOT_NAMED.match(sentence):
        names = named_structures(found[1])
        missing = bool(names) and not any(name in each.structures for each in seen for name in names)
        return Verdict(sentence, missing, "" if missing else "a caption names it")
    for clause in sentence.removesuffix(".").split("; "):
        if reason := _wrong(clause, seen):
            return Verdict(sentence, False, reason)
    return Verdict(sentence, True)


def _subject(clause: str, count: int) -> tuple[int, ...] | None:
    lower = clause.lower()
    if lower.startswith("all three images"):
        return (0, 1, 2) if count == 3 else None
    if lower.startswith("both images"):
        return (0, 1) if count == 2 else None
    if lower.startswith("none of the images"):
        return tuple(range(count))
    if lower.startswith("the image "):
        return (0,) if count == 1 else None
    head = re.match(r"the ((?:first|second|third)(?:(?:, | and )(?:first|second|third))*) images?\b", lower)
    if not head:
        return None
    indices = tuple(_ORDINALS[word] for word in re.findall("first|second|third", head[1]))
    return indices if all(i < count for i in indices) else None


def _wrong(clause: str, seen: tuple[Seen, ...]) -> str:
    """Returns the faults of a clause."""
    subject = _subject(clause, len(seen))
    if subject is None:
        return "no such images"
    images = [seen[i] for i in subject]
    if found := _SECTION.search(clause):
        side, plane, contrast = found[1] or "", found[2], found[3]
        if not all(i.brain and (i.plane, i.section_side) == (plane, side) for i in images):
            return "plane or side"
        return "" if all(contrast in {None, SEQUENCE_WORDS[i.sequence]} for i in images) else "contrast"
    if found := _CONTRAST.search(clause):
        return "" if all(SEQUENCE_WORDS.get(i.sequence) == found[1] for i in images) else "contrast"
    if _NO_LESION.match(clause):
        return "" if not any(i.lesion for i in images) else "there is a lesion"
    if found := _LESION.search(clause):
        said = (found[1], int(found[2]), found[3], found[4])
        return (
            ""
            if all(
                i.lesion and (i.lesion.signal, i.lesion.size_mm, i.lesion.side, i.lesion.lobe) == said for i in images
            )
            else "lesion"
        )
    if found := _OTHER.search(clause):
        return _wrong_other(found, images)
    if found := _SHOWS.search(clause):
        names = named_structures(found[1])
        listed = len(re.split(r", | and ", found[1]))
        if not names or len(names) != listed:
            return "no structure known"
        return "" if all(name in i.structures for i in images for name in names) else "structure"
    return "not a known claim"


def _wrong_other(found: re.Match[str], images: list[Seen]) -> str:
    plane, words, part, finding = found[1] or "", found[2], found[3], found[4]
    for image in images:
        if image.brain or MODALITY_WORDS[image.modality] != words:
            return "modality"
        if (image.plane, image.part) != (plane, part):
            return "plane or part"
        if (finding or None) != ({None: None, "": "nothing abnormal"}.get(image.finding, image.finding)):
            return "finding"
    return ""


def _fact_belongs(sentence: str, seen: tuple[Seen, ...]) -> tuple[bool, str]:
    """A fact agrees if a caption mentions its subject."""
    about: set[str] = set()
    for table in (facts.PLANES, facts.SEQUENCES, facts.MODALITIES, facts.LOBES, facts.SIGNALS):
        about |= {name for name, several in table.items() if sentence in several}
    about |= {name for table in (facts.STRUCTURES, facts.PARTS) for name, fact in table.items() if fact == sentence}
    said = {word for i in seen for word in (i.plane, i.sequence, i.modality, i.part, *i.structures)}
    said |= {word for i in seen if i.lesion for word in (i.lesion.lobe, i.lesion.signal)}
    return (True, "") if about & said else (False, "a fact about something that no caption says")
