"""Queries that many people type: searched ahead, answered from memory until the index changes.

They are the operator's list, or those that are typical of the active collection.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mirage_core import limits, telemetry
from mirage_core.errors import MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.query import Mode, Query, Term, Text
from mirage_retriever.reply import Answered
from mirage_retriever.search import Search
from mirage_retriever.typical import typical_queries

_log = telemetry.get_logger()
_lookups = telemetry.counter("retriever_common_queries_total", "Searches for a common query.", ("outcome",))

LIST_MAX = 1_000
_FILE_BYTES = 2**20
# The list is searched this long after the last write, one query after the other with room for others in between.
_QUIET_S = 1.0
_PAUSE_S = 0.02
_RETRY_S = 5.0


def read_list(path: Path) -> tuple[str, ...]:
    """The queries of a file (one a line, `#` starts a comment line).

    Raises ValueError, saying which line, for a text that is too long and for more than 1,000; OSError for no such file.
    """
    if path.stat().st_size > _FILE_BYTES:
        raise ValueError(f"the list of common queries is larger than {_FILE_BYTES} bytes")
    content = path.read_text("utf-8")
    found: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        if len(text) > limits.TEXT_CHARS:
            raise ValueError(
                f"line {number} of the list of common queries has more than {limits.TEXT_CHARS} characters"
            )
        found.setdefault(normalise(text), text)
    if len(found) > LIST_MAX:
        raise ValueError(f"the list of common queries has more than {LIST_MAX} entries")
    return tuple(found.values())


def normalise(text: str) -> str:
    """The form in which two queries count as the same: without regard to case and to runs of spaces."""
    return " ".join(text.casefold().split())


@dataclass(frozen=True, eq=False)
class _Kept:
    answered: Answered
    revision: str
    at: float


class CommonQueries:
    """Answers kept for the active collection. `fill` runs for as long as the retriever; `answer` never waits.

    An answer counts only at the revision of the atlas that it was made at, so that none outlives a write through this
    process; `ttl_s` bounds its age where other processes write too (None: none do). Without `texts` they are those that are
    typical of the collection, and follow it.
    """

    def __init__(self, texts: Iterable[str] | None = None, *, ttl_s: float | None = None) -> None:
        self._is_given = texts is not None
        self._known = {normalise(text): text for text in texts or ()}
        self._kept: dict[str, _Kept] = {}
        self._ttl_s = ttl_s
        self._typical_of = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The queries."""
        return tuple(self._known.values())

    async def texts_of(self, atlas: Atlas) -> tuple[str, ...]:
        """The queries to offer for a collection, active or not."""
        if self._is_given or self._typical_of == atlas.revision:
            return self.texts
        return tuple(await typical_queries(atlas))

    def answer(self, query: Query, atlas: Atlas) -> Answered | None:
        """Returns the cached answer with the caller's spelling of the query; None if the query must be searched.

        Only a single text compared with images, without filter, minimum or page token, is answered here.
        """
        text = plain_text(query)
        if text is None or (normal := normalise(text)) not in self._known:
            return None
        kept = self._kept.get(normal)
        if kept is None or not self._is_fresh(kept, atlas):
            _lookups.labels("miss").inc()
            return None
        _lookups.labels("hit").inc()
        return kept.answered.as_asked(text)

    def _is_fresh(self, kept: _Kept, atlas: Atlas) -> bool:
        young = self._ttl_s is None or time.monotonic() - kept.at < self._ttl_s
        return young and kept.revision == atlas.revision

    async def fill(
        self, active: Callable[[], Atlas], search: Callable[[Atlas], Search], *, quiet_s: float = _QUIET_S
    ) -> None:
        """Keeps the answers fresh, for ever: searches those that are not once nothing was written for `quiet_s`."""
        while self._known or not self._is_given:
            try:
                atlas = active()
                revision = atlas.revision
                await asyncio.sleep(quiet_s)
                if atlas is active() and revision == atlas.revision:
                    if not self._is_given and self._typical_of != revision:
                        self._known = {normalise(text): text for text in await typical_queries(atlas)}
                        self._kept = {text: kept for text, kept in self._kept.items() if text in self._known}
                        self._typical_of = revision
                    await self._refresh(atlas, search(atlas))
            except MirageError as error:
                _log.debug("common queries not filled", code=error.code)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # Searches go on without the cache.
                _log.exception("common queries not filled")
                await asyncio.sleep(_RETRY_S)

    async def _refresh(self, atlas: Atlas, search: Search) -> None:
        for normal, text in list(self._known.items()):
            kept = self._kept.get(normal)
            if kept is not None and self._is_fresh(kept, atlas):
                continue
            revision = atlas.revision
            answered = await search.ahead(Query(terms=(Term(Text(text)),), k=limits.K_MAX))
            self._kept[normal] = _Kept(answered, revision, time.monotonic())
            await asyncio.sleep(_PAUSE_S)
            if atlas.revision != revision:
                return


def plain_text(query: Query) -> str | None:
    """Returns the text of a query that is one text, grouped or not, and nothing else; None for any other query."""
    if query.where or query.where_not or query.min_score is not None or query.page_token or query.exclude_ids:
        return None
    if query.variety:
        return None
    return query.text if query.mode is Mode.HYBRID else None
