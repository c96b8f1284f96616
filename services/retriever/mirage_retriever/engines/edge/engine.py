"""The embedded engine: shards of Qdrant Edge, each in a searcher process, behind one Engine."""

import asyncio
import json
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mirage_core.errors import Code, MirageError
from mirage_core.files import take, write_atomically
from mirage_retriever.engines.base import (
    CASE,
    DIGESTS,
    EVERYTHING,
    FORMS,
    VOCABULARY_MAX,
    Collection,
    Filter,
    Graph,
    Hit,
    Like,
    Placed,
    Point,
    Saying,
    Search,
    Status,
    Stored,
    Walked,
    Words,
)
from mirage_retriever.engines.edge.shard import Shard, ShardPolicy
from mirage_retriever.engines.edge.shard_shape import ShardShape
from mirage_retriever.engines.edge.stored import FILE, read_stored
from mirage_retriever.engines.identity import point_id

# Far more values than a facet lists; each shard names its own most frequent ones.
_FACET_VALUES = 1_000
_GRAPH = Graph()
_KEPT = "kept-{}.json"


class EdgeEngine:
    """Points in `shards` shards below `path`; see engines/base.py for what each call does.

    The number of shards is fixed when the collection is made. One process at a time: `open` raises OSError where
    another has the path.
    """

    def __init__(
        self,
        path: Path,
        *,
        facets: Sequence[str],
        policy: ShardPolicy,
        shards: int = 1,
        graph: Graph = _GRAPH,
        build_threads: int = 1,
    ) -> None:
        self._path = path
        self._facet_names = tuple(facets)
        self._policy = policy
        self._shard_count = shards
        self._graph = graph
        self._build_threads = build_threads
        self._shards: list[Shard] = []
        self._lock: TextIO | None = None

    @property
    def version(self) -> str:
        """Its name and the engine's version."""
        return f"edge {version('qdrant-edge-py')}"

    @property
    def exclusive(self) -> bool:
        """True: the path is locked."""
        return True

    @property
    def answers(self) -> bool:
        """True while every searcher answers; they are asked every second."""
        return all(shard.answers for shard in self._shards)

    async def open(self) -> Collection | None:
        """Takes the path and starts a searcher a shard; raises CollectionDamagedError."""
        self._path.mkdir(parents=True, exist_ok=True)
        self._lock = take(self._path)
        try:
            stored = read_stored(self._path)
            if stored is None:
                return None
            collection = Collection(**stored["collection"])
            self._shards = self._make_shards(stored["shards"], collection.dimension)
            await asyncio.gather(*(shard.open() for shard in self._shards))
        except BaseException:
            await self.close()
            raise
        return collection

    async def create(self, collection: Collection) -> None:
        """Makes empty shards; the collection is there once collection.json is, which is written last."""
        stored = read_stored(self._path)
        if stored is not None:
            if Collection(**stored["collection"]) != collection:
                raise MirageError(Code.COLLECTION_EXISTS, name=collection.name)
            return
        # Files of a collection whose making was interrupted.
        shutil.rmtree(self._path / "shards", ignore_errors=True)
        try:
            self._shards = self._make_shards(self._shard_count, collection.dimension)
            made = await asyncio.gather(*(shard.create() for shard in self._shards), return_exceptions=True)
            for failure in filter(None, made):
                raise failure
            content = {"collection": asdict(collection), "shards": self._shard_count}
            write_atomically(self._path / FILE, json.dumps(content, indent=2).encode())
        except BaseException as error:
            self._shards = []
            if isinstance(error, OSError):
                raise MirageError(Code.STORAGE_FULL) from error
            raise
        await asyncio.gather(*(shard.open() for shard in self._shards))

    @property
    def has_words(self) -> bool:
        """True: a searcher makes room for words when it loads a shard."""
        return True

    async def rebind(self, collection: Collection) -> None:
        """Writes collection.json again."""
        stored = read_stored(self._path)
        if stored is None:
            raise _absent()
        content = json.dumps({**stored, "collection": asdict(collection)}, indent=2)
        await asyncio.to_thread(write_atomically, self._path / FILE, content.encode())

    async def drop(self) -> None:
        """Ends the searchers and removes their files; collection.json goes first."""
        await self._close_shards()
        (self._path / FILE).unlink(missing_ok=True)
        for kept in self._path.glob(_KEPT.format("*")):
            kept.unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, self._path / "shards", ignore_errors=True)

    def _make_shards(self, count: int, dimension: int) -> list[Shard]:
        shape = ShardShape(
            dimension=dimension,
            facets=self._facet_names,
            hnsw_m=self._graph.m,
            ef_construct=self._graph.ef_construct,
            indexing_threshold_kb=self._graph.indexing_threshold_kb,
            build_threads=self._build_threads,
        )
        return [Shard(self._path / "shards" / str(number), shape, self._policy) for number in range(count)]

    def _route(self, ids: Iterable[str]) -> dict[Shard, list[str]]:
        routes: dict[Shard, list[str]] = defaultdict(list)
        for id_ in ids:
            routes[self._shard_of(id_)].append(id_)
        return routes

    def _shard_of(self, id_: str) -> Shard:
        if not self._shards:
            raise _absent()
        return self._shards[point_id(id_).int % len(self._shards)]

    async def _all(self, operation: str, *arguments: Any) -> list[Any]:
        if len(self._shards) == 1:
            return [await self._shards[0].read(operation, *arguments)]
        return await asyncio.gather(*(shard.read(operation, *arguments) for shard in self._shards))

    async def search(self, requests: Sequence[Search]) -> list[list[Hit]]:
        """Asks every shard and merges."""
        answers = await self._all("search", [self._row(request) for request in requests])
        merged: list[list[Hit]] = []
        for index, request in enumerate(requests):
            hits = [Hit(id_, score, record) for answer in answers for id_, score, record in answer[index]]
            hits.sort(key=lambda hit: (-hit.score, hit.id))
            merged.append(hits[: request.limit])
        return merged

    def _row(self, request: Search) -> tuple[Any, ...]:
        among = _filter_row(request.filter)
        match request:
            case Saying():
                return "say", request.ids.tobytes(), request.weights.tobytes(), request.limit, among
            case Like():
                like, unlike = ([each.tobytes() for each in side] for side in (request.positives, request.negatives))
                return "like", like, unlike, str(request.space), request.limit, among
            case _:
                vector, space = request.vector.tobytes(), str(request.space)
                return "near", vector, space, request.limit, self._graph.ef, request.exact, request.threshold, among

    async def fetch(self, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Stored]:
        """The points that are there."""
        routes = self._route(ids)
        answers = await asyncio.gather(*(shard.read("fetch", part, vectors) for shard, part in routes.items()))
        return {
            id_: Stored(
                id_,
                record,
                None if image is None else np.frombuffer(image, np.float32),
                None if caption is None else np.frombuffer(caption, np.float32),
            )
            for answer in answers
            for id_, record, image, caption in answer
        }

    async def upsert(self, points: Sequence[Point]) -> None:
        """Stores points, each in its shard."""
        rows: dict[Shard, list[Any]] = defaultdict(list)
        for point in points:
            row = (
                point.id,
                _finite(point.image),
                _finite(point.caption),
                point.record,
                {name: list(values) for name, values in point.facets.items()},
                {name: value for name in (*DIGESTS, CASE, "order") if (value := getattr(point, name))},
                _words_row(point.words),
            )
            rows[self._shard_of(point.id)].append(row)
        await asyncio.gather(*(shard.upsert(part) for shard, part in rows.items()))

    async def delete(self, ids: Sequence[str]) -> int:
        """Removes points; how many were there."""
        routes = self._route(dict.fromkeys(ids))
        return sum(await asyncio.gather(*(shard.delete(part) for shard, part in routes.items())))

    async def count(self, *, facet: str, value: str) -> int:
        """Points that carry the value."""
        key = facet if facet in DIGESTS else f"facets.{facet}"
        return sum(await self._all("count", key, value))

    async def total(self, among: Filter) -> int:
        """The number of points that pass, in all shards."""
        return sum(await self._all("total", _filter_row(among)))

    async def cases(self, ids: Sequence[str], among: Filter) -> dict[str, int]:
        """Counts of all shards added up."""
        [counts] = await self._counted([CASE], replace(among, cases=tuple(ids)), max(1, len(ids)))
        return dict(counts)

    async def facets(self, names: Sequence[str], among: Filter, limit: int) -> dict[str, list[tuple[str, int]]]:
        """Counts of all shards added up."""
        found = await self._counted([f"facets.{name}" for name in names], among, _FACET_VALUES)
        return {
            name: sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]
            for name, counts in zip(names, found, strict=True)
        }

    async def vocabulary(self) -> dict[str, int]:
        """Counts of all shards added up."""
        # Exact counts of so many words take half a second, near ones a tenth of that.
        [counts] = await self._counted([FORMS], Filter(), VOCABULARY_MAX, exact=False)
        return dict(counts)

    async def _counted(self, keys: list[str], among: Filter, limit: int, *, exact: bool = True) -> list[Counter[str]]:
        answers = await self._all("facets", keys, _filter_row(among), limit, exact)
        return [sum((+Counter(dict(answer[number])) for answer in answers), Counter()) for number in range(len(keys))]

    async def kept(self, name: str) -> str:
        """The content of its file."""
        try:
            return await asyncio.to_thread((self._path / _KEPT.format(name)).read_text, "utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    async def keep(self, name: str, text: str) -> None:
        """Writes its file."""
        try:
            await asyncio.to_thread(write_atomically, self._path / _KEPT.format(name), text.encode())
        except OSError as error:
            raise MirageError(Code.STORAGE_FULL) from error

    async def ordered(
        self, name: str, start: int | None, limit: int, among: Filter, *, descending: bool = False
    ) -> list[Placed]:
        """The first of all shards, merged."""
        answers = await self._all("ordered", name, start, limit, _filter_row(among), descending)
        found = [Placed(*row) for answer in answers for row in answer]
        return sorted(found, key=lambda each: each.number, reverse=descending)[:limit]

    async def walk(self, position: str, limit: int, *, vectors: bool = False, among: Filter = EVERYTHING) -> Walked:
        """Shard after shard, in each in the order of the engine's keys; a position is `shard/key`."""
        number, start = _read_position(position, len(self._shards))
        if not self._shards:
            raise _absent()
        rows, following = await self._shards[number].read("walk", start, limit, vectors, _filter_row(among))
        after = number if following else number + 1
        return Walked(
            tuple(
                Stored(
                    id_,
                    record,
                    None if image is None else np.frombuffer(image, np.float32),
                    None if caption is None else np.frombuffer(caption, np.float32),
                )
                for _, id_, record, image, caption in rows
            ),
            tuple(f"{number}/{key}" for key, *_ in rows),
            f"{after}/{following or ''}" if after < len(self._shards) else "",
        )

    async def showing(self, images: Sequence[str], limit: int) -> dict[str, list[str]]:
        """Asks every shard."""
        found: dict[str, list[str]] = defaultdict(list)
        for answer in await self._all("showing", list(images), limit):
            for image, id_ in answer:
                found[image].append(id_)
        return {image: sorted(ids)[:limit] for image, ids in found.items()}

    async def status(self) -> Status:
        """Points and indexed points of all shards."""
        answers = await self._all("status")
        return Status(sum(records for records, _ in answers), sum(indexed for _, indexed in answers))

    async def rebuild(self) -> None:
        """Builds every shard again now, whatever the policy says; searches continue meanwhile."""
        for shard in self._shards:
            await shard.rebuild()

    async def rewrite(self) -> bool:
        """Writes every shard again, one after the other."""
        for shard in self._shards:
            await shard.rewrite()
        return True

    @property
    def searcher_pids(self) -> list[int]:
        """The process ids of the searchers that run."""
        return [pid for shard in self._shards if (pid := shard.searcher_pid) is not None]

    async def close(self) -> None:
        """Flushes, ends the searchers and gives the path free."""
        await self._close_shards()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _close_shards(self) -> None:
        shards, self._shards = self._shards, []
        await asyncio.gather(*(shard.close() for shard in shards))


def _filter_row(among: Filter) -> tuple[Any, ...]:
    return (
        {name: list(values) for name, values in among.where.items()},
        list(among.exclude),
        None if among.only is None else list(among.only),
        among.says,
        among.silent,
        {name: list(values) for name, values in among.where_not.items()},
        None if among.cases is None else list(among.cases),
    )


def _words_row(words: Words) -> tuple[Any, ...]:
    if not np.isfinite(words.weights).all():
        raise MirageError(Code.VECTOR_NOT_FINITE)
    return words.ids.tobytes(), words.weights.tobytes(), words.forms


def _absent() -> MirageError:
    return MirageError(Code.DEPENDENCY_UNAVAILABLE, retry_after_s=1.0, service="collection")


def _read_position(position: str, shards: int) -> tuple[int, str | None]:
    if not position:
        return 0, None
    number, _, key = position.partition("/")
    if not (number.isascii() and number.isdigit() and len(number) < 4 and int(number) < shards):
        raise MirageError(Code.PAGE_TOKEN_INVALID)
    try:
        return int(number), str(uuid.UUID(key)) if key else None
    except ValueError as error:
        raise MirageError(Code.PAGE_TOKEN_INVALID) from error


def _finite(vector: Any) -> bytes:
    # The engine takes NaN without a word and its graph is ruined from then on: the last gate before it.
    if not np.isfinite(vector).all():
        raise MirageError(Code.VECTOR_NOT_FINITE)
    return np.ascontiguousarray(vector, dtype=np.float32).tobytes()
