"""The server engine: a Qdrant server (or cluster) over gRPC."""

import asyncio
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any, TypeVar

from qdrant_client import AsyncQdrantClient, models

from mirage_core import context, telemetry
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import (
    CASE,
    DIGESTS,
    EVERYTHING,
    FORMS,
    ORDERS,
    VOCABULARY_MAX,
    WORD_IDS,
    WORDS,
    Collection,
    Filter,
    Graph,
    Hit,
    Like,
    Placed,
    Point,
    Saying,
    Search,
    Space,
    Status,
    Stored,
    Walked,
)
from mirage_retriever.engines.qdrant_nodes import Nodes, RefusedError, Request, unavailable
from mirage_retriever.engines.qdrant_points import to_filter, to_hit, to_keys, to_server, to_stored

_log = telemetry.get_logger()

T = TypeVar("T")

_UPSERT_CHUNK = 64
_GRAPH = Graph()
# The server stores before it answers, and a cluster agrees before it makes a collection.
_WRITE_S = 10.0
_CREATE_S = 30.0
_LOOK_AGAIN_S = 0.1
_KEPT = "kept_{}"
_SHOWN = models.PayloadSelectorInclude(include=["id", "record"])


class QdrantEngine:
    """A collection on a server, made with a named vector a space; see engines/base.py for what each call does.

    What the collection is bound to is in its metadata on the server. Writes wait until the server has applied them; it logs them
    before. The engine does not close `nodes`: they are shared.
    """

    def __init__(
        self,
        nodes: Nodes,
        *,
        name: str,
        facets: Sequence[str],
        shards: int = 1,
        replicas: int = 1,
        graph: Graph = _GRAPH,
    ) -> None:
        self._nodes = nodes
        self._name = name
        self._facet_names = tuple(facets)
        self._shards = shards
        self._replicas = replicas
        self._graph = graph
        self._has_words = True

    @property
    def version(self) -> str:
        """Its name and the client's version."""
        return f"qdrant (client {version('qdrant-client')})"

    @property
    def exclusive(self) -> bool:
        """False: other retrievers may use the same server."""
        return False

    @property
    def answers(self) -> bool:
        """True while a node answers."""
        return self._nodes.answers

    async def _call(self, request: Request[T], *, timeout_s: float | None = None) -> T:
        try:
            return await self._nodes.call(request, timeout_s=timeout_s)
        except RefusedError as error:
            raise MirageError(error.code, retry_after_s=error.retry_after_s, name=self._name) from error

    async def open(self) -> Collection | None:
        """Returns the collection's model, from its metadata. Raises COLLECTION_FOREIGN for a collection that is not ours.

        Indexes that are missing, because the process that made the collection died, are made.
        """
        if not await self._call(self._exists):
            return None
        try:
            info = await self._call(self._info)
        except MirageError as error:
            if error.code is Code.COLLECTION_NOT_FOUND:
                return None
            raise
        collection = self._bound(info)
        await self._index(info)
        return collection

    def _exists(self, client: AsyncQdrantClient) -> Coroutine[Any, Any, bool]:
        return client.collection_exists(self._name)

    def _info(self, client: AsyncQdrantClient) -> Coroutine[Any, Any, models.CollectionInfo]:
        return client.get_collection(self._name)

    def _bound(self, info: models.CollectionInfo) -> Collection:
        """Returns the collection's model if its vectors are as its metadata says."""
        stored: Any = (info.config.metadata or {}).get("mirage")
        vectors = info.config.params.vectors
        try:
            collection = Collection(**stored)
        except TypeError:
            raise MirageError(Code.COLLECTION_FOREIGN, name=self._name) from None
        params = [vectors.get(str(space)) for space in Space] if isinstance(vectors, dict) else [None]
        for each in params:
            if each is None or each.size != collection.dimension or each.distance is not models.Distance.COSINE:
                raise MirageError(Code.COLLECTION_FOREIGN, name=self._name)
        return collection

    async def create(self, collection: Collection) -> None:
        """Makes the collection with its payload indexes, or takes the one that another retriever is making at this moment."""
        if not await self._call(self._exists):
            await self._make(collection)
        info = await self._settled()
        if self._bound(info) != collection:
            raise MirageError(Code.COLLECTION_EXISTS, name=self._name)
        await self._index(info)

    async def _make(self, collection: Collection) -> None:
        params = models.VectorParams(size=collection.dimension, distance=models.Distance.COSINE)
        try:
            await self._call(
                lambda client: client.create_collection(
                    self._name,
                    vectors_config={str(space): params for space in Space},
                    sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                    shard_number=self._shards,
                    replication_factor=self._replicas,
                    hnsw_config=models.HnswConfigDiff(m=self._graph.m, ef_construct=self._graph.ef_construct),
                    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=self._graph.indexing_threshold_kb),
                    metadata={"mirage": asdict(collection)},
                ),
                timeout_s=_CREATE_S,
            )
        except MirageError as error:
            # Whatever the reason was, such as another retriever's being first, what counts is whether there is one now.
            if error.code is not Code.COLLECTION_EXISTS and not await self._call(self._exists):
                raise

    async def _settled(self) -> models.CollectionInfo:
        """The collection's state once it can be used; raises DEPENDENCY_UNAVAILABLE if it does not come to that."""
        end = time.monotonic() + context.remaining_s(_CREATE_S)
        while True:
            try:
                info = await self._call(self._info)
            except MirageError as error:
                # Its name is taken before it can be looked at.
                if error.code is not Code.COLLECTION_NOT_FOUND or time.monotonic() >= end:
                    raise
            else:
                # One with records may be yellow for long while its graph is built, and is searched all the same.
                if info.status is models.CollectionStatus.GREEN or info.points_count:
                    return info
                if time.monotonic() >= end:
                    _log.error("qdrant collection is not ready", name=self._name, status=str(info.status))
                    raise unavailable()
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _index(self, info: models.CollectionInfo) -> None:
        """Makes the payload indexes that are not there yet, and the vector of words; a collection of an older version lacks
        some.
        """
        if WORDS not in (info.config.params.sparse_vectors or {}):
            await self._add_words()
        keyword = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
        number = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False)
        place = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True)
        names = (*(f"facets.{name}" for name in self._facet_names), *DIGESTS, FORMS, CASE)
        indexes: dict[str, Any] = {
            **dict.fromkeys(names, keyword),
            **{f"order.{name}": place for name in ORDERS},
            WORD_IDS: number,
        }
        for field, schema in indexes.items():
            if field not in info.payload_schema:
                await self._call(_indexing(self._name, field, schema), timeout_s=_CREATE_S)

    async def _add_words(self) -> None:
        config = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF))
        try:
            await self._nodes.call(
                lambda client: client.create_vector_name(self._name, WORDS, config), timeout_s=_CREATE_S
            )
        except RefusedError as error:
            self._has_words = False
            _log.error("qdrant cannot add words", name=self._name, status=error.status.name)

    @property
    def has_words(self) -> bool:
        """False for a collection of an older version on a server that cannot add a vector to it."""
        return self._has_words

    async def rebind(self, collection: Collection) -> None:
        """Updates the metadata."""
        await self._update_metadata({"mirage": asdict(collection)})

    async def _update_metadata(self, metadata: dict[str, Any]) -> None:
        await self._call(lambda client: client.update_collection(self._name, metadata=metadata), timeout_s=_CREATE_S)

    async def drop(self) -> None:
        """Deletes the collection on the server."""
        await self._call(lambda client: client.delete_collection(self._name), timeout_s=_CREATE_S)

    async def search(self, requests: Sequence[Search]) -> list[list[Hit]]:
        """All searches in one round trip."""
        queries = [
            models.QueryRequest(
                limit=request.limit, filter=to_filter(request.filter), with_payload=_SHOWN, **self._query(request)
            )
            for request in requests
        ]
        answers = await self._call(lambda client: client.query_batch_points(self._name, requests=queries))
        return [
            sorted(
                (to_hit(point) for point in answer.points),
                key=lambda hit: (-hit.score, hit.id),
            )
            for answer in answers
        ]

    def _query(self, request: Search) -> dict[str, Any]:
        match request:
            case Saying():
                words = models.SparseVector(indices=request.ids.tolist(), values=request.weights.tolist())
                return {"query": words, "using": WORDS}
            case Like():
                like, unlike = ([each.tolist() for each in side] for side in (request.positives, request.negatives))
                examples = models.RecommendInput(
                    positive=like, negative=unlike, strategy=models.RecommendStrategy.BEST_SCORE
                )
                return {"query": models.RecommendQuery(recommend=examples), "using": str(request.space)}
            case _:
                params = models.SearchParams(
                    hnsw_ef=max(self._graph.ef, request.limit),
                    exact=request.exact,
                    acorn=models.AcornSearchParams(enable=bool(request.filter.where)),
                )
                return {
                    "query": request.vector.tolist(),
                    "using": str(request.space),
                    "params": params,
                    "score_threshold": request.threshold,
                }

    async def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Stored]:
        """The points that are there."""
        keys = to_keys(ids)
        points = await self._call(
            lambda client: client.retrieve(self._name, ids=keys, with_payload=["id", "record"], with_vectors=vectors)
        )
        found = [to_stored(point, vectors=vectors) for point in points]
        return {point.id: point for point in found}

    async def upsert(self, points: Sequence[Point]) -> None:
        """Stores points, and returns when the server has."""
        for start in range(0, len(points), _UPSERT_CHUNK):
            chunk = [to_server(point, words=self._has_words) for point in points[start : start + _UPSERT_CHUNK]]
            await self._call(_upserting(self._name, chunk), timeout_s=_WRITE_S)

    async def delete(self, ids: Sequence[str]) -> int:
        """Removes points; how many were there."""
        keys = to_keys(dict.fromkeys(ids))
        there = await self._call(lambda client: client.retrieve(self._name, ids=keys, with_payload=False))
        if there:
            selector = models.PointIdsList(points=[point.id for point in there])
            await self._call(
                lambda client: client.delete(self._name, points_selector=selector, wait=True), timeout_s=_WRITE_S
            )
        return len(there)

    async def count(self, *, facet: str, value: str) -> int:
        """Points that carry the value."""
        key = facet if facet in DIGESTS else f"facets.{facet}"
        only = models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])
        answer = await self._call(lambda client: client.count(self._name, count_filter=only, exact=True))
        return answer.count

    async def total(self, among: Filter) -> int:
        """The number of points that pass."""
        only = to_filter(among)
        return (await self._call(lambda client: client.count(self._name, count_filter=only, exact=True))).count

    async def cases(self, ids: Sequence[str], among: Filter) -> dict[str, int]:
        """One request."""
        only, most = to_filter(replace(among, cases=tuple(ids))), max(1, len(ids))
        answer = await self._call(
            lambda client: client.facet(self._name, key=CASE, facet_filter=only, limit=most, exact=True)
        )
        return {str(hit.value): hit.count for hit in answer.hits if hit.count}

    async def facets(self, names: Sequence[str], among: Filter, limit: int) -> dict[str, list[tuple[str, int]]]:
        """One request a facet, all at the same time."""
        only = to_filter(among)

        async def counted(key: str) -> models.FacetResponse:
            return await self._call(
                lambda client: client.facet(self._name, key=key, facet_filter=only, limit=1_000, exact=True)
            )

        answers = await asyncio.gather(*(counted(f"facets.{name}") for name in names))
        return {
            name: sorted(
                ((str(hit.value), hit.count) for hit in answer.hits if hit.count), key=lambda item: (-item[1], item[0])
            )[:limit]
            for name, answer in zip(names, answers, strict=True)
        }

    async def ordered(
        self, name: str, start: int | None, limit: int, among: Filter, *, descending: bool = False
    ) -> list[Placed]:
        """One request."""
        direction = models.Direction.DESC if descending else models.Direction.ASC
        order = models.OrderBy(key=f"order.{name}", direction=direction, start_from=start)
        only = to_filter(among)
        points, _ = await self._call(
            lambda client: client.scroll(
                self._name, scroll_filter=only, limit=limit, order_by=order, with_payload=["id", "record"]
            )
        )
        found = [(each.order_value, each.payload or {}) for each in points]
        return [Placed(int(value), payload["id"], payload["record"]) for value, payload in found if value is not None]

    async def walk(self, position: str, limit: int, *, vectors: bool = False, among: Filter = EVERYTHING) -> Walked:
        """In the order of the server's keys; a position is a key."""
        try:
            offset = str(uuid.UUID(position)) if position else None
        except ValueError as error:
            raise MirageError(Code.PAGE_TOKEN_INVALID) from error
        only = to_filter(among)
        points, following = await self._call(
            lambda client: client.scroll(
                self._name,
                scroll_filter=only,
                limit=limit,
                offset=offset,
                with_payload=["id", "record"],
                with_vectors=vectors,
            )
        )
        return Walked(
            tuple(to_stored(point, vectors=vectors) for point in points),
            tuple(str(point.id) for point in points),
            "" if following is None else str(following),
        )

    async def vocabulary(self) -> dict[str, int]:
        """One request."""
        answer = await self._call(lambda client: client.facet(self._name, key=FORMS, limit=VOCABULARY_MAX, exact=False))
        return {str(hit.value): hit.count for hit in answer.hits if hit.count}

    async def kept(self, name: str) -> str:
        """A part of the metadata."""
        kept = ((await self._call(self._info)).config.metadata or {}).get(_KEPT.format(name), "")
        return kept if isinstance(kept, str) else ""

    async def keep(self, name: str, text: str) -> None:
        """Updates the metadata, of which the rest stays."""
        await self._update_metadata({_KEPT.format(name): text})

    async def showing(self, images: Sequence[str], limit: int) -> dict[str, list[str]]:
        """One request an image, all at the same time."""

        async def ids(image: str) -> list[str]:
            either: list[Any] = [
                models.FieldCondition(key=name, match=models.MatchValue(value=image))
                for name in ("original_sha256", "image_sha256")
            ]
            only = models.Filter(should=either)
            points, _ = await self._call(
                lambda client: client.scroll(self._name, scroll_filter=only, limit=limit, with_payload=["id"])
            )
            return sorted(str((point.payload or {})["id"]) for point in points)

        images = list(dict.fromkeys(images))
        found = await asyncio.gather(*map(ids, images))
        return {image: there for image, there in zip(images, found, strict=True) if there}

    async def status(self) -> Status:
        """Points and indexed points."""
        info = await self._call(self._info)
        records = info.points_count or 0
        # Words count as an indexed vector, in a graph or not.
        having = models.Filter(must=[models.HasVectorCondition(has_vector=WORDS)])
        words = (await self._call(lambda client: client.count(self._name, count_filter=having))).count
        indexed = max(0, (info.indexed_vectors_count or 0) - words)
        return Status(records, min(records, indexed // len(Space)))

    async def rewrite(self) -> bool:
        """Does nothing: the server's optimizer drops what was replaced."""
        return False

    async def close(self) -> None:
        """Does nothing: the connections are shared."""


def _upserting(name: str, points: list[models.PointStruct]) -> Request[Any]:
    return lambda client: client.upsert(name, points=points, wait=True)


def _indexing(name: str, field: str, schema: Any) -> Request[Any]:
    return lambda client: client.create_payload_index(name, field_name=field, field_schema=schema)
