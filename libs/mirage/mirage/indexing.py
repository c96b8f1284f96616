"""Indexes a dataset: batches, a few of them at a time, each repeated while the server is busy.

The atlas is asked about each batch before it is sent, so that a run that was killed continues without repeating work.

Every row ends as created, updated, unchanged or refused, and each refused one is named in the order of the rows. A
batch that the server refuses because of one record is parted until that one is alone, and one that takes too long is halved.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TypeVar

from mirage.errors import ApiError, ClientError, ReplyError, TimedOutError, UnreachableError
from mirage.indexing_plan import Atlas, Pace, Plan
from mirage.source_records import SourceRecord, complaint_about, former_ids, is_made, is_record, upload_of
from mirage.stored import image_of, is_same, is_version
from mirage.tally import Complaint, Count, End, InOrder, Tally
from mirage.uploads import BATCH_BYTES, Upload
from mirage_api.records import Record, RecordPresence, UpsertError, UpsertOutcome

# Refusals and failures that pass: the same batch again changes nothing that is stored already.
PASSING_CODES = frozenset({"QUEUE_FULL", "DEPENDENCY_UNAVAILABLE", "MODEL_NOT_READY", "DEADLINE_EXCEEDED"})
LONGEST_PAUSE_S = 10.0
# Refusals of a request that are one record's fault.
RECORD_CODES = frozenset(
    {"ID_INVALID", "RECORD_INVALID", "CAPTION_TOO_LONG", "FACET_UNKNOWN", "FACET_VALUE_INVALID", "SYNTHETIC_REFUSED",
     "PIXELS_INVALID", "REGIONS_INVALID", "REQUEST_MALFORMED", "REQUEST_TOO_LARGE", "TOO_MANY_ITEMS", "TEXT_TOO_LONG"}
)  # fmt: skip
# A server that cannot store so many in the time of a reply hangs, and fewer are not tried.
_SLOW_BATCH = 8
COMPLAINTS_KEPT = 1000
_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_LOOK_UP_KEYS = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class _Row:
    """A record of the run and its number in it, from 0."""

    number: int
    record: SourceRecord


@dataclass(frozen=True)
class _Sent:
    """A row, what is sent for it, and the SHA-256 of its image file.

    `sha256` is of what is sent, `key` of the file that it was made from, if that is another one: by this copies are recognised.
    """

    row: _Row
    upload: Upload
    sha256: str
    key: str


@dataclass(frozen=True)
class _Deferred:
    """A row whose image came first with another one that is still on its way, and may yet be refused."""

    row: _Row
    key: str
    id: str


@dataclass
class _Owner:
    """The record of a run that an image came with first, and whether the atlas has it."""

    id: str
    stored: bool = False


class Indexer:
    """One run over a dataset. Records are idempotent on the server, so a run can be repeated at any time."""

    def __init__(
        self,
        atlas: Atlas,
        *,
        plan: Plan | None = None,
        pace: Pace | None = None,
        report: Callable[[Tally], None] | None = None,
        complain: Callable[[Complaint], None] | None = None,
    ) -> None:
        self._atlas = atlas
        self._plan = plan or Plan()
        self._pace = pace or Pace()
        self._report = report or (lambda _tally: None)
        self._complain = complain or (lambda _complaint: None)
        # SHA-256 of the images of this run, to the record that came first; stored once the atlas has said so.
        self._images: dict[str, _Owner] = {}
        self._deferred: list[_Deferred] = []
        self._images_lock = threading.Lock()
        self._order = InOrder(self._name)
        self._counts: dict[Count, int] = dict.fromkeys(
            ("created", "updated", "unchanged", "skipped", "duplicates", "rejected", "bad_rows"), 0
        )
        self._complaints: list[Complaint] = []
        self._left_out: dict[str, None] = {}
        self._started = 0.0

    def run(self, rows: Iterable[object]) -> Tally:
        """Sends every record of `rows`.

        Rows without a `read_image` (bad ones: `file`, `line`, `reason`, `code`) are counted.

        Raises ClientError if the server refuses as a whole or stays away; what was acknowledged is stored. `tally` says
        how far it came.
        """
        self._started = time.monotonic()
        running: set[Future[list[End]]] = set()
        with ThreadPoolExecutor(self._pace.parallel, thread_name_prefix="index") as pool:
            try:
                for batch in self._batches(rows):
                    while len(running) >= self._pace.parallel:
                        running = self._collect(running, pool)
                    running.add(pool.submit(self._send, batch))
                while running or self._deferred:
                    if not running:
                        running.add(pool.submit(self._send, self._freed()))
                    running = self._collect(running, pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                self._order.flush()
        return self.tally

    @property
    def tally(self) -> Tally:
        """Returns the progress of the run."""
        elapsed_s = time.monotonic() - self._started if self._started else 0.0
        return Tally(**self._counts, elapsed_s=elapsed_s, complaints=tuple(self._complaints))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of original labels about a person that the server did not store."""
        return tuple(self._left_out)

    def _collect(self, running: set[Future[list[End]]], pool: ThreadPoolExecutor) -> set[Future[list[End]]]:
        done, rest = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            self._add(future.result())
        again = self._decided()
        if again:
            rest.add(pool.submit(self._send, again))
        return rest

    def _decided(self) -> list[_Row]:
        """Ends the deferred rows whose image is stored by now; those that are to be sent after all."""
        with self._images_lock:
            deferred, self._deferred = self._deferred, []
            again: list[_Row] = []
            ends: list[End] = []
            for each in deferred:
                owner = self._images.get(each.key)
                if owner is None:
                    again.append(each.row)
                elif owner.stored:
                    ends.append(_duplicate(each.row, each.id, owner.id))
                else:
                    self._deferred.append(each)
        self._add(ends)
        return again

    def _freed(self) -> list[_Row]:
        """Returns the deferred rows and frees their images: for images whose first record ended without storing them."""
        with self._images_lock:
            deferred, self._deferred = self._deferred, []
            for each in deferred:
                self._images.pop(each.key, None)
        return [each.row for each in deferred]

    def _add(self, ends: Iterable[End]) -> None:
        for end in ends:
            self._counts[end.count] += 1
            self._order.end(end)
        self._report(self.tally)

    def _name(self, complaint: Complaint) -> None:
        if len(self._complaints) < COMPLAINTS_KEPT:
            self._complaints.append(complaint)
        self._complain(complaint)

    def _batches(self, rows: Iterable[object]) -> Iterator[list[_Row]]:
        batch: list[_Row] = []
        for number, row in enumerate(rows):
            if is_record(row):
                batch.append(_Row(number, row))
                if len(batch) == self._pace.batch:
                    yield batch
                    batch = []
            else:
                reason = str(getattr(row, "reason", row))
                complaint = complaint_about(row, str(getattr(row, "code", "BAD_ROW")), reason)
                self._add([End(number, "bad_rows", complaint)])
        if batch:
            yield batch

    def _send(self, rows: list[_Row]) -> list[End]:
        made: list[_Sent] = []
        ends: list[End] = []
        for row in rows:
            upload = self._made(row.record)
            if isinstance(upload, Complaint):
                ends.append(End(row.number, "rejected", upload))
            else:
                sha256 = hashlib.sha256(upload.image).hexdigest()
                made.append(_Sent(row, upload, sha256, getattr(row.record, "made_from", "") or sha256))
        part: list[_Sent] = []
        size = 0
        for sent in self._sift(made, ends):
            if part and size + len(sent.upload.image) > BATCH_BYTES:
                ends += self._upsert(part)
                part, size = [], 0
            part.append(sent)
            size += len(sent.upload.image)
        return ends + (self._upsert(part) if part else [])

    def _made(self, record: SourceRecord) -> "Upload | Complaint":
        try:
            image = record.read_image()
        except OSError:
            return complaint_about(record, "IMAGE_UNREADABLE", "the image file cannot be read")
        upload = upload_of(record, image)
        vectors = self._plan.vectors
        if vectors is None:
            return upload
        ids = (record.id, *former_ids(record))
        found = next((each for each in map(vectors.of, ids) if each is not None), None)
        if found is None:
            missing = complaint_about(record, "EMBEDDING_MISSING", "the file of embeddings has none of this id")
            return missing if self._plan.strict else upload
        return replace(upload, image_vector=found[0], caption_vector=found[1], fingerprint=vectors.fingerprint)

    def _sift(self, made: list[_Sent], ends: list[End]) -> list[_Sent]:
        """Returns the records that are left to send, by what the run has met and what the atlas holds.

        The others end here.
        """
        there: dict[str, RecordPresence] = {}
        if self._plan.resume or self._plan.skip_duplicates or any(is_made(sent.row.record) for sent in made):
            there = self._look_up([(sent.upload.id, sent.key) for sent in made])
            made = self._settled_ids(made, there)
        left: list[_Sent] = []
        for sent in made:
            row, upload = sent.row, sent.upload
            known = there.get(upload.id)
            stored = known.record if known else None
            if self._is_there(upload, stored, sent.sha256):
                self._own(sent.key, upload.id, stored=True)
                ends.append(End(row.number, "skipped"))
                continue
            if self._plan.skip_duplicates and stored is None:
                other = next(iter(known.same_image_ids), "") if known else ""
                owner = self._own(sent.key, other or upload.id, stored=bool(other))
                if not other and owner.id != upload.id:
                    if not owner.stored:
                        with self._images_lock:
                            self._deferred.append(_Deferred(row, sent.key, upload.id))
                        continue
                    other = owner.id
                if other:
                    ends.append(_duplicate(row, upload.id, other))
                    continue
            left.append(sent)
        return left

    def _settled_ids(self, made: list[_Sent], there: dict[str, RecordPresence]) -> list[_Sent]:
        """Returns the rows with the ids that they have in the atlas; `there` gains what it holds of those.

        A record that an earlier version stored under another id keeps that. An id that was made from names, and that
        another image with another caption has, is another dataset's: the row gets one of its own, made from its image.
        """
        others: dict[str, tuple[str, ...]] = {}
        for sent in made:
            known = there.get(sent.upload.id)
            if known is None or known.record is None:
                others[sent.upload.id] = former_ids(sent.row.record)
            elif is_made(sent.row.record) and not is_version(known.record, sent.upload, sent.sha256):
                others[sent.upload.id] = (f"{sent.upload.id}-{sent.sha256[:8]}",)
        found = self._look_up([(other, sent.key) for sent in made for other in others.get(sent.upload.id, ())])
        settled: list[_Sent] = []
        for sent in made:
            candidates = others.get(sent.upload.id, ())
            known = there.get(sent.upload.id)
            if known is not None and known.record is not None:
                chosen = next(iter(candidates), "")
            else:
                chosen = next((each for each in candidates if _adopts(sent, found.get(each))), "")
            if chosen and chosen in found:
                there[chosen] = found[chosen]
            settled.append(replace(sent, upload=replace(sent.upload, id=chosen)) if chosen else sent)
        return settled

    def _is_there(self, upload: Upload, stored: Record | None, sha256: str) -> bool:
        """Returns True for a record that need not be sent. Given vectors are always sent: only the atlas knows if it
        has the same ones.
        """
        if not self._plan.resume or stored is None or upload.image_vector is not None:
            return False
        return is_same(stored, upload, sha256=sha256)

    def _own(self, key: str, record_id: str, *, stored: bool = False) -> "_Owner":
        """The record whose image this is: this one, if none came before."""
        with self._images_lock:
            owner = self._images.setdefault(key, _Owner(record_id))
            owner.stored |= stored and owner.id == record_id
            return owner

    def _settle(self, part: list[_Sent], outcomes: Iterable[UpsertOutcome]) -> None:
        """Frees the images of refused records."""
        refused = {outcome.id for outcome in outcomes if outcome.state == "rejected"}
        with self._images_lock:
            for sent in part:
                owner = self._images.get(sent.key)
                if owner is None or owner.id != sent.upload.id:
                    continue
                if owner.id in refused:
                    del self._images[sent.key]
                else:
                    owner.stored = True

    def _look_up(self, keys: list[tuple[str, str]]) -> dict[str, RecordPresence]:
        # One id that no record may have would spoil the look-up of all: the upsert names it.
        keys = [key for key in dict.fromkeys(keys) if _ID.fullmatch(key[0])]
        found: dict[str, RecordPresence] = {}
        for start in range(0, len(keys), _LOOK_UP_KEYS):
            found |= self._look_up_some(keys[start : start + _LOOK_UP_KEYS])
        return found

    def _look_up_some(self, keys: list[tuple[str, str]]) -> dict[str, RecordPresence]:
        try:
            answer = self._persist(lambda: self._atlas.look_up(keys, collection=self._plan.collection))
        except ApiError as error:
            if error.code not in RECORD_CODES:
                raise
            if len(keys) == 1:
                return {}
            half = len(keys) // 2
            return self._look_up_some(keys[:half]) | self._look_up_some(keys[half:])
        return {presence.id: presence for presence in answer}

    def _upsert(self, part: list[_Sent]) -> list[End]:
        uploads = [sent.upload for sent in part]
        try:
            outcomes = self._persist(lambda: self._atlas.upsert(uploads, collection=self._plan.collection))
        except (ApiError, TimedOutError) as error:
            slow = _is_slow(error)
            if (slow and len(part) < _SLOW_BATCH) or (not slow and error.code not in RECORD_CODES):
                raise
            if len(part) > 1 or isinstance(error, TimedOutError):
                half = len(part) // 2
                return self._upsert(part[:half]) + self._upsert(part[half:])
            outcomes = (
                UpsertOutcome(
                    id=uploads[0].id, state="rejected", error=UpsertError(code=error.code, message=error.message)
                ),
            )
        if len(outcomes) != len(part):
            raise ReplyError(f"the gateway answered {len(outcomes)} outcomes to {len(part)} records")
        self._settle(part, outcomes)
        return [self._end(sent, outcome) for sent, outcome in zip(part, outcomes, strict=True)]

    def _end(self, sent: _Sent, outcome: UpsertOutcome) -> End:
        self._left_out.update(dict.fromkeys(outcome.left_out))
        if outcome.state != "rejected":
            return End(sent.row.number, outcome.state)
        error = outcome.error or UpsertError(code="INTERNAL")
        complaint = complaint_about(sent.row.record, error.code, error.message, id=sent.upload.id)
        return End(sent.row.number, "rejected", complaint)

    def _persist(self, call: Callable[[], T]) -> T:
        give_up = time.monotonic() + self._pace.patience_s
        pause_s = 0.2
        while True:
            try:
                return call()
            except ClientError as error:
                if not _passes(error) or time.monotonic() > give_up:
                    raise
                told = error.retry_after_s if isinstance(error, ApiError) else None
                time.sleep(min(told or pause_s, LONGEST_PAUSE_S))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def stored_ids(atlas: Atlas, records: Sequence[SourceRecord]) -> list[str]:
    """The id that each record has in the atlas, "" for one that is not there: its own, or one of an earlier version."""
    keys = [(place, each) for place, record in enumerate(records) for each in (record.id, *former_ids(record))]
    found = [""] * len(records)
    for start in range(0, len(keys), _LOOK_UP_KEYS):
        some = keys[start : start + _LOOK_UP_KEYS]
        there = atlas.look_up([(each, "") for _, each in some])
        for (place, each), presence in zip(some, there, strict=True):
            if presence.record is not None and not found[place]:
                found[place] = each
    return found


def _adopts(sent: _Sent, presence: RecordPresence | None) -> bool:
    """True if a record under a former id is this row's."""
    if presence is None or presence.record is None:
        return False
    if not is_made(sent.row.record):
        return True
    stored = presence.record
    return image_of(stored) == sent.sha256 and (
        stored.caption == sent.upload.caption or stored.source == sent.upload.source
    )


def _duplicate(row: _Row, record_id: str, other: str) -> End:
    complaint = complaint_about(row.record, "DUPLICATE_IMAGE", f"shows the same image as {other}", id=record_id)
    return End(row.number, "duplicates", complaint)


def _is_slow(error: ClientError) -> bool:
    """True if the batch was too much for the time that it has: half of it may not be."""
    return isinstance(error, TimedOutError) or error.code == "DEADLINE_EXCEEDED"


def _passes(error: ClientError) -> bool:
    return isinstance(error, UnreachableError | TimedOutError) or error.code in PASSING_CODES
