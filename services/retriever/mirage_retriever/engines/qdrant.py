"""The server engine: a Qdrant server (or cluster) over gRPC."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, TypeVar

import grpc
import httpx
import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from mirage_core import context
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import (
    DIGESTS,
    Array,
    Collection,
    Filter,
    Graph,
    Hit,
    Nearest,
    Point,
    Space,
    Status,
    Stored,
    Walked,
)
from mirage_retriever.engines.identity import point_id

T = TypeVar("T")

_UPSERT_CHUNK = 64
_GRAPH = Graph()
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class QdrantEngine:
    """A collection on a server, made with a named vector a space; see engines/base.py for what each call does.

    What the collection is bound to stands in its metadata on the server. Writes wait until the server has applied them;
    it logs them before. `client` may also be qdrant-client's own simulator (`AsyncQdrantClient(":memory:")`), in tests.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        *,
        name: str,
        facets: Sequence[str],
        timeout_s: float = 10.0,
        shards: int = 1,
        replicas: int = 1,
        graph: Graph = _GRAPH,
        shared: bool = False,
    ) -> None:
        self._client = client
        self._shared = shared
        self._name = name
        self._facet_names = tuple(facets)
        self._timeout_s = timeout_s
        self._shards = shards
        self._replicas = replicas
        self._graph = graph

    @classmethod
    def connect(cls, url: str, *, api_key: str | None, grpc_port: int = 6334, **options: Any) -> "QdrantEngine":
        """An engine on the server at `url` (its HTTP address); calls go over gRPC."""
        return cls(connect(url, api_key=api_key, grpc_port=grpc_port), **options)

    @property
    def version(self) -> str:
        """Its name and the client's version."""
        return f"qdrant (client {version('qdrant-client')})"

    async def _call(self, method: Callable[..., Coroutine[Any, Any, T]], **arguments: Any) -> T:
        timeout_s = context.remaining_s(self._timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await method(collection_name=self._name, **arguments)
        except TimeoutError as error:
            raise _unavailable() from error
        except grpc.aio.AioRpcError as error:
            raise (_unavailable() if error.code() in _AWAY else MirageError(Code.INTERNAL)) from error
        except (ResponseHandlingException, httpx.TransportError) as error:
            raise _unavailable() from error
        except UnexpectedResponse as error:
            away = error.status_code in (502, 503, 504)
            raise (_unavailable() if away else MirageError(Code.INTERNAL)) from error

    async def open(self) -> Collection | None:
        """What the collection is bound to, by its metadata; raises RECORD_INVALID for one that is not ours."""
        if not await self._call(self._client.collection_exists):
            return None
        info = await self._call(self._client.get_collection)
        stored = (info.config.metadata or {}).get("mirage")
        if not isinstance(stored, dict):
            raise MirageError(Code.RECORD_INVALID, field=f"collection {self._name} (made by something else)")
        # A collection of an older version lacks some of them.
        await self._index(name for name in DIGESTS if name not in (info.payload_schema or {}))
        return Collection(**stored)

    async def create(self, collection: Collection) -> None:
        """Makes the collection with its payload indexes."""
        await self._call(self._client.delete_collection)
        params = models.VectorParams(size=collection.dimension, distance=models.Distance.COSINE)
        await self._call(
            self._client.create_collection,
            vectors_config={str(space): params for space in Space},
            shard_number=self._shards,
            replication_factor=self._replicas,
            hnsw_config=models.HnswConfigDiff(m=self._graph.m, ef_construct=self._graph.ef_construct),
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=self._graph.indexing_threshold_kb),
            metadata={"mirage": asdict(collection)},
        )
        await self._index((*(f"facets.{name}" for name in self._facet_names), *DIGESTS))

    async def _index(self, fields: Iterable[str]) -> None:
        for field in fields:
            await self._call(
                self._client.create_payload_index,
                field_name=field,
                field_schema=models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD),
            )

    async def search(self, requests: Sequence[Nearest]) -> list[list[Hit]]:
        """All searches in one round trip."""
        answers = await self._call(
            self._client.query_batch_points,
            requests=[
                models.QueryRequest(
                    query=request.vector.tolist(),
                    using=str(request.space),
                    limit=request.limit,
                    filter=_filter(request.filter),
                    params=models.SearchParams(
                        hnsw_ef=max(self._graph.ef, request.limit),
                        exact=request.exact,
                        acorn=models.AcornSearchParams(enable=bool(request.filter.where)),
                    ),
                    score_threshold=request.threshold,
                    with_payload=models.PayloadSelectorInclude(include=["id", "record"]),
                )
                for request in requests
            ],
        )
        return [
            sorted(
                (_hit(point) for point in answer.points),
                key=lambda hit: (-hit.score, hit.id),
            )
            for answer in answers
        ]

    async def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Stored]:
        """The points that are there."""
        points = await self._call(
            self._client.retrieve, ids=_keys(ids), with_payload=["id", "record"], with_vectors=vectors
        )
        found = [_stored(point, vectors=vectors) for point in points]
        return {point.id: point for point in found}

    async def upsert(self, points: Sequence[Point]) -> None:
        """Stores points, and returns when the server has."""
        for start in range(0, len(points), _UPSERT_CHUNK):
            await self._call(
                self._client.upsert,
                points=[_to_server(point) for point in points[start : start + _UPSERT_CHUNK]],
                wait=True,
            )

    async def delete(self, ids: Sequence[str]) -> int:
        """Removes points; how many were there."""
        there = await self._call(self._client.retrieve, ids=_keys(dict.fromkeys(ids)), with_payload=False)
        if there:
            selector = models.PointIdsList(points=[point.id for point in there])
            await self._call(self._client.delete, points_selector=selector, wait=True)
        return len(there)

    async def count(self, *, facet: str, value: str) -> int:
        """Points that carry the value."""
        key = facet if facet in DIGESTS else f"facets.{facet}"
        condition = models.FieldCondition(key=key, match=models.MatchValue(value=value))
        answer = await self._call(self._client.count, count_filter=models.Filter(must=[condition]), exact=True)
        return answer.count

    async def facets(self, names: Sequence[str], among: Filter, limit: int) -> dict[str, list[tuple[str, int]]]:
        """One request a facet, all at the same time."""
        answers = await asyncio.gather(
            *(
                self._call(
                    self._client.facet,
                    key=f"facets.{name}",
                    facet_filter=_filter(among),
                    limit=1_000,
                    exact=True,
                )
                for name in names
            )
        )
        return {
            name: sorted(
                ((str(hit.value), hit.count) for hit in answer.hits if hit.count), key=lambda item: (-item[1], item[0])
            )[:limit]
            for name, answer in zip(names, answers, strict=True)
        }

    async def walk(self, position: str, limit: int, *, vectors: bool = False) -> Walked:
        """In the order of the server's keys; a position is a key."""
        try:
            offset = str(uuid.UUID(position)) if position else None
        except ValueError as error:
            raise MirageError(Code.PAGE_TOKEN_INVALID) from error
        points, following = await self._call(
            self._client.scroll, limit=limit, offset=offset, with_payload=["id", "record"], with_vectors=vectors
        )
        return Walked(
            tuple(_stored(point, vectors=vectors) for point in points),
            tuple(str(point.id) for point in points),
            "" if following is None else str(following),
        )

    async def showing(self, images: Sequence[str], limit: int) -> dict[str, list[str]]:
        """One request an image, all at the same time."""

        async def ids(image: str) -> list[str]:
            either: list[Any] = [
                models.FieldCondition(key=name, match=models.MatchValue(value=image))
                for name in ("original_sha256", "image_sha256")
            ]
            points, _ = await self._call(
                self._client.scroll, scroll_filter=models.Filter(should=either), limit=limit, with_payload=["id"]
            )
            return sorted(str((point.payload or {})["id"]) for point in points)

        images = list(dict.fromkeys(images))
        found = await asyncio.gather(*map(ids, images))
        return {image: there for image, there in zip(images, found, strict=True) if there}

    async def status(self) -> Status:
        """Points and indexed points."""
        info = await self._call(self._client.get_collection)
        records = info.points_count or 0
        return Status(records, min(records, (info.indexed_vectors_count or 0) // len(Space)))

    async def close(self) -> None:
        """Closes the connection, where it is not shared with others."""
        if not self._shared:
            await self._client.close()


def connect(url: str, *, api_key: str | None, grpc_port: int) -> AsyncQdrantClient:
    """A client of the server at `url` (its HTTP address) that calls over gRPC; nothing is sent yet."""
    return AsyncQdrantClient(
        url=url, api_key=api_key or None, grpc_port=grpc_port, prefer_grpc=True, check_compatibility=False
    )


def _hit(point: models.ScoredPoint) -> Hit:
    payload: dict[str, Any] = point.payload or {}
    return Hit(payload["id"], point.score, payload["record"])


def _stored(point: models.Record, *, vectors: bool) -> Stored:
    payload: dict[str, Any] = point.payload or {}
    image, caption = (_array(point.vector, space) if vectors else None for space in Space)
    return Stored(payload["id"], payload["record"], image, caption)


def _keys(ids: Iterable[str]) -> list[Any]:
    return [str(point_id(i)) for i in ids]


def _array(vector: Any, space: Space) -> Array:
    return np.asarray(vector[str(space)], dtype=np.float32)


def _to_server(point: Point) -> models.PointStruct:
    # A server refuses neither NaN nor Inf.
    if not (np.isfinite(point.image).all() and np.isfinite(point.caption).all()):
        raise MirageError(Code.VECTOR_NOT_FINITE)
    return models.PointStruct(
        id=str(point_id(point.id)),
        vector={"image": point.image.tolist(), "caption": point.caption.tolist()},
        payload={
            "id": point.id,
            "record": point.record,
            "facets": {name: list(values) for name, values in point.facets.items()},
            **{name: digest for name in DIGESTS if (digest := getattr(point, name))},
        },
    )


def _filter(condition: Filter) -> models.Filter | None:
    must: list[Any] = [
        models.FieldCondition(key=f"facets.{name}", match=models.MatchAny(any=list(values)))
        for name, values in condition.where.items()
    ]
    if condition.only is not None:
        must.append(models.HasIdCondition(has_id=_keys(condition.only)))
    must_not: list[Any] = [models.HasIdCondition(has_id=_keys(condition.exclude))] if condition.exclude else []
    return models.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def _unavailable() -> MirageError:
    return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="qdrant")
