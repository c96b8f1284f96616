"""The retriever's peers: the same vectors in libraries that run inside the calling process."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import hnswlib
import numpy as np
import numpy.typing as npt
import psutil

Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Timed:
    """Times of single queries in milliseconds, the ids each found, and what holding the vectors took in MB."""

    times_ms: npt.NDArray[np.float64]
    found: list[list[int]]
    memory_mb: float

    def percentile(self, share: float) -> float:
        """The time below which that share (0 to 100) of the queries stayed."""
        return float(np.percentile(self.times_ms, share))

    def recall(self, truth: Ids) -> float:
        """Mean share of the true nearest that were found; `truth` has shape (queries, k)."""
        pairs = zip(self.found, truth.tolist(), strict=False)
        return float(np.mean([len(set(found) & set(true)) / len(true) for found, true in pairs]))


def clustered(count: int, dimension: int, *, clusters: int, seed: int) -> Array:
    """Unit vectors of shape (count, dimension) around random centres.

    Two of one cluster have a cosine of about 0.67.
    """
    centres = np.random.default_rng(0).standard_normal((clusters, dimension), dtype=np.float32)
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, clusters, count)]
    vectors += 0.7 * chance.standard_normal((count, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def nearest(vectors: Array, queries: Array, k: int) -> Ids:
    """The true nearest, exactly, of shape (queries, k)."""
    found = []
    for start in range(0, len(queries), 100):
        scores = queries[start : start + 100] @ vectors.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def time_queries(queries: Array, ask: Callable[[Array], list[int]], *, memory_mb: float) -> Timed:
    """Asks one query after the other."""
    times, found = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(ask(query))
        times.append((time.perf_counter() - started) * 1000)
    return Timed(np.asarray(times), found, memory_mb)


def numpy_exact(vectors: Array, queries: Array, k: int) -> Timed:
    """A matrix product and a partial sort: exact."""

    def ask(query: Array) -> list[int]:
        scores = vectors @ query
        best = np.argpartition(scores, -k)[-k:]
        return [int(i) for i in best[np.argsort(-scores[best])]]

    return time_queries(queries, ask, memory_mb=vectors.nbytes / 2**20)


def hnswlib_graph(vectors: Array, queries: Array, k: int) -> Timed:
    """The graph of the same parameters, without payload, filters, durability or a server."""
    before = _memory_mb()
    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=16, ef_construction=100, random_seed=0)
    index.add_items(vectors)
    index.set_ef(64)
    index.set_num_threads(1)

    def ask(query: Array) -> list[int]:
        labels, _ = index.knn_query(query, k=k)
        return [int(label) for label in labels[0]]

    return time_queries(queries, ask, memory_mb=_memory_mb() - before)


def qdrant_local(vectors: Array, queries: Array, k: int) -> Timed:
    """qdrant-client's local mode, in memory: a simulator in Python, exact."""
    from qdrant_client import QdrantClient, models

    before = _memory_mb()
    client = QdrantClient(":memory:")
    params = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this many points are more than local mode is meant for
        client.create_collection("bench", vectors_config=params)
        client.upload_collection(
            "bench",
            vectors=vectors,
            ids=range(len(vectors)),
            payload=({"n": n} for n in range(len(vectors))),
        )

        def ask(query: Array) -> list[int]:
            points = client.query_points("bench", query=query, limit=k, with_payload=True).points
            return [int(point.id) for point in points]

        return time_queries(queries, ask, memory_mb=_memory_mb() - before)


def _memory_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20
