"""Hybrid search: records whose text says it first, then those that look like it, in one list."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from mirage_retriever.algebra import Array
from mirage_retriever.engines.base import Condition, Engine, Filter, Hit, Nearest, Saying, Search, Space
from mirage_retriever.pages import DEPTH_MAX, Position
from mirage_retriever.query import Query
from mirage_retriever.records import Record
from mirage_retriever.words.matches import Spans, find
from mirage_retriever.words.queries import WordQuery

# A longer tie is cut by the engine's own order.
_TIE_LIMIT = 4 * DEPTH_MAX


class Section(StrEnum):
    """The reason why a record is in a list."""

    WORDS = "words"
    LIKENESS = "likeness"


class Tier(IntEnum):
    """The parts of a list, in their order: every word is said, some are, or it only looks like it."""

    EVERY = 0
    SOME = 1
    ALIKE = 2


@dataclass(frozen=True)
class Found:
    """One result. `record` is JSON as records.Record makes it; `score` orders within its tier, `cosine` compares query and image.

    `matched` are the places of the words that were asked for, and `said` is the share of them that the record says, not
    counting its history, what it denies ("no effusion"), and what it says apart from the word that it belongs to. Searches by
    vectors have neither tiers nor words.
    """

    id: str
    score: float
    cosine: float | None
    record: str
    tier: Tier = Tier.ALIKE
    matched: Spans | None = None
    said: float = 0.0
    # The case and how many of its records pass the filter, in a search grouped by case.
    case: tuple[str, int] | None = None

    @property
    def section(self) -> Section:
        """The section of its tier."""
        return Section.LIKENESS if self.tier is Tier.ALIKE else Section.WORDS


class Hybrid:
    """One page of a query: `said` needs no vector, so that it can run while the query is encoded; `alike` does."""

    def __init__(
        self, engine: Engine, query: Query, words: WordQuery, tiers: Sequence[Tier], position: Position | None
    ) -> None:
        self._engine = engine
        self._query = query
        self._words = words
        self._tiers = tuple(tiers)
        self._position = position
        self._need = query.k + 1

    async def said(self) -> list[Found]:
        """The records of the page whose text says it, and one more if there is one."""
        first = Tier.EVERY if self._position is None else Tier(self._position.tier)
        tiers = [tier for tier in self._tiers if tier is not Tier.ALIKE and tier >= first]
        if not tiers:
            return []
        ids, weights = self._words.weights
        requests = [Saying(ids, weights, self._start(tier) + self._need, self._filter(tier)) for tier in tiers]
        found: list[Found] = []
        for tier, request, hits in zip(tiers, requests, await self._engine.search(requests), strict=True):
            missing = self._need - len(found)
            if missing > 0:
                found += (await self._sifted(tier, request, hits))[:missing]
        return found

    async def _sifted(self, tier: Tier, request: Saying | Nearest, hits: list[Hit]) -> list[Found]:
        """The hits that follow the position and say the phrases that were asked for; more are fetched for those left out."""
        while True:
            hits = await whole_tie(self._engine, request, hits)
            kept = self._after(tier, [self._found(tier, hit) for hit in hits])
            complete = len(hits) < request.limit or request.limit >= DEPTH_MAX
            if complete or not self._words.has_phrases or len(kept) >= self._need:
                return kept
            request = replace(request, limit=min(DEPTH_MAX, 4 * request.limit))
            [hits] = await self._engine.search([request])

    def _found(self, tier: Tier, hit: Hit) -> Found | None:
        cosine = hit.score if tier is Tier.ALIKE else None
        found = Found(hit.id, hit.score, cosine, hit.record, tier)
        if not self._words.has_phrases:
            return found
        record = Record.from_json(hit.record)
        if any(find(record, [[way] for way in self._words.without]).said):
            return None
        if tier is Tier.ALIKE:
            return found
        return found if all(find(record, self._words.phrases).said) else None

    def _after(self, tier: Tier, found: Sequence[Found | None]) -> list[Found]:
        kept = sorted((each for each in found if each is not None), key=lambda each: (-each.score, each.id))
        position = self._position
        if position is None or position.tier != tier:
            return kept
        return [each for each in kept if (-each.score, each.id) > (-position.score, position.id)]

    async def alike(self, said: list[Found], vector: Array | None) -> list[Found]:
        """The page: what was said with its cosines, and then what looks like it."""
        missing = self._need - len(said)
        requests: list[Nearest] = []
        if vector is not None and said:
            ids = tuple(found.id for found in said)
            requests.append(Nearest(vector, Space.IMAGE, len(ids), Filter(only=ids), exact=True))
        if vector is not None and Tier.ALIKE in self._tiers and missing > 0:
            limit = self._start(Tier.ALIKE) + missing
            requests.append(
                Nearest(vector, Space.IMAGE, limit, self._filter(Tier.ALIKE), min_score=self._query.min_score)
            )
        answers = await self._engine.search(requests) if requests else []
        if said and vector is not None:
            cosines = {hit.id: hit.score for hit in answers[0]}
            said = [replace(found, cosine=cosines.get(found.id)) for found in said]
        if len(answers) > bool(said):
            said = said + (await self._sifted(Tier.ALIKE, requests[-1], answers[-1]))[:missing]
        return said

    def _start(self, tier: Tier) -> int:
        """The number of records of the tier on the pages before."""
        return self._position.within if self._position is not None and self._position.tier == tier else 0

    def _filter(self, tier: Tier) -> Filter:
        """The records of a tier, which are those of no tier before it."""
        says: Condition = ()
        silent = self._words.excluded
        condition = self._words.condition
        if tier is Tier.EVERY:
            says = condition
        elif tier is Tier.SOME:
            says, silent = self._words.required, (*silent, condition)
        elif Tier.SOME in self._tiers:
            silent = (*silent, self._words.any)
        elif Tier.EVERY in self._tiers:
            silent = (*silent, condition)
        return replace(self._query.filter, says=says, silent=silent)


def marked(found: Found, words: WordQuery) -> Found:
    """Adds the places of the words, if they are missing. It reads the record's texts, so only what is shown is marked."""
    if found.matched is not None:
        return found
    if not words.units:
        return replace(found, matched={})
    matched = find(Record.from_json(found.record), words.things, words.pairs)
    said = (sum(matched.strongly) - len(matched.apart)) / len(matched.strongly)
    return replace(found, matched=matched.spans, said=said)


async def whole_tie(engine: Engine, request: Search, hits: list[Hit]) -> list[Hit]:
    """Returns the hits. If the engine's limit cut a tie, the rest of the tie is added, because the engine's order of a tie is
    arbitrary.
    """
    limit = request.limit
    while len(hits) == limit > 1 and hits[-1].score == hits[-2].score and limit < _TIE_LIMIT:
        limit = min(_TIE_LIMIT, 4 * limit)
        [hits] = await engine.search([replace(request, limit=limit)])
    return hits
