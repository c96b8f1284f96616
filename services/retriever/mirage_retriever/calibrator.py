"""Measures what likeness is worth in one collection.

Queries are the collection's own captions and images, of which the right answers are known: records of the same case, or of
the same caption. Questions that the collection does not answer show which likeness means nothing.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from mirage_core import telemetry
from mirage_core.errors import Code, MirageError
from mirage_core.intervals import wilson
from mirage_retriever.algebra import CANCELS_BELOW, Array
from mirage_retriever.atlas import Atlas
from mirage_retriever.calibration import CALIBRATION, Calibration, Kind, Recall
from mirage_retriever.collections import Collections
from mirage_retriever.engines.base import Engine, Filter, Hit, Nearest, Space, Stored
from mirage_retriever.match import Thresholds
from mirage_retriever.records import Record
from mirage_retriever.terms import TermEncoder
from mirage_retriever.words.lexicon import Lexicon
from mirage_retriever.words.queries import read_query
from mirage_retriever.words.vocabulary import Vocabulary

_log = telemetry.get_logger()

_SAMPLE = 500
# Fewer say nothing.
_SAMPLE_MIN = 20
_DEPTH = 10
_WALK = 256
_BATCH = 8
# Between two batches searches of users go first, which wait for a batch no longer than this.
_TURN_S = 0.02
_PAUSE_S = 0.01
# Without a graph a search compares all vectors: a collection of so many records waits for its graph, but not for ever.
_LARGE = 20_000
_GRAPH_S = 3_600.0
_COVERED = 0.9
_SEED = 20261128
_QUIET_S = 2.0
_LOOK_S = 5.0
# So many questions that the collection does not answer may come out as good, and as weak.
_FALSE_GOOD = 0.03
_FALSE_WEAK = 0.25
# Likeness says something if right answers are found this many times as often as by chance, for sure, and if it
# separates questions that are answered from those that are not.
_BETTER_THAN_CHANCE = 3.0
_AUROC_MIN = 0.8
# Labels that an answer to an image must share.
_LABELS = ("modality", "body_part")


def read_off_topic() -> tuple[str, ...]:
    """The questions that come with MIRAGE."""
    content = resources.files("mirage_retriever").joinpath("off_topic.txt").read_text("utf-8")
    return tuple(line for each in content.splitlines() if (line := each.strip()) and not line.startswith("#"))


@dataclass(frozen=True, eq=False)
class _Sample:
    """A record with its vectors, the size of its case (0 without one), and how many more records have its caption."""

    record: Record
    image: Array
    caption: Array
    case: int
    twins: int

    def is_of_case(self, other: Record) -> bool:
        """True for a record of the same case."""
        return bool(self.case) and self.record.case_id == other.case_id

    def is_right(self, other: Record) -> bool:
        """True for what the caption describes: the record itself, one of its case, or one with the same caption."""
        return self.record.id == other.id or self.record.caption == other.caption or self.is_of_case(other)


async def keep_calibrated(
    collections: Collections,
    encoder: TermEncoder,
    *,
    quiet_s: float = _QUIET_S,
    look_s: float = _LOOK_S,
    large: int = _LARGE,
    graph_s: float = _GRAPH_S,
) -> None:
    """Measures the collections, for ever: each once nothing was written to it for `quiet_s`, and when it has changed by a
    quarter. One of `large` records or more waits for its graph, at most `graph_s`.
    """
    looked: dict[str, str] = {}
    due: dict[str, float] = {}
    while True:
        names: list[str] = []
        try:
            names = await collections.names()
        except MirageError as error:
            _log.debug("collections not listed", code=error.code)
        for name in names:
            revision = collections.revision_of(name)
            # To look at one that is closed, and is as it was, would start a process for nothing.
            if name in looked and revision in (None, looked[name]) and not collections.is_active(name):
                continue
            try:
                async with collections.use(name) as atlas:
                    revision = atlas.revision
                    await asyncio.sleep(quiet_s)
                    late = time.monotonic() >= due.setdefault(name, time.monotonic() + graph_s)
                    if revision == atlas.revision and (late or await _has_graph(atlas, large)):
                        await _calibrate(atlas, encoder)
                        looked[name] = atlas.revision
                        del due[name]
            except MirageError as error:
                _log.debug("collection not calibrated", code=error.code)
            except Exception:
                # Searches go on without.
                _log.exception("collection not calibrated")
        await asyncio.sleep(look_s)


async def _has_graph(atlas: Atlas, large: int) -> bool:
    """False while the graph of a large collection is still to come."""
    status = await atlas.engine.status()
    return status.records < large or status.indexed >= _COVERED * status.records


async def _calibrate(atlas: Atlas, encoder: TermEncoder) -> None:
    records = (await atlas.engine.status()).records
    known = atlas.calibration
    if not records or (known is not None and not known.is_due(records, atlas.fingerprint)):
        atlas.settle()
        return
    if (await encoder.model()).fingerprint != atlas.fingerprint:
        return
    started = time.perf_counter()
    await atlas.lexicon.refresh(atlas.revision)
    calibration = await Calibrator(atlas.engine, encoder, atlas.lexicon, fingerprint=atlas.fingerprint).measure()
    await atlas.engine.keep(CALIBRATION, calibration.to_json())
    atlas.calibrated(calibration)
    _log.info(
        "collection calibrated",
        records=records,
        seconds=round(time.perf_counter() - started, 1),
        trusted=[name for name, kind in calibration.kinds.items() if kind.trusted],
    )


class Calibrator:
    """Measures one collection. Runs next to searches, a few of its own at a time with pauses between."""

    def __init__(
        self,
        engine: Engine,
        encoder: TermEncoder,
        lexicon: Lexicon,
        *,
        fingerprint: str,
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self._lexicon = lexicon
        self._fingerprint = fingerprint
        self._pause = pause or (lambda: asyncio.sleep(_PAUSE_S))
        self._random = random.Random(_SEED)  # noqa: S311 -- a sample, no secret

    async def measure(self) -> Calibration:
        """The calibration. A collection with too few records has no kinds. Raises what engine and encoder raise."""
        samples, records = await self._sample()
        if len(samples) < _SAMPLE_MIN:
            return Calibration(records, self._fingerprint)
        off_topic = await self._off_topic()
        found = await self._nearest([(each.caption, Space.IMAGE) for each in samples])
        text = self._kind(
            [
                self._ranked(hits, each.is_right, max(each.case, 1) + each.twins, records)
                for each, hits in zip(samples, found, strict=True)
            ],
            await self._bests([(vector, Space.IMAGE) for vector in off_topic]),
        )
        kinds = {"text": text, "arithmetic": await self._arithmetic(samples, off_topic, text)}
        # Vectors of the same kind are the nearest to themselves: only the rest of a case says what they are worth.
        of_cases = [each for each in samples if each.case > 1]
        if len(of_cases) >= _SAMPLE_MIN:
            kinds["caption"] = self._kind(
                await self._to_cases(of_cases, Space.CAPTION, records),
                await self._bests([(vector, Space.CAPTION) for vector in off_topic]),
            )
            kinds["image"] = self._kind(
                await self._to_cases(of_cases, Space.IMAGE, records), await self._others(of_cases)
            )
        return Calibration(records, self._fingerprint, kinds)

    async def _sample(self) -> tuple[list[_Sample], int]:
        """Records by chance, each as likely as any other, and how many there are."""
        chosen: list[Record] = []
        cases: Counter[str] = Counter()
        captions: Counter[str] = Counter()
        both: Counter[tuple[str, str]] = Counter()
        position, seen = "", 0
        while True:
            walked = await self._engine.walk(position, _WALK)
            for stored in walked.points:
                record = Record.from_json(stored.record)
                captions[record.caption] += 1
                if record.case_id:
                    cases[record.case_id] += 1
                    both[record.case_id, record.caption] += 1
                seen += 1
                if len(chosen) < _SAMPLE:
                    chosen.append(record)
                elif (place := self._random.randrange(seen)) < _SAMPLE:
                    chosen[place] = record
            position = walked.position
            if not position:
                break
            await self._pause()
        vectors: dict[str, Stored] = {}
        for start in range(0, len(chosen), _WALK):
            vectors |= await self._engine.fetch([each.id for each in chosen[start : start + _WALK]], vectors=True)
            await self._pause()
        samples = []
        for record in chosen:
            found = vectors.get(record.id)
            if found is None or found.image is None or found.caption is None:
                continue
            twins = captions[record.caption] - max(1, both[record.case_id, record.caption])
            samples.append(_Sample(record, found.image, found.caption, cases[record.case_id], twins))
        return samples, seen

    async def _off_topic(self) -> list[Array]:
        """Vectors of questions of which the collection lacks a word."""
        lexicon = self._lexicon
        # Without the vocabulary nothing is taken for a typing error.
        queries = {text: read_query(text, lexicon.synonyms, Vocabulary()) for text in read_off_topic()}
        texts = [text for text, query in queries.items() if not lexicon.knows(query)]
        vectors: list[Array] = []
        for start in range(0, len(texts), _BATCH):
            answers = await self._encoder.texts(texts[start : start + _BATCH])
            if any(answer.fingerprint != self._fingerprint for answer in answers):
                raise MirageError(Code.FINGERPRINT_MISMATCH, expected=self._fingerprint, given=answers[0].fingerprint)
            vectors += [answer.vector for answer in answers]
            await self._pause()
        return vectors

    async def _nearest(self, queries: Sequence[tuple[Array, Space]]) -> list[list[Hit]]:
        return await self._search([Nearest(vector, space, _DEPTH) for vector, space in queries])

    async def _to_cases(self, samples: Sequence[_Sample], space: Space, records: int) -> "list[_Ranked]":
        """Vectors of records next to those of all others, of which the rest of the case is right."""
        requests = [
            Nearest(
                each.caption if space is Space.CAPTION else each.image, space, _DEPTH, Filter(exclude=(each.record.id,))
            )
            for each in samples
        ]
        found = await self._search(requests)
        return [
            self._ranked(hits, each.is_of_case, each.case - 1, records - 1)
            for each, hits in zip(samples, found, strict=True)
        ]

    async def _search(self, requests: Sequence[Nearest]) -> list[list[Hit]]:
        found: list[list[Hit]] = []
        size = 1
        while len(found) < len(requests):
            started = time.perf_counter()
            found += await self._engine.search(requests[len(found) : len(found) + size])
            each_s = (time.perf_counter() - started) / size
            size = max(1, min(_BATCH, int(_TURN_S / each_s)))
            await self._pause()
        return found

    async def _bests(self, queries: Sequence[tuple[Array, Space]]) -> list[float]:
        found = await self._search([Nearest(vector, space, 1) for vector, space in queries])
        return [hits[0].score for hits in found if hits]

    def _ranked(self, hits: Sequence[Hit], is_right: Callable[[Record], bool], rights: int, gallery: int) -> "_Ranked":
        right = [is_right(Record.from_json(hit.record)) for hit in hits]
        rank = right.index(True) + 1 if any(right) else None
        return _Ranked(rank, hits[0].score if hits else -1.0, rights, gallery)

    def _kind(self, ranked: Sequence["_Ranked"], negatives: Sequence[float]) -> Kind:
        recall = _recall(ranked)
        if len(negatives) < _SAMPLE_MIN:
            return Kind(recall)
        return Kind(
            recall,
            _thresholds(negatives),
            auroc := _auroc([each.best for each in ranked], negatives),
            recall.low > _BETTER_THAN_CHANCE * recall.chance_10 and auroc >= _AUROC_MIN,
        )

    async def _arithmetic(self, samples: Sequence[_Sample], off_topic: Sequence[Array], text: Kind) -> Kind:
        """Sums of two captions less a third one, next to sums of three questions that nothing answers."""
        sums = [_sum(self._random.sample(range(len(samples)), 3), [each.caption for each in samples]) for _ in samples]
        positives = await self._bests([(vector, Space.IMAGE) for vector in sums if vector is not None])
        nothing: list[Array | None] = []
        if len(off_topic) >= 3:
            nothing = [_sum(self._random.sample(range(len(off_topic)), 3), off_topic) for _ in off_topic]
        negatives = await self._bests([(vector, Space.IMAGE) for vector in nothing if vector is not None])
        if min(len(positives), len(negatives)) < _SAMPLE_MIN:
            return Kind()
        auroc = _auroc(positives, negatives)
        # No right answers are known for a sum: it is not better than its terms.
        return Kind(None, _thresholds(negatives), auroc, text.trusted and auroc >= _AUROC_MIN)

    async def _others(self, samples: Sequence[_Sample]) -> list[float]:
        """The cosine of each image with the nearest one that shows something else by its labels."""
        values = {
            name: [value for value, _ in counted]
            for name, counted in (await self._engine.facets(_LABELS, Filter(), 1_000)).items()
        }
        requests = []
        for sample in samples:
            for name in _LABELS:
                own = sample.record.labels.get(name, ())
                others = tuple(value for value in values.get(name, ()) if value not in own)
                if own and others:
                    requests.append(Nearest(sample.image, Space.IMAGE, 1, Filter(where={name: others})))
        return [hits[0].score for hits in await self._search(requests) if hits]


@dataclass(frozen=True)
class _Ranked:
    """A query: the rank of its first right answer (None if not among the first), its best cosine, right answers, gallery."""

    rank: int | None
    best: float
    rights: int
    gallery: int

    def chance(self, depth: int) -> float:
        """The chance that a random order has a right answer among the first."""
        wrong = self.gallery - self.rights
        if wrong < depth:
            return 1.0
        return 1 - math.prod((wrong - step) / (self.gallery - step) for step in range(depth))


def _recall(ranked: Sequence[_Ranked]) -> Recall:
    count = len(ranked)
    at_1 = sum(each.rank == 1 for each in ranked) / count
    found = sum(each.rank is not None for each in ranked)
    low, high = wilson(found, count)
    chance_1, chance_10 = (sum(each.chance(depth) for each in ranked) / count for depth in (1, _DEPTH))
    return Recall(count, at_1, found / count, low, high, chance_1, chance_10)


def _thresholds(negatives: Sequence[float]) -> Thresholds:
    """Cosines that few of the queries without an answer reach."""
    good, weak = np.quantile(np.asarray(negatives), (1 - _FALSE_GOOD, 1 - _FALSE_WEAK))
    # Just above, for one that is equal counts.
    return Thresholds(float(np.nextafter(good, np.inf)), float(np.nextafter(weak, np.inf)))


def _auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The chance that a positive is above a negative, ties counting half (Mann and Whitney)."""
    ordered = np.sort(np.asarray(negatives))
    below = np.searchsorted(ordered, positives, side="left")
    equal = np.searchsorted(ordered, positives, side="right") - below
    return float((below + equal / 2).sum() / (len(positives) * len(negatives)))


def _sum(numbers: Sequence[int], vectors: Sequence[Array]) -> Array | None:
    """The first two less the third, of length 1; None if they cancel out."""
    first, second, third = (vectors[number].astype(np.float64) for number in numbers)
    total = first + second - third
    length = float(np.linalg.norm(total))
    return (total / length).astype(np.float32) if length >= 3 * CANCELS_BELOW else None
