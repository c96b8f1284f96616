"""One Qdrant Edge shard on disk: its configuration and the operations that the retriever needs of it.

Runs in the searcher and builder processes only, for every call holds the GIL; imports no more than it must, since each
process pays for it.
"""

import sys
import uuid
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as qe

from mirage_core.kept import Kept
from mirage_retriever.engines.edge.shard_shape import ShardShape
from mirage_retriever.engines.identity import point_id

SPACES = ("image", "caption")
# Payload fields that hold digests, as engines/base.py names them. Points of older versions have the first only.
DIGESTS = ("image_sha256", "original_sha256", "pixels_sha256", "regions_sha256")
# The sparse vector of words, and the payload fields of their ids and forms, as engines/base.py names them.
WORDS, WORD_IDS, FORMS = "words", "word_ids", "forms"
# A point's case, and the numbers by which points are read in order, as engines/base.py names them.
CASE, ORDER, ORDERS = "case_id", "order", ("added", "case", "shuffle")
# Memory for records of results, and what one takes beyond its text.
_KEPT_BYTES, _KEPT_MORE = 16 * 2**20, 500
# Payload fields that a point may lack, beyond words.
_MORE = (*DIGESTS, CASE, ORDER)
# Words as they travel: ids (uint32 bytes), weights (float32 bytes), forms.
WordsRow = tuple[bytes, bytes, list[str]]
# A point as it travels: id, image vector, caption vector (float32 bytes), record, facets, what it has of the digests, case and
# order, and its words.
PointRow = tuple[str, bytes, bytes, str, dict[str, list[str]], dict[str, Any], WordsRow]
# A condition on words as it travels: groups of ways, each a list of ids.
ConditionRow = list[list[list[int]]]
# A filter as it travels: where, exclude, only, says, silent, where_not, cases.
FilterRow = tuple[
    dict[str, list[str]],
    list[str],
    list[str] | None,
    ConditionRow,
    list[ConditionRow],
    dict[str, list[str]],
    list[str] | None,
]
# A search as it travels: its kind, and then
# near: vector, space, limit, ef, exact, min_score, filter; say: word ids, weights, limit, filter;
# like: positive vectors, negative vectors, space, limit, filter.
SearchRow = tuple[Any, ...]


