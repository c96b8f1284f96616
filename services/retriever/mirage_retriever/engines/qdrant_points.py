"""Points, results and filters between the retriever and a Qdrant server."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from qdrant_client import models

from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import (
    CASE,
    DIGESTS,
    FORMS,
    WORD_IDS,
    WORDS,
    Array,
    Filter,
    Hit,
    Point,
    Space,
    Stored,
)
from mirage_retriever.engines.identity import point_id


def to_hit(point: models.ScoredPoint) -> Hit:
    """A result."""
    payload: dict[str, Any] = point.payload or {}
    return Hit(payload["id"], point.score, payload["record"])


def to_stored(point: models.Record, *, vectors: bool) -> Stored:
    """A point as it is kept."""
    payload: dict[str, Any] = point.payload or {}
    image, caption = (_array(point.vector, space) if vectors else None for space in Space)
    return Stored(payload["id"], payload["record"], image, caption)


def to_keys(ids: Iterable[str]) -> list[Any]:
    """The server's ids of records."""
    return [str(point_id(i)) for i in ids]


def _array(vector: Any, space: Space) -> Array:
    return np.asarray(vector[str(space)], dtype=np.float32)


def to_server(point: Point, *, words: bool) -> models.PointStruct:
    """The server's point; raises VECTOR_NOT_FINITE."""
    # A server refuses neither NaN nor Inf.
    if not all(np.isfinite(each).all() for each in (point.image, point.caption, point.words.weights)):
        raise MirageError(Code.VECTOR_NOT_FINITE)
    vector: dict[str, Any] = {"image": point.image.tolist(), "caption": point.caption.tolist()}
    if words and point.words.ids.size:
        vector[WORDS] = models.SparseVector(indices=point.words.ids.tolist(), values=point.words.weights.tolist())
    return models.PointStruct(
        id=str(point_id(point.id)),
        vector=vector,
        payload={
            "id": point.id,
            "record": point.record,
            "facets": {name: list(values) for name, values in point.facets.items()},
            WORD_IDS: point.words.ids.tolist(),
            FORMS: list(point.words.forms),
            **{name: value for name in (*DIGESTS, CASE, "order") if (value := getattr(point, name))},
        },
    )


def to_filter(condition: Filter) -> models.Filter | None:
    """The server's filter; None if every point passes."""
    sides: list[list[Any]] = [
        [
            models.FieldCondition(key=f"facets.{name}", match=models.MatchAny(any=list(values)))
            for name, values in facets.items()
        ]
        for facets in (condition.where, condition.where_not)
    ]
    must, must_not = sides
    if condition.only is not None:
        must.append(models.HasIdCondition(has_id=to_keys(condition.only)))
    if condition.cases is not None:
        must.append(models.FieldCondition(key=CASE, match=models.MatchAny(any=list(condition.cases))))
    must += map(_says, condition.says)
    if condition.exclude:
        must_not.append(models.HasIdCondition(has_id=to_keys(condition.exclude)))
    must_not += [models.Filter(must=[_says(ways) for ways in silent]) for silent in condition.silent]
    return models.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def _says(ways: tuple[tuple[int, ...], ...]) -> Any:
    """One of the ways: all single words at once, and each expression of several."""
    either: list[Any] = [
        models.Filter(must=[models.FieldCondition(key=WORD_IDS, match=models.MatchValue(value=word)) for word in way])
        for way in ways
        if len(way) > 1
    ]
    if singles := [way[0] for way in ways if len(way) == 1]:
        either.append(models.FieldCondition(key=WORD_IDS, match=models.MatchAny(any=singles)))
    return either[0] if len(either) == 1 else models.Filter(should=either)
