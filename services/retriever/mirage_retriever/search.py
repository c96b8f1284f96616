"""Search and compare: from a query to results, a report of how it was understood, and a word on how well they match."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from mirage_core import limits, tracing
from mirage_core.errors import Code, MirageError
from mirage_core.fusion import fused
from mirage_retriever.algebra import Array, Combination, combine, cosine
from mirage_retriever.arrange import grouped, varied
from mirage_retriever.atlas import Atlas
from mirage_retriever.browse import Listing
from mirage_retriever.engines.base import Engine, Filter, Hit, Like, Nearest, Space
from mirage_retriever.hybrid import Found, Hybrid, Tier, marked, whole_tie
from mirage_retriever.match import Match, kind_of
from mirage_retriever.pages import DEPTH_MAX, PageTokens, Position
from mirage_retriever.query import Id, Mode, Query, Term, Text, check_query, check_terms
from mirage_retriever.records import Record
from mirage_retriever.reply import Answered, Common, Comparison, Reply, Wording
from mirage_retriever.terms import Resolved, TermEncoder, resolve
from mirage_retriever.words.lexicon import Named
from mirage_retriever.words.queries import WordQuery, read_query

# Length of each ranking that is fused, on every page, so that pages agree.
_FUSION_DEPTH = 200
# Results that are looked at to judge them.
_FIRST = 5
_HALF = 0.5
# Results from which a page that is grouped or varied is made, at first.
_ARRANGED = 50
# Above every BM25 score.
_ID_SCORE = 1e6
# Results that are varied.
_VARIED = 100


@dataclass(frozen=True, eq=False)
class _Side:
    """A query on its way: with its vector, and where its page starts."""

    query: Query
    terms: tuple[Resolved, ...]
    combination: Combination | None
    position: Position | None
    digest: bytes
    words: WordQuery | None = None
    # Records that results are like and unlike: their vectors.
    likes: tuple[Array, ...] = ()
    unlikes: tuple[Array, ...] = ()

    @property
    def vector(self) -> Array:
        assert self.combination is not None  # noqa: S101 -- only a search of words alone has none
        return self.combination.vector

    @property
    def kind(self) -> str | None:
        """The kind of query that it is judged as."""
        if self.query.mode is Mode.CAPTIONS:
            return "caption"
        return "image" if self.query.positive else kind_of(self.query.terms)

    @property
    def offset(self) -> int:
        return self.position.offset if self.position else 0


class Search:
    """Answers searches from one atlas, and from `common` what is there already."""

    def __init__(self, atlas: Atlas, encoder: TermEncoder, common: Common | None = None) -> None:
        self._atlas = atlas
        self._encoder = encoder
        self._common = common

    @property
    def _engine(self) -> Engine:
        return self._atlas.engine

    async def search(self, query: Query) -> Reply:
        """The answer to a query, which need not have been checked; raises MirageError."""
        started = time.perf_counter()
        query = check_query(query)
        if not query.asks:
            return await self._list(query, started)
        digest, tokens = query.digest(), PageTokens.of(self._atlas.collection)
        if self._common is not None and (known := self._common.answer(query, self._atlas)) is not None:
            side = _Side(query, (known.term,), known.combination, None, digest, known.words)
            cached = list(known.found)
            if query.by_case:
                cached = grouped(cached)
            if not query.by_case or len(cached) > query.k:
                cached = await self._counted(query, cached)
                return self._reply(side, cached, tokens, search_ms=0.0, started=started, cached=True)
        position = tokens.read(query.page_token, digest) if query.page_token else None
        if not (query.by_case or query.variety):
            side, found, search_ms = await self._find(_Side(query, (), None, position, digest))
            return self._reply(side, found, tokens, search_ms=search_ms, started=started)
        return await self._arranged(_Side(query, (), None, position, digest), self._find, started)

    async def _list(self, query: Query, started: float) -> Reply:
        listing = Listing(self._atlas, query)
        total = await listing.total()
        rows, token = await listing.page(query.k, query.page_token)
        found = [Found(row.id, 0.0, None, row.record) for row in rows]
        if query.by_case:
            found = await self._counted(query, grouped(found))
        spent = (time.perf_counter() - started) * 1000
        fingerprint = self._atlas.collection.fingerprint
        return Reply(tuple(found), Match.NOT_JUDGED, (), None, token, fingerprint, spent, spent, total=total)

    async def _find(self, side: _Side) -> tuple[_Side, list[Found], float]:
        """The results after the side's position, up to k and one more; what was resolved before is not resolved again."""
        query = side.query
        if query.text is not None and query.mode in (Mode.HYBRID, Mode.WORDS):
            return await self._by_words(side, query.text)
        if query.positive:
            side = side if side.likes else await self._with_examples(side)
            find = self._alike
        else:
            if side.combination is None:
                terms = await self._resolve(query.terms, query.mode)
                side = replace(side, terms=tuple(terms), combination=_combine(terms))
            find = self._fused if query.mode is Mode.FUSED else self._ranked
        searching = time.perf_counter()
        with tracing.span("search.nearest", queries=1, vectors=str(query.mode)):
            [found] = await find([side])
        return side, found, (time.perf_counter() - searching) * 1000

    async def _arranged(
        self, side: _Side, find: Callable[[_Side], Awaitable[tuple[_Side, list[Found], float]]], started: float
    ) -> Reply:
        """A page of results that are grouped or varied, which needs those of all pages before."""
        query, position = side.query, side.position
        offset = side.offset
        need = offset + query.k + 1
        depth, spent = min(DEPTH_MAX, max(_ARRANGED, 4 * need)), 0.0
        while True:
            wide = replace(side, query=replace(query, k=depth), position=None)
            side, found, search_ms = await find(wide)
            searching = time.perf_counter()
            arranged = grouped(found) if query.by_case else found
            if query.variety:
                arranged = await self._varied(side, arranged)
            spent += search_ms + (time.perf_counter() - searching) * 1000
            if len(arranged) >= need or len(found) <= depth or depth == DEPTH_MAX:
                break
            depth = min(DEPTH_MAX, 4 * depth)
        page = arranged[offset:need]
        if query.by_case:
            page = await self._counted(query, page)
        side = replace(side, query=query, position=position)
        return self._reply(side, page, PageTokens.of(self._atlas.collection), search_ms=spent, started=started)

    async def _counted(self, query: Query, found: list[Found]) -> list[Found]:
        """Grouped results with the number of records of each case."""
        cases = [found_.case[0] for found_ in found if found_.case and found_.case[0]]
        counts = await self._engine.cases(cases, query.filter) if cases else {}
        return [
            found_ if found_.case is None else replace(found_, case=(found_.case[0], counts.get(found_.case[0], 1)))
            for found_ in found
        ]

    async def _varied(self, side: _Side, found: list[Found]) -> list[Found]:
        """Those of the first results that are good in an order that varies them, and then the rest."""
        first = [each for each in found[:_VARIED] if self._is_good(side, each)]
        stored = await self._engine.fetch([each.id for each in first], vectors=True)
        vectors = {id_: point.image for id_, point in stored.items() if point.image is not None}
        chosen, dropped = varied(first, vectors)
        taken = {each.id for each in chosen} | dropped
        return [*chosen, *(each for each in found if each.id not in taken)]

    def _is_good(self, side: _Side, found: Found) -> bool:
        if found.tier is Tier.EVERY:
            return True
        kind = side.kind
        return found.tier is Tier.ALIKE and kind is not None and self._atlas.judge(kind, found.cosine) is Match.GOOD

    async def _with_examples(self, side: _Side) -> _Side:
        """The side with the vectors of its examples; raises RECORD_NOT_FOUND."""
        query = side.query
        ids = (*query.positive, *query.negative)
        found = await self._resolve([Term(Id(id_)) for id_ in ids], query.mode)
        vectors = tuple(each.vector for each in found)
        number = len(query.positive)
        return replace(side, likes=vectors[:number], unlikes=vectors[number:])

    async def _alike(self, sides: Sequence[_Side]) -> list[list[Found]]:
        """As `_ranked`, by examples; the cosine is that with the closest positive one."""
        [side] = sides
        space = Space.CAPTION if side.query.mode is Mode.CAPTIONS else Space.IMAGE
        query = side.query
        exclude = tuple(dict.fromkeys((*query.exclude_ids, *query.positive, *query.negative)))
        filter_ = replace(query.filter, exclude=exclude)
        request = Like(side.likes, side.unlikes, space, side.offset + query.k + 1, filter_)
        [hits] = await self._engine.search([request])
        hits = await whole_tie(self._engine, request, hits)
        found = _after(side.position, [Found(hit.id, hit.score, None, hit.record) for hit in hits], side)
        among = Filter(only=tuple(each.id for each in found))
        exact = [Nearest(vector, space, len(found), among, exact=True) for vector in side.likes if found]
        cosines: dict[str, float] = {}
        for answer in await self._engine.search(exact) if exact else []:
            for hit in answer:
                cosines[hit.id] = max(hit.score, cosines.get(hit.id, -1.0))
        return [[replace(each, cosine=cosines.get(each.id)) for each in found]]

    async def _by_words(self, side: _Side, text: str) -> tuple[_Side, list[Found], float]:
        """Reads the text, and encodes it while the engine looks for its words."""
        query, position = side.query, side.position
        words = side.words or await self._atlas.lexicon.read(text, self._atlas.revision)
        if not words.text:
            raise MirageError(Code.TERM_EMPTY)
        named = await self._named(text, words)
        if named is not None:
            query = replace(query, exclude_ids=(*query.exclude_ids, named.id))
        hybrid = Hybrid(self._engine, query, words, self._tiers(query, words), position)
        encoding: asyncio.Future[list[Resolved]] | None = None
        if query.mode is Mode.HYBRID and side.combination is None:
            term = replace(query.terms[0], value=Text(words.text))
            encoding = asyncio.ensure_future(self._resolve([term], query.mode))
        try:
            searching = time.perf_counter()
            with tracing.span("search.words", words=len(words.units)):
                said = await hybrid.said()
            search_s = time.perf_counter() - searching
            if encoding is not None:
                side = replace(side, terms=tuple(replace(each, label=text) for each in await encoding))
        finally:
            if encoding is not None and not encoding.done():
                encoding.cancel()
        combination = side.combination or (_combine(side.terms) if side.terms else None)
        if named is not None and position is None:
            said.insert(0, named)
        searching = time.perf_counter()
        with tracing.span("search.nearest", queries=1, vectors=str(query.mode)):
            found = await hybrid.alike(said, None if combination is None else combination.vector)
        search_s += time.perf_counter() - searching
        if named is not None:
            spans = {"id": [[0, len(named.id)]]}
            found = [replace(each, matched=spans, said=1.0) if each.id == named.id else each for each in found]
        return replace(side, combination=combination, words=words), found, search_s * 1000

    async def _named(self, text: str, words: WordQuery) -> Found | None:
        """The record whose id the text is, if it is more than a word."""
        text = text.strip()
        if not limits.ID_PATTERN.fullmatch(text) or self._atlas.lexicon.knows(words):
            return None
        stored = (await self._engine.fetch([text])).get(text)
        return None if stored is None else Found(text, _ID_SCORE, None, stored.record, Tier.EVERY)

    def _tiers(self, query: Query, words: WordQuery) -> list[Tier]:
        tiers = [Tier.EVERY] if words.units and self._atlas.has_words else []
        # If likeness is trusted, a record that looks like it is closer than one that says half of it.
        if tiers and len(words.units) > 1 and (query.mode is Mode.WORDS or not self._atlas.is_trusted("text")):
            tiers.append(Tier.SOME)
        return [*tiers, Tier.ALIKE] if query.mode is Mode.HYBRID else tiers

    async def ahead(self, query: Query) -> Answered:
        """The answer to a query of one text and as many results as a page may have, to be kept."""
        query = check_query(query)
        if query.text is None:
            raise MirageError(Code.TERM_EMPTY)
        side, found, _ = await self._by_words(_Side(query, (), None, None, query.digest()), query.text)
        if side.combination is None or side.words is None:
            raise MirageError(Code.REQUEST_MALFORMED, field="mode")
        results = tuple(marked(each, side.words) for each in found)
        return Answered(side.terms[0], side.combination, results, side.words)

    async def compare(self, base: Query, shift: Sequence[Term]) -> Comparison:
        """The base query and the one with the shift's terms added; k, filters and vectors of the base hold for both.

        Page tokens in the replies belong to `search` with the query of that side; one in `base` is refused.
        """
        started = time.perf_counter()
        base = check_query(base)
        if base.page_token:
            raise MirageError(Code.PAGE_TOKEN_INVALID)
        if not base.terms:
            raise MirageError(Code.EMPTY_QUERY)
        check_terms(shift)
        shifted = check_query(replace(base, terms=(*base.terms, *shift)))
        terms = await self._resolve(shifted.terms, base.mode)
        own = terms[: len(base.terms)]
        sides = [
            _Side(base, tuple(own), _combine(own), None, base.digest()),
            _Side(shifted, tuple(terms), _combine(terms), None, shifted.digest()),
        ]
        if base.by_case or base.variety:
            replies = [await self._arranged(side, self._find_by_vectors, started) for side in sides]
        else:
            replies = await self._answer(sides, PageTokens.of(self._atlas.collection), started)
        return Comparison(replies[0], replies[1], cosine(sides[0].vector, sides[1].vector))

    async def _find_by_vectors(self, side: _Side) -> tuple[_Side, list[Found], float]:
        searching = time.perf_counter()
        [found] = await (self._fused if side.query.mode is Mode.FUSED else self._ranked)([side])
        return side, found, (time.perf_counter() - searching) * 1000

    async def _resolve(self, terms: Sequence[Term], mode: Mode) -> list[Resolved]:
        with tracing.span("search.terms", terms=len(terms)):
            return await resolve(
                terms,
                encoder=self._encoder,
                engine=self._engine,
                collection=self._atlas.collection,
                space=Space.CAPTION if mode is Mode.CAPTIONS else Space.IMAGE,
            )

    async def _answer(self, sides: Sequence[_Side], tokens: PageTokens, started: float) -> list[Reply]:
        searching = time.perf_counter()
        find = self._fused if sides[0].query.mode is Mode.FUSED else self._ranked
        with tracing.span("search.nearest", queries=len(sides), vectors=str(sides[0].query.mode)):
            listed = await find(sides)
        search_ms = (time.perf_counter() - searching) * 1000
        return [
            self._reply(side, found, tokens, search_ms=search_ms, started=started)
            for side, found in zip(sides, listed, strict=True)
        ]

    def _reply(
        self,
        side: _Side,
        found: list[Found],
        tokens: PageTokens,
        *,
        search_ms: float,
        started: float,
        cached: bool = False,
    ) -> Reply:
        results, more = tuple(found[: side.query.k]), len(found) > side.query.k
        if side.words is not None:
            results = tuple(marked(each, side.words) for each in results)
        named = () if side.words is None else self._unlabelled(side.words, results)
        match = Match(side.position.match) if side.position else self._judge(side, results, named)
        token = ""
        if more and side.offset + side.query.k < DEPTH_MAX:
            last = results[-1]
            within = sum(each.tier == last.tier for each in results)
            if side.position is not None and side.position.tier == last.tier:
                within += side.position.within
            position = Position(side.offset + side.query.k, last.score, last.id, match, last.tier, within)
            token = tokens.write(position, side.digest)
        return Reply(
            results,
            match,
            side.terms,
            side.combination,
            token,
            self._atlas.collection.fingerprint,
            search_ms,
            (time.perf_counter() - started) * 1000,
            cached,
            None
            if side.words is None
            else Wording(self._atlas.lexicon.expanded(side.words), side.words.corrected, named),
            side.words or self._naming(side.query),
            match_pending=match is Match.NOT_JUDGED and side.kind is not None and self._atlas.awaits_calibration,
        )

    def _naming(self, query: Query) -> WordQuery | None:
        """The words of the texts that a query adds."""
        texts = [term.value.text for term in query.terms if isinstance(term.value, Text) and term.weight > 0]
        lexicon = self._atlas.lexicon
        return read_query(", ".join(texts), lexicon.synonyms, lexicon.vocabulary) if texts else None

    def _unlabelled(self, words: WordQuery, results: Sequence[Found]) -> tuple[Named, ...]:
        """Labels that the query names and none of the first results has, if records have labels of that kind at all."""
        lexicon = self._atlas.lexicon
        named = [label for label in lexicon.named(words) if lexicon.uses(label.facet)]
        if not named:
            return ()
        labels = [Record.from_json(found.record).facets() for found in results[:_FIRST]]
        there = {label.facet for label in named if any(label.is_of(each) for each in labels)}
        return tuple(label for label in named if label.facet not in there)

    def _judge(self, side: _Side, results: Sequence[Found], named: Sequence[Named]) -> Match:
        kind = side.kind
        best = max((found.cosine for found in results if found.cosine is not None), default=None)
        match = self._atlas.judge(kind, best) if kind else Match.NOT_JUDGED
        if side.words is None:
            return match
        said = max((found.said for found in results[:_FIRST]), default=0.0)
        has_every = any(found.tier is Tier.EVERY for found in results)
        if said == 1:
            match = Match.GOOD
        elif match is Match.GOOD and (side.words.corrected or has_every or not self._atlas.lexicon.knows(side.words)):
            # An encoder has rarely learnt a word that no record has, or an expression whose words occur only apart.
            match = Match.WEAK
        elif said >= _HALF or has_every:
            match = Match.GOOD if match is Match.GOOD else Match.WEAK
        return Match.WEAK if match is Match.GOOD and named else match

    async def _ranked(self, sides: Sequence[_Side]) -> list[list[Found]]:
        """Returns for each side the results after its position: up to k, and one more if there is one."""
        space = Space.CAPTION if sides[0].query.mode is Mode.CAPTIONS else Space.IMAGE
        requests = [
            Nearest(side.vector, space, side.offset + side.query.k + 1, side.query.filter, side.query.min_score)
            for side in sides
        ]
        answers = await self._engine.search(requests)
        listed = []
        for side, request, hits in zip(sides, requests, answers, strict=True):
            hits = await whole_tie(self._engine, request, hits)
            listed.append(
                _after(side.position, [Found(hit.id, hit.score, hit.score, hit.record) for hit in hits], side)
            )
        return listed

    async def _fused(self, sides: Sequence[_Side]) -> list[list[Found]]:
        requests = [Nearest(side.vector, space, _FUSION_DEPTH, side.query.filter) for side in sides for space in Space]
        answers = await self._engine.search(requests)
        return await asyncio.gather(
            *(self._fuse(side, *answers[2 * number : 2 * number + 2]) for number, side in enumerate(sides))
        )

    async def _fuse(self, side: _Side, by_image: list[Hit], by_caption: list[Hit]) -> list[Found]:
        ranked = fused([[hit.id for hit in by_image], [hit.id for hit in by_caption]])
        records = {hit.id: hit.record for hit in (*by_image, *by_caption)}
        cosines = {hit.id: hit.score for hit in by_image}
        everything = [Found(id_, score, 0.0, records[id_]) for id_, score in ranked]
        if side.query.min_score is None:
            everything = _after(side.position, everything, side)
        # Records that only their captions brought in: their images' cosines, exactly.
        missing = tuple(found.id for found in everything if found.id not in cosines)
        if missing:
            request = Nearest(side.vector, Space.IMAGE, len(missing), Filter(only=missing), exact=True)
            [hits] = await self._engine.search([request])
            cosines.update((hit.id, hit.score) for hit in hits)
        # A record that was deleted in between is left out.
        everything = [replace(found, cosine=cosines[found.id]) for found in everything if found.id in cosines]
        if side.query.min_score is not None:
            least = side.query.min_score
            everything = [found for found in everything if found.cosine is not None and found.cosine >= least]
            everything = _after(side.position, everything, side)
        return everything


def _combine(terms: Sequence[Resolved]) -> Combination:
    return combine([term.vector for term in terms], [term.weight for term in terms])


def _after(position: Position | None, ranked: list[Found], side: _Side) -> list[Found]:
    """Returns the results after the position in the order of score and id, up to k and one more."""
    if position is not None:
        ranked = [found for found in ranked if (-found.score, found.id) > (-position.score, position.id)]
    return ranked[: side.query.k + 1]