def _config(shape: ShardShape) -> "qe.EdgeConfig":
    params = qe.EdgeVectorParams(size=shape.dimension, distance=qe.Distance.Cosine)
    return qe.EdgeConfig(
        vectors=dict.fromkeys(SPACES, params),
        sparse_vectors={WORDS: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
        hnsw_config=qe.HnswIndexConfig(
            m=shape.hnsw_m,
            ef_construct=shape.ef_construct,
            full_scan_threshold=shape.indexing_threshold_kb,
            max_indexing_threads=shape.build_threads,
        ),
        optimizers=qe.EdgeOptimizersConfig(
            default_segment_number=1,
            indexing_threshold=shape.indexing_threshold_kb,
            # One graph for all: a graph per segment costs a search each.
            max_segment_size=1_000_000_000,
        ),
        wal_enabled=True,
    )


class ShardFiles:
    """A shard opened for reading and writing; the engine allows one opener at a time."""

    def __init__(self, shard: "qe.EdgeShard") -> None:
        self._shard = shard
        self._kept = Kept[Any, tuple[str, str]](_KEPT_BYTES)

    @classmethod
    def create(cls, path: Path, shape: ShardShape) -> "ShardFiles":
        """Makes an empty shard with an index on every facet."""
        path.mkdir(parents=True)
        shard = qe.EdgeShard.create(str(path), _config(shape))
        for name in shape.facets:
            shard.update(qe.UpdateOperation.create_field_index(f"facets.{name}", qe.KeywordIndexParams()))
        _index(shard)
        shard.flush()
        return cls(shard)

    @classmethod
    def load(cls, path: Path) -> "ShardFiles":
        """Opens a shard; what its write-ahead log holds beyond the segments is applied first."""
        shard = qe.EdgeShard.load(str(path))
        # A shard of an older version lacks some of them, and the vector of words.
        if WORD_IDS not in shard.info().payload_schema:
            shard.update(qe.UpdateOperation.create_sparse_vector(WORDS, modifier=qe.Modifier.Idf))
        _index(shard)
        return cls(shard)

    def search(self, rows: Sequence[SearchRow]) -> list[list[tuple[str, float, str]]]:
        """For each search its hits: id, cosine or BM25 score, record."""
        kinds: dict[str, Callable[..., list[tuple[str, float, str]]]] = {
            "near": self._near,
            "say": self._say,
            "like": self._like,
        }
        return [kinds[kind](*row) for kind, *row in rows]

    def _near(
        self,
        vector: bytes,
        space: str,
        limit: int,
        ef: int,
        exact: bool,
        min_score: float | None,
        among: FilterRow,
    ) -> list[tuple[str, float, str]]:
        return self._query(
            qe.QueryRequest(
                limit=limit,
                query=qe.Query.Nearest(array("f", vector).tolist(), using=space),
                filter=_filter(*among),
                params=qe.SearchParams(
                    hnsw_ef=max(ef, limit),
                    exact=exact,
                    # Without it a filter that passes a third of the points finds 95 % of the nearest, with it 99.9 %;
                    # the engine itself leaves it out if a filter passes nearly everything.
                    acorn=qe.AcornSearchParams(enable=bool(among[0])),
                ),
                score_threshold=min_score,
                with_payload=False,
            )
        )

    def _say(self, ids: bytes, weights: bytes, limit: int, among: FilterRow) -> list[tuple[str, float, str]]:
        query = qe.Query.Nearest(_sparse(ids, weights), using=WORDS)
        return self._query(qe.QueryRequest(limit=limit, query=query, filter=_filter(*among), with_payload=False))

    def _like(
        self, positives: Sequence[bytes], negatives: Sequence[bytes], space: str, limit: int, among: FilterRow
    ) -> list[tuple[str, float, str]]:
        sides: list[list[Any]] = [[array("f", each).tolist() for each in side] for side in (positives, negatives)]
        query = qe.Query.RecommendBestScore(qe.RecommendQuery(*sides), using=space)
        return self._query(qe.QueryRequest(limit=limit, query=query, filter=_filter(*among), with_payload=False))

    def _query(self, request: "qe.QueryRequest") -> list[tuple[str, float, str]]:
        # Payloads are read apart, for the engine takes longer to read them in a query.
        found = [(point.id, point.score) for point in self._shard.query(request)]
        known = self._known([key for key, _ in found])
        return [(known[key][0], score, known[key][1]) for key, score in found if key in known]

    def _known(self, keys: Sequence[Any]) -> dict[Any, tuple[str, str]]:
        """Id and record of points, by key."""
        known = {key: kept for key in keys if (kept := self._kept.get(key)) is not None}
        if missing := [key for key in keys if key not in known]:
            for point in self._shard.retrieve(missing, ["id", "record"], False):
                if payload := point.payload:
                    known[point.id] = row = payload["id"], payload["record"]
                    self._kept.put(point.id, row, sys.getsizeof(row[1]) + _KEPT_MORE)
        return known

    def fetch(self, ids: Sequence[str], vectors: bool) -> list[tuple[str, str, bytes | None, bytes | None]]:
        """Returns for each point that exists: id, record and, if requested, its two vectors."""
        points = self._shard.retrieve(_keys(ids), ["id", "record"], vectors)
        return [
            (payload["id"], payload["record"], *(_vectors(point) if vectors else (None, None)))
            for point in points
            if (payload := point.payload)
        ]

    def upsert(self, rows: Sequence[PointRow]) -> None:
        """Writes points to the log and the segments; survives the death of the process once it returns."""
        points = [
            qe.Point(
                id=point_id(id_),
                vector={
                    "image": array("f", image).tolist(),
                    "caption": array("f", caption).tolist(),
                    **({WORDS: _sparse(words[0], words[1])} if words[0] else {}),
                },
                payload={
                    "id": id_,
                    "record": record,
                    "facets": facets,
                    WORD_IDS: array("I", words[0]).tolist(),
                    FORMS: words[2],
                    **more,
                },
            )
            for id_, image, caption, record, facets, more, words in rows
        ]
        for point in points:
            self._kept.drop(point.id)
        self._shard.update(qe.UpdateOperation.upsert_points(points))

    def rows(self, ids: Sequence[str]) -> list[PointRow]:
        """Whole points, as `upsert` takes them."""
        points = self._shard.retrieve(_keys(ids), True, True)
        return [
            (
                payload["id"],
                *_vectors(point),
                payload["record"],
                payload["facets"],
                {name: payload[name] for name in _MORE if name in payload},
                (*_words(point), payload.get(FORMS, [])),
            )
            for point in points
            if (payload := point.payload)
        ]

    def delete(self, ids: Sequence[str]) -> int:
        """Removes points; how many were there."""
        keys = _keys(ids)
        there = len(self._shard.retrieve(keys, False, False))
        for key in keys:
            self._kept.drop(key)
        if there:
            self._shard.update(qe.UpdateOperation.delete_points(keys))
        return there

    def count(self, key: str, value: str) -> int:
        """Points whose payload field holds the value."""
        match = qe.FieldCondition(key=key, match=qe.MatchValue(value=value))
        return int(self._shard.count(qe.CountRequest(exact=True, filter=qe.Filter(must=[match]))))

    def total(self, among: FilterRow) -> int:
        """Points that pass."""
        return int(self._shard.count(qe.CountRequest(exact=True, filter=_filter(*among))))

    def ordered(
        self, name: str, start: int | None, limit: int, among: FilterRow, descending: bool
    ) -> list[tuple[int, str, str]]:
        """Points by their number in an order: number, id, record."""
        direction = qe.Direction.Desc if descending else qe.Direction.Asc
        points, _ = self._shard.scroll(
            qe.ScrollRequest(
                limit=limit,
                filter=_filter(*among),
                with_payload=["id", "record"],
                order_by=qe.OrderBy(f"{ORDER}.{name}", direction, start),
            )
        )
        return [
            (int(point.order_value), payload["id"], payload["record"])
            for point in points
            if (payload := point.payload) and point.order_value is not None
        ]

    def facets(self, keys: Sequence[str], among: FilterRow, limit: int, exact: bool) -> list[list[tuple[str, int]]]:
        """Values of each payload field with the number of points that carry them."""
        condition = _filter(*among)
        return [
            [
                (str(hit.value), hit.count)
                for hit in self._shard.facet(qe.FacetRequest(key=key, limit=limit, exact=exact, filter=condition))
            ]
            for key in keys
        ]

    def status(self) -> tuple[int, int]:
        """Points, and how many of them the graph covers."""
        info = self._shard.info()
        # The engine counts vectors, of which a point has one in each space, and words as indexed, in a graph or not.
        having = qe.Filter(must=[qe.HasVectorCondition(WORDS)])
        words = self._shard.count(qe.CountRequest(exact=True, filter=having))
        indexed = max(0, info.indexed_vectors_count - words)
        return info.points_count, min(info.points_count, indexed // len(SPACES))

    def walk(
        self, start: str | None, limit: int, vectors: bool, among: FilterRow | None = None
    ) -> tuple[list[Any], str | None]:
        """Points in the order of their keys from `start` (a UUID, None for the first), as `fetch` gives them, each with its
        key in front; and the key that follows.
        """
        offset = uuid.UUID(start) if start else None
        points, following = self._shard.scroll(
            qe.ScrollRequest(
                limit=limit,
                offset=offset,
                filter=_filter(*among) if among else None,
                with_payload=["id", "record"],
                with_vector=vectors,
            )
        )
        rows = [
            (str(point.id), payload["id"], payload["record"], *(_vectors(point) if vectors else (None, None)))
            for point in points
            if (payload := point.payload)
        ]
        return sorted(rows), None if following is None else str(following)

    def showing(self, images: Sequence[str], limit: int) -> list[tuple[str, str]]:
        """SHA-256 and id of points that came from a file with one of these SHA-256, or whose image is one, at most `limit`
        each.
        """
        found = []
        for image in dict.fromkeys(images):
            either: list[Any] = [
                qe.FieldCondition(key=name, match=qe.MatchValue(value=image))
                for name in ("original_sha256", "image_sha256")
            ]
            points, _ = self._shard.scroll(
                qe.ScrollRequest(limit=limit, filter=qe.Filter(should=either), with_payload=["id"])
            )
            found += [(image, payload["id"]) for point in points if (payload := point.payload)]
        return found

    def sample(self) -> str | None:
        """The id of some point; None in an empty shard."""
        points, _ = self._shard.scroll(qe.ScrollRequest(limit=1, with_payload=["id"]))
        return points[0].payload["id"] if points and points[0].payload else None

    def optimize(self) -> None:
        """Merges the segments and builds the graph; takes minutes for a large shard."""
        self._shard.optimize()

    def close(self) -> None:
        """Flushes and closes."""
        self._shard.flush()
        self._shard.close()


def _index(shard: "qe.EdgeShard") -> None:
    # Nearly as many values as points: links for each in the graph would be waste.
    keyword = qe.KeywordIndexParams(enable_hnsw=False)
    number = qe.IntegerIndexParams(lookup=True, range=False, enable_hnsw=False)
    place = qe.IntegerIndexParams(lookup=False, range=True, enable_hnsw=False)
    indexes: dict[str, Any] = {
        **dict.fromkeys((*DIGESTS, FORMS, CASE), keyword),
        **{f"{ORDER}.{name}": place for name in ORDERS},
        WORD_IDS: number,
    }
    for name, params in indexes.items():
        if name not in shard.info().payload_schema:
            shard.update(qe.UpdateOperation.create_field_index(name, params))


def _keys(ids: Iterable[str]) -> list[Any]:
    return [point_id(i) for i in ids]


def _vectors(point: Any) -> tuple[bytes, bytes]:
    return array("f", point.vector["image"]).tobytes(), array("f", point.vector["caption"]).tobytes()


def _words(point: Any) -> tuple[bytes, bytes]:
    words = point.vector.get(WORDS)
    return (b"", b"") if words is None else (array("I", words.indices).tobytes(), array("f", words.values).tobytes())


def _sparse(ids: bytes, weights: bytes) -> "qe.SparseVector":
    return qe.SparseVector(array("I", ids).tolist(), array("f", weights).tolist())


def _filter(
    where: dict[str, list[str]],
    exclude: Sequence[str],
    only: Sequence[str] | None,
    says: ConditionRow,
    silent: Sequence[ConditionRow],
    where_not: dict[str, list[str]],
    cases: Sequence[str] | None,
) -> Any:
    sides: list[list[Any]] = [
        [qe.FieldCondition(key=f"facets.{name}", match=qe.MatchAny(any=values)) for name, values in facets.items()]
        for facets in (where, where_not)
    ]
    must, must_not = sides
    if only is not None:
        must.append(qe.HasIdCondition({point_id(i) for i in only}))
    if cases is not None:
        must.append(qe.FieldCondition(key=CASE, match=qe.MatchAny(any=list(cases))))
    must += map(_says, says)
    if exclude:
        must_not.append(qe.HasIdCondition({point_id(i) for i in exclude}))
    must_not += [qe.Filter(must=[_says(ways) for ways in condition]) for condition in silent]
    return qe.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def _says(ways: list[list[int]]) -> Any:
    """One of the ways: all single words at once, and each expression of several."""
    either: list[Any] = [
        qe.Filter(must=[qe.FieldCondition(key=WORD_IDS, match=qe.MatchValue(value=word)) for word in way])
        for way in ways
        if len(way) > 1
    ]
    if singles := [way[0] for way in ways if len(way) == 1]:
        either.append(qe.FieldCondition(key=WORD_IDS, match=qe.MatchAny(any=singles)))
    return either[0] if len(either) == 1 else qe.Filter(should=either)
