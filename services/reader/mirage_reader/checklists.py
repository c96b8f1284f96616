"""Checklists: the order in which a kind of image is looked at. Files in `checklists/`."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mirage_reader.kinds import Kind


@dataclass(frozen=True)
class Item:
    """One item. `findings` of the vocabulary and `facets` of the records are what it can be judged by.

    `structures` are words of the names of structures that it is about, such as "lung".
    """

    id: str
    title: str
    text: str
    source: str = ""
    findings: tuple[str, ...] = ()
    facets: tuple[str, ...] = ()
    structures: frozenset[str] = frozenset()

    def concerns(self, structure: str) -> bool:
        """True if a structure is one that this item is about, such as "upper lobe of the left lung" for "lung"."""
        return not self.structures.isdisjoint(structure.split())


@dataclass(frozen=True)
class Checklist:
    """The items in the order of reading. An empty `body_part` fits every part of the body."""

    name: str
    title: str
    modality: frozenset[str]
    body_part: frozenset[str]
    items: tuple[Item, ...]

    def fits(self, kind: Kind) -> bool:
        """True if the kind's modality, and its part of the body if the checklist has some, are this checklist's."""
        modality = kind.modality is not None and kind.modality.value in self.modality
        part = not self.body_part or (kind.body_part is not None and kind.body_part.value in self.body_part)
        return modality and part


@cache
def checklists() -> tuple[Checklist, ...]:
    """Returns all checklists, by name."""
    folder = resources.files("mirage_reader").joinpath("checklists")
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".toml")), key=lambda each: each.name)
    return tuple(_parse(each.name.removesuffix(".toml"), each.read_text("utf-8")) for each in files)


def checklist_for(kind: Kind, known: Sequence[Checklist] | None = None) -> Checklist | None:
    """Returns the checklist of a kind, or None. A kind that is not sure counts: the caller may correct it."""
    return next((each for each in known or checklists() if each.fits(kind)), None)


def _parse(name: str, text: str) -> Checklist:
    content = tomllib.loads(text)
    items = tuple(
        Item(
            each["id"],
            each["title"],
            each["text"],
            each.get("source", ""),
            tuple(each.get("findings", ())),
            tuple(each.get("facets", ())),
            frozenset(each.get("structures", ())),
        )
        for each in content["items"]
    )
    return Checklist(name, content["title"], frozenset(content["modality"]), frozenset(content["body_part"]), items)
