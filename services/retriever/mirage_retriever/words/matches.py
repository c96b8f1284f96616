"""The places where a record says what was asked for."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mirage_retriever.records import Record
from mirage_retriever.words.documents import WEAK, texts
from mirage_retriever.words.tokens import Token, tokens

Spans = dict[str, list[list[int]]]


@dataclass(frozen=True)
class Way:
    """One way to say something: stems that stand anywhere in a record, or one after the other."""

    stems: tuple[str, ...]
    adjacent: bool = False


@dataclass(frozen=True)
class Matched:
    """Spans in characters by path (documents.texts), and which things are said, at all and outside of the history."""

    spans: Spans
    said: tuple[bool, ...]
    strongly: tuple[bool, ...]


def find(record: Record, things: Sequence[Sequence[Way]]) -> Matched:
    """Looks for each thing, which is said where any of its ways is."""
    stems = {stem for ways in things for way in ways for stem in way.stems}
    there = {path: found for path, text in texts(record) if (found := [t for t in tokens(text) if t.stem in stems])}
    everywhere = {token.stem for found in there.values() for token in found}
    outside = {token.stem for path, found in there.items() if path != WEAK for token in found}
    marked: dict[str, set[tuple[int, int]]] = defaultdict(set)
    said, strongly = [], []
    for ways in things:
        is_said = is_strong = False
        for way in ways:
            if not way.adjacent or len(way.stems) == 1:
                is_said |= everywhere.issuperset(way.stems)
                is_strong |= outside.issuperset(way.stems)
                for path, found in there.items():
                    marked[path].update((token.start, token.end) for token in found if token.stem in way.stems)
                continue
            for path, found in there.items():
                if places := _adjacent(found, way.stems):
                    marked[path].update(places)
                    is_said = True
                    is_strong |= path != WEAK
        said.append(is_said)
        strongly.append(is_strong)
    return Matched({path: _merged(places) for path, places in marked.items() if places}, tuple(said), tuple(strongly))


def _adjacent(found: Iterable[Token], stems: Sequence[str]) -> list[tuple[int, int]]:
    at = {(token.position, token.stem): token for token in found}
    places = []
    for (position, stem), first in at.items():
        if stem == stems[0]:
            rest = [at.get((position + number, other)) for number, other in enumerate(stems)]
            if all(rest) and (last := rest[-1]) is not None:
                places.append((first.start, last.end))
    return places


def _merged(places: Iterable[tuple[int, int]]) -> list[list[int]]:
    merged: list[list[int]] = []
    for start, end in sorted(places):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
