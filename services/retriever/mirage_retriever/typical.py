"""Queries that a collection answers: its commonest kinds of image, structures, findings and titles, in turn."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import zip_longest

from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Engine, Filter
from mirage_retriever.records import Record
from mirage_retriever.words.regions import without_places
from mirage_retriever.words.tokens import FILLERS, tokens

COUNT = 50
_FACETS = ("body_part", "modality", "structure", "finding", "sequence")
_VALUES = 100
_PARTS = 16
# A walk is in the order of digests, so its beginning is a fair sample.
_SAMPLE, _WALK = 2_048, 256
# Rarer ones are not an example of the collection.
_LEAST = 2
_CHARS = 60
_UNSAID = frozenset({"none", "normal", "other", *FILLERS})


async def typical_queries(atlas: Atlas) -> tuple[str, ...]:
    """Returns at most 50 queries, of which the first lead to different parts of the collection."""
    engine = atlas.engine
    facets = await engine.facets(_FACETS, Filter(), _VALUES)
    said = {name: [value for value, count in facets[name] if _is_telling(value, count)] for name in _FACETS}
    plain, planes = [], []
    for part in said["body_part"][:_PARTS]:
        found = await engine.facets(("modality", "plane"), Filter(where={"body_part": (part,)}), 1)
        for modality, _ in found["modality"]:
            words = f"{part} {_word(atlas, modality)}"
            plain.append(words)
            planes += [f"{plane} {words}" for plane, _ in found["plane"]]
    kinds = [_word(atlas, modality) for modality in said["modality"]]
    structures = _different(said["structure"])
    lists = (plain, structures, await _titles(engine), said["finding"], kinds, planes, said["sequence"])
    texts = dict.fromkeys(text for several in zip_longest(*lists) for text in several if text)
    return tuple(texts)[:COUNT]


def _is_telling(value: str, count: int) -> bool:
    return count >= _LEAST and value not in _UNSAID and len(value) <= _CHARS


def _word(atlas: Atlas, modality: str) -> str:
    """Returns the name that people use for a modality."""
    group = atlas.lexicon.synonyms.groups.get(f"modality={modality}")
    return group[0].text if group else modality


def _different(names: Iterable[str]) -> list[str]:
    """Names without their side, and of those that differ by place or number only the first."""
    found: dict[frozenset[str], str] = {}
    for name in names:
        stems = frozenset(token.stem for token in tokens(name) if not any(map(str.isdigit, token.stem)))
        text = name.removeprefix("left ").removeprefix("right ")
        if key := without_places(stems):
            found.setdefault(key, text)
    return list(found.values())


async def _titles(engine: Engine) -> list[str]:
    """The commonest titles, up to their first comma, which is where details begin."""
    counts: Counter[str] = Counter()
    position, seen = "", 0
    while seen < _SAMPLE:
        walked = await engine.walk(position, _WALK)
        counts.update(_subjects(Record.from_json(point.record) for point in walked.points))
        seen += len(walked.points)
        position = walked.position
        if not position:
            break
    return [title for title, count in counts.most_common(COUNT) if _is_telling(title, count)]


def _subjects(records: Iterable[Record]) -> Iterator[str]:
    return (" ".join(record.title.partition(",")[0].split()) for record in records if record.title)
