"""Reading without searching: looking records up by id and image, walking over them, listing them in an order, and cases."""

import hashlib
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from mirage_api.limits import SEED_MAX
from mirage_core import limits
from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.engines.base import Engine, Filter, Placed, Stored, Walked
from mirage_retriever.pages import PAGE_DEFAULT, PAGE_MAX, PageTokens
from mirage_retriever.query import Order, Query
from mirage_retriever.records import CASE_CHARS, Record

# A page stays far below the largest message.
_PAGE_BYTES = 12 * 2**20
_SAME_IMAGE = 10
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Records of an order by chance that are shuffled at a time.
_STRETCH = 500


@dataclass(frozen=True)
class Key:
    """A key to look up: an id and, if known, the SHA-256 of an image file."""

    id: str
    image_sha256: str = ""


@dataclass(frozen=True)
class Presence:
    """The answer for a key: the stored record as JSON (or None), and ids of other records with that image."""

    id: str
    record: str | None
    same_image_ids: tuple[str, ...]


async def look_up(atlas: Atlas, keys: Sequence[Key]) -> list[Presence]:
    """Returns one answer a key, in order; raises TOO_MANY_ITEMS, ID_INVALID, and REQUEST_MALFORMED for an invalid SHA-256."""
    if not 1 <= len(keys) <= PAGE_MAX:
        raise MirageError(Code.TOO_MANY_ITEMS, field="keys", min=1, max=PAGE_MAX, given=len(keys))
    for key in keys:
        limits.check_id(key.id)
        if key.image_sha256 and not _SHA256.fullmatch(key.image_sha256):
            raise MirageError(Code.REQUEST_MALFORMED, field="image_sha256")
    stored = await atlas.engine.fetch(list(dict.fromkeys(key.id for key in keys)))
    images = list(dict.fromkeys(key.image_sha256 for key in keys if key.image_sha256))
    showing = await atlas.engine.showing(images, _SAME_IMAGE + 1) if images else {}
    return [
        Presence(
            key.id,
            stored[key.id].record if key.id in stored else None,
            tuple(id_ for id_ in showing.get(key.image_sha256, ()) if id_ != key.id)[:_SAME_IMAGE],
        )
        for key in keys
    ]


