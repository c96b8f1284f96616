"""The lexicon by which queries of one collection are read: the lists of synonyms, and the collection's own words and labels."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mirage_retriever.engines.base import Engine, Filter
from mirage_retriever.words.queries import WordQuery, read_query
from mirage_retriever.words.synonyms import Stems, Synonyms, stems_of
from mirage_retriever.words.tokens import plain_stem
from mirage_retriever.words.vocabulary import Vocabulary

# Facets whose values a query may name.
FACETS = ("modality", "body_part", "plane", "side")
# Facets whose values the lists know in all their words. Values of the others are those of the collection.
CLOSED = ("modality", "plane", "side")
_VALUES = 500
# After writes the vocabulary is read again this often at the most, and now and then since others may write to a server.
_AGE_S = 5.0
# A word that it does not know is looked for sooner.
_UNKNOWN_AGE_S = 0.5
_MAX_AGE_S = 60.0


@dataclass(frozen=True)
class Named:
    """A label that a query names, and how many records carry it."""

    facet: str
    value: str
    count: int

    def is_of(self, labels: Mapping[str, Sequence[str]]) -> bool:
        """True if a record has the label, or is of a structure of that side: both kidneys together do not count."""
        if self.value in labels.get(self.facet, ()):
            return True
        return self.facet == "side" and any(self.value in value.split() for value in labels.get("structure", ()))


class Lexicon:
    """Reads queries for one collection. What it knows of the collection may be a few seconds old."""

    def __init__(self, engine: Engine, synonyms: Synonyms) -> None:
        self._engine = engine
        self.synonyms = synonyms
        self.vocabulary = Vocabulary()
        self._labels: dict[Stems, list[Named]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._revision = ""
        self._loaded_at = 0.0
        self._loading = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def read(self, text: str, revision: str) -> WordQuery:
        """The query's words. `revision` is another after each write that this process knows of."""
        if not self._loaded_at:
            await self._load(revision)
        query = read_query(text, self.synonyms, self.vocabulary)
        age_s = time.monotonic() - self._loaded_at
        changed = revision != self._revision
        if changed and (query.corrected or (age_s > _UNKNOWN_AGE_S and not self.knows(query))):
            # The word may have come with what was written since.
            await self._load(revision)
            return read_query(text, self.synonyms, self.vocabulary)
        is_old = age_s > _MAX_AGE_S or (age_s > _AGE_S and changed)
        if is_old and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._load(revision))
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return query

    def knows(self, query: WordQuery) -> bool:
        """True if the collection has a word for everything that is asked."""
        return all(
            any(all(plain_stem(stem) in self.vocabulary for stem in way.stems) for way in unit.ways)
            for unit in query.units
        )

    async def refresh(self, revision: str) -> None:
        """Reads the collection's words and labels again, if they may have changed."""
        if not self._loaded_at or revision != self._revision:
            await self._load(revision)

    async def _load(self, revision: str) -> None:
        async with self._loading:
            if self._loaded_at and revision == self._revision and time.monotonic() - self._loaded_at < _AGE_S:
                return
            counts, labels, status = await asyncio.gather(
                self._engine.vocabulary(),
                self._engine.facets(FACETS, Filter(), _VALUES),
                self._engine.status(),
            )
            self.vocabulary = await asyncio.to_thread(Vocabulary, counts, status.records)
            self._counts = {(name, value): count for name, values in labels.items() for value, count in values}
            by_stems: dict[Stems, list[Named]] = defaultdict(list)
            for (name, value), count in self._counts.items():
                # "frontal" and "lateral" are planes, and parts of names as well: the lists know when.
                if name not in CLOSED:
                    by_stems[stems_of(value)].append(Named(name, value, count))
            self._labels = dict(by_stems)
            self._revision, self._loaded_at = revision, time.monotonic()

    def uses(self, facet: str) -> bool:
        """True if any record of the collection has a label of this facet."""
        return any(name == facet for name, _ in self._counts)

    def named(self, query: WordQuery) -> list[Named]:
        """Labels that a query names: those of the collection, and a modality, plane or side that it lacks."""
        found: dict[tuple[str, str], Named] = {}
        for unit in query.units:
            for way in unit.ways:
                for label in self._labels.get(way.stems, ()):
                    found[label.facet, label.value] = label
            for way in unit.literal:
                for name, value in self.synonyms.named(way.stems):
                    count = self._counts.get((name, value), 0)
                    if count or name in CLOSED:
                        found.setdefault((name, value), Named(name, value, count))
        return list(found.values())

    def expanded(self, query: WordQuery) -> dict[str, tuple[str, ...]]:
        """Other expressions of the collection that are searched too, by what was typed."""
        found = {
            unit.text: tuple(
                other.text
                for other in unit.others
                if all(stem in self.vocabulary for stem in other.stems)
                # "ankle" finds "ankle joint" anyway.
                and not any(set(way.stems) <= set(other.stems) for way in unit.literal)
            )
            for unit in query.units
        }
        return {text: others for text, others in found.items() if others}

    def close(self) -> None:
        """Stops what it does in the background."""
        if self._refreshing is not None:
            self._refreshing.cancel()
