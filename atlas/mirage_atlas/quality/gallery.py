"""The records of a collection with their vectors, and a client, as evaluations use them."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import httpx
import numpy as np
import numpy.typing as npt

from mirage.calls import Call
from mirage.client import Client
from mirage.errors import ApiError, InputError, TimedOutError
from mirage.transport import Transport, default_key
from mirage_api.records import StoredRecord

T = TypeVar("T")
Question = TypeVar("Question", bound=Hashable)
Vectors = npt.NDArray[np.float32]
Report = Callable[[int, int], None]
PAGE = 200
_TRIES = 10
# While the server works on one question, its reply to the one before is read. More would slow the searches of others.
_AT_ONCE = 2
_TIMEOUT_S = 120.0
# More records than this are not held in memory.
RECORDS_MAX = 100_000
# Labels by which two records are alike.
LABELS = ("modality", "body_part", "plane")


class PatientTransport(Transport):
    """Asks again if the server is busy or restarts for a moment."""

    def __init__(self, url: str, *, pause_s: float, inner: httpx.BaseTransport | None) -> None:
        super().__init__(url, api_key=default_key(), timeout_s=_TIMEOUT_S, inner=inner)
        self._pause_s = pause_s

    def call(self, call: Call[T]) -> T:
        """Returns the result of an operation, of the last try if each before it met an error that may pass."""
        for _ in range(_TRIES - 1):
            try:
                return super().call(call)
            except (ApiError, TimedOutError) as error:
                if isinstance(error, ApiError) and error.status not in (429, 503, 504):
                    raise
            time.sleep(self._pause_s)
        return super().call(call)


class PatientClient(Client):
    """A client for evaluations: of thousands of calls, some meet a server that is busy."""

    def __init__(
        self, url: str | None = None, *, pause_s: float = 2.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(url, transport=transport)
        self.transport = PatientTransport(self.url, pause_s=pause_s, inner=transport)


@dataclass(frozen=True, eq=False)
class Gallery:
    """All records of a collection: row n of `images` and `captions` (unit vectors, float32) belongs to record n."""

    name: str
    fingerprint: str
    records: Sequence[StoredRecord]
    images: Vectors
    captions: Vectors

    @cached_property
    def cases(self) -> Sequence[str]:
        """The case of each record; its own id without a case."""
        return [record.case_id or record.id for record in self.records]

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The row of each id."""
        return {record.id: row for row, record in enumerate(self.records)}

    @cached_property
    def _alike(self) -> tuple[Mapping[str, list[int]], Mapping[str, list[int]]]:
        by_caption, by_case = defaultdict(list), defaultdict(list)
        for row, record in enumerate(self.records):
            by_caption[record.caption].append(row)
            by_case[self.cases[row]].append(row)
        return by_caption, by_case

    def right(self, row: int) -> npt.NDArray[np.intp]:
        """The rows that answer a record's caption: of the same caption or the same case, itself among them."""
        by_caption, by_case = self._alike
        return np.array(sorted({*by_caption[self.records[row].caption], *by_case[self.cases[row]]}))

    def shared_labels(self, row: int) -> npt.NDArray[np.float64]:
        """Returns for each record how many of a record's LABELS it has too."""
        record = self.records[row]
        found = np.zeros(len(self.records))
        for facet in LABELS:
            for value in record.labels.get(facet, ()):
                found += self.having(facet, value)
        return found

    @cached_property
    def _labelled(self) -> Mapping[tuple[str, str], npt.NDArray[np.bool_]]:
        found: dict[tuple[str, str], npt.NDArray[np.bool_]] = {}
        for row, record in enumerate(self.records):
            for facet, values in record.labels.items():
                for value in values:
                    found.setdefault((facet, value), np.zeros(len(self.records), bool))[row] = True
        return found

    def having(self, facet: str, value: str) -> npt.NDArray[np.bool_]:
        """Returns for each record whether it has a label."""
        return self._labelled.get((facet, value), np.zeros(len(self.records), bool))

    def values(self, facet: str, *, at_least: int = 1) -> list[str]:
        """The values of a facet that so many records have, the most frequent first."""
        counts = {value: int(rows.sum()) for (name, value), rows in self._labelled.items() if name == facet}
        return sorted(
            (value for value, count in counts.items() if count >= at_least), key=lambda each: (-counts[each], each)
        )


def ask_all(ask: Callable[[Question], T], questions: Iterable[Question], report: Report) -> dict[Question, T]:
    """Returns the reply to each question, in their order: the same as if they were asked one after the other."""
    several = list(questions)
    replies = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for question, reply in zip(several, pool.map(ask, several), strict=True):
                replies[question] = reply
                report(len(replies), len(several))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return replies


def load(
    client: Client,
    *,
    collection: str = "",
    only: Collection[str] | None = None,
    report: Report = lambda _done, _all: None,
) -> Gallery:
    """Reads the records of a collection, only those with an id of `only` if it is given.

    Raises InputError for an empty set, or too large a one.
    """
    records: list[StoredRecord] = []
    images: list[Vectors] = []
    captions: list[Vectors] = []
    token, fingerprint = "", ""
    info = next(
        (each for each in client.collections() if each.name == collection or (each.active and not collection)), None
    )
    total = info.records if info else 0
    if total > RECORDS_MAX:
        raise InputError(f"the collection has {total:,} records; at most {RECORDS_MAX:,} can be evaluated")
    seen = 0
    while True:
        page = client.records(limit=PAGE, page_token=token, vectors=True, collection=collection)
        seen += len(page.records)
        for each in page.records:
            image, caption = each.vectors()
            if image is not None and caption is not None and (only is None or each.id in only):
                records.append(each)
                images.append(np.frombuffer(image, "<f4"))
                captions.append(np.frombuffer(caption, "<f4"))
        fingerprint = page.fingerprint
        report(seen, max(total, seen))
        if not (token := page.next_page_token):
            break
    if not records:
        raise InputError("the collection has no record to ask for")
    return Gallery(info.name if info else collection, fingerprint, records, _unit(images), _unit(captions))


def _unit(rows: Sequence[Vectors]) -> Vectors:
    stacked: Vectors = np.stack(rows)
    stacked = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return stacked