async def walk(
    atlas: Atlas,
    query: Query,
    *,
    limit: int = PAGE_DEFAULT,
    page_token: str = "",
    vectors: bool = False,
) -> tuple[tuple[Stored, ...], str]:
    """Returns up to `limit` records (1 to 1,000; 100 if None; fewer if they are large) that pass the query's filter, and the
    token of the next page.
    """
    tokens, digest = PageTokens.of(atlas.collection), query.digest()
    position = tokens.unseal(page_token, digest).decode("ascii", "replace") if page_token else ""
    if vectors:
        limit = max(1, min(limit, _PAGE_BYTES // (8 * atlas.collection.dimension)))
    while True:
        walked = _cut(await atlas.engine.walk(position, limit, vectors=vectors, among=query.filter))
        position = walked.position
        # A shard may hold nothing that passes.
        if walked.points or not position:
            break
    return walked.points, tokens.seal(walked.position.encode(), digest) if walked.position else ""


class Listing:
    """The records that pass a filter, in an order; with `by_case` of each case the first by position."""

    def __init__(self, atlas: Atlas, query: Query) -> None:
        self._engine = atlas.engine
        self._tokens = PageTokens.of(atlas.collection)
        self._digest = query.digest()
        self._among = query.filter
        self._order = query.order or Order.NEWEST
        self._seed = query.seed
        self._by_case = query.by_case
        self._firsts: dict[str, str] = {}

    async def page(self, limit: int, page_token: str = "") -> tuple[list[Placed], str]:
        """Up to `limit` records, fewer if they are large, and the token of the next page; raises PAGE_TOKEN_INVALID."""
        given = self._place(page_token) if page_token else ""
        if self._order is Order.RANDOM:
            rows = self._shuffled(given)
        else:
            rows = self._sorted(given, limit, descending=self._order is Order.NEWEST)
        found: list[Placed] = []
        size, place = 0, given
        async with aclosing(rows):
            async for row, after in rows:
                if self._by_case and not await self._is_first(row):
                    continue
                size += len(row.record.encode())
                if len(found) == limit or (found and size > _PAGE_BYTES):
                    return found, self._tokens.seal(place.encode(), self._digest)
                found.append(row)
                place = after
        return found, ""

    def _place(self, page_token: str) -> str:
        text = self._tokens.unseal(page_token, self._digest).decode("ascii", "replace")
        form = r"\d{1,19}:[01]:\d{1,16}:\d{1,4}" if self._order is Order.RANDOM else r"\d{1,16}:[^:].{0,127}"
        if re.fullmatch(form, text) is None:
            raise MirageError(Code.PAGE_TOKEN_INVALID)
        return text

    async def total(self) -> int:
        """The number of records that pass, whether or not they are listed once a case."""
        return await self._engine.total(self._among)

    async def _sorted(self, given: str, limit: int, *, descending: bool) -> AsyncGenerator[tuple[Placed, str]]:
        name, sign = ("added", -1) if descending else ("case", 1)
        number, id_ = None, ""
        if given:
            text, _, id_ = given.partition(":")
            number = int(text)
        usual = size = 4 * limit if self._by_case else limit + 2
        while True:
            rows = await self._engine.ordered(name, number, size, self._among, descending=descending)
            ended = len(rows) < size
            # The last tie may be cut, and is in the order of the engine: it is read again.
            whole = rows if ended else [row for row in rows if row.number != rows[-1].number]
            fresh = sorted(
                (row for row in whole if number is None or (sign * row.number, row.id) > (sign * number, id_)),
                key=lambda row: (sign * row.number, row.id),
            )
            for row in fresh:
                yield row, f"{row.number}:{row.id}"
            if ended:
                return
            size = usual if fresh else 4 * size
            number, id_ = (fresh[-1].number, fresh[-1].id) if fresh else (number, id_)

    async def _shuffled(self, given: str) -> AsyncGenerator[tuple[Placed, str]]:
        """Goes once around a circle in which records stand by chance, from a place that the seed says; what it passes on the
        way is shuffled, a stretch at a time.
        """
        seed = secrets.randbelow(SEED_MAX) if self._seed is None else self._seed
        start = _chance(str(seed), "start") >> 12
        lap, first, index = 0, start, 0
        if given:
            before, lap, first, index = map(int, given.split(":"))
            if self._seed not in (None, before):
                raise MirageError(Code.PAGE_TOKEN_INVALID)
            seed, start = before, _chance(str(before), "start") >> 12
        while True:
            rows = await self._engine.ordered("shuffle", first, _STRETCH, self._among)
            ended = len(rows) < _STRETCH or (lap == 1 and rows[-1].number >= start)
            stretch = [row for row in rows if lap == 0 or row.number < start]
            stretch.sort(key=lambda row: (_chance(str(seed), row.id), row.id))
            for number, row in enumerate(stretch[index:], start=index + 1):
                yield row, f"{seed}:{lap}:{first}:{number}"
            if ended and lap == 1:
                return
            lap, first, index = (1, 0, 0) if ended else (lap, rows[-1].number + 1, 0)

    async def _is_first(self, row: Placed) -> bool:
        case = Record.from_json(row.record).case_id
        if not case:
            return True
        if case not in self._firsts:
            first = await self._engine.ordered("case", None, 2, replace(self._among, cases=(case,)))
            self._firsts[case] = min([(each.number, each.id) for each in first], default=(0, row.id))[1]
        return self._firsts[case] == row.id


async def case_records(engine: Engine, case: str, among: Filter, *, limit: int) -> list[Placed]:
    """Up to `limit` records of a case that pass a filter, by their position."""
    found = await engine.ordered("case", None, limit, replace(among, cases=(case,)))
    return sorted(found, key=lambda row: (Record.from_json(row.record).position, row.id))


@dataclass(frozen=True)
class Case:
    """A case: its records by position, and how many it has in all."""

    id: str
    records: tuple[Record, ...]
    images: int

    def first(self, name: str) -> str:
        """The first text of this name that a record has."""
        return next((text for record in self.records if (text := getattr(record, name))), "")


async def read_case(atlas: Atlas, case_id: str) -> Case:
    """Returns a case, with fewer records than it has if they are large; raises CASE_NOT_FOUND."""
    found = (
        await case_records(atlas.engine, case_id, Filter(), limit=PAGE_MAX) if 0 < len(case_id) <= CASE_CHARS else []
    )
    if not found:
        raise MirageError(Code.CASE_NOT_FOUND, id=case_id[:CASE_CHARS])
    images = (await atlas.engine.cases([case_id], Filter())).get(case_id, len(found))
    records: list[Record] = []
    size = 0
    for row in found:
        size += len(row.record.encode())
        if records and size > _PAGE_BYTES:
            break
        records.append(Record.from_json(row.record))
    return Case(case_id, tuple(records), images)


def _chance(*parts: str) -> int:
    """64 bits that the texts decide."""
    return int.from_bytes(hashlib.blake2b("/".join(parts).encode(), digest_size=8).digest(), "big")


def _cut(walked: Walked) -> Walked:
    """The walk up to where its records grow too large for one message."""
    size = 0
    for number, point in enumerate(walked.points):
        size += len(point.record.encode()) + 8 * (0 if point.image is None else len(point.image))
        if size > _PAGE_BYTES and number:
            return Walked(walked.points[:number], walked.positions[:number], walked.positions[number])
    return walked
