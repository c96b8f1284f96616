"""Parameters of a shard."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ShardShape:
    """Vector length, facet names to index, HNSW parameters, and how many threads may build.

    `indexing_threshold_kb` is the size of the vectors of one space from which a graph is built; below it every search
    is exact and fast.
    """

    dimension: int
    facets: tuple[str, ...]
    hnsw_m: int
    ef_construct: int
    indexing_threshold_kb: int
    build_threads: int

    @property
    def indexing_threshold(self) -> int:
        """The same in points."""
        return max(1, self.indexing_threshold_kb * 1024 // (4 * self.dimension))
