"""Brings a dataset into the atlas: batches, a few of them at a time, each tried again while the server is busy.

The atlas is asked about each batch before it is sent, so that a run that was killed goes on without doing work twice.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeGuard, TypeVar

from mirage.errors import ApiError, ClientError, TimedOutError, UnreachableError
from mirage.replies import Presence, Record, UpsertOutcome
from mirage.uploads import BATCH_BYTES, Upload

# Refusals and failures that pass: the same batch again changes nothing that is stored already.
PASSING_CODES = frozenset({"QUEUE_FULL", "DEPENDENCY_UNAVAILABLE", "MODEL_NOT_READY", "DEADLINE_EXCEEDED"})
LONGEST_PAUSE_S = 10.0
COMPLAINTS_KEPT = 1000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

T = TypeVar("T")


class SourceRecord(Protocol):
    """A dataset's record, as `mirage_atlas` reads it."""

    @property
    def id(self) -> str: ...  # noqa: D102 -- the fields of mirage.v1.Record
    @property
    def caption(self) -> str: ...  # noqa: D102
    @property
    def labels(self) -> dict[str, tuple[str, ...]]: ...  # noqa: D102
    @property
    def original_labels(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def licence(self) -> str: ...  # noqa: D102
    @property
    def source(self) -> str: ...  # noqa: D102
    @property
    def attribution(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102

    def read_image(self) -> bytes:
        """The image file's bytes; raises OSError."""


class Atlas(Protocol):
    """What indexing needs of a client; `mirage.client.Client` is one."""

    def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
        """Stores records."""

    def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[Presence, ...]:
        """What is stored of some records, given as (id, SHA-256)."""


class Vectors(Protocol):
    """Embeddings that the caller has already; `mirage.embeddings.Embeddings` is one."""

    @property
    def fingerprint(self) -> str:
        """Of the model that made them."""
        ...

    def of(self, record_id: str) -> "tuple[bytes, bytes | None] | None":
        """Image vector and, where there is one, caption vector of a record, little-endian float32; None for an unknown id."""


@dataclass(frozen=True)
class Complaint:
    """A row or record that did not get in: where it stands (`line 7`, or the id), and why."""

    where: str
    code: str
    reason: str


@dataclass(frozen=True)
class Tally:
    """How far an index run is. `skipped` were found in the atlas already and not sent, `duplicates` show an image that
    another record shows.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    duplicates: int = 0
    rejected: int = 0
    bad_rows: int = 0
    elapsed_s: float = 0.0
    complaints: tuple[Complaint, ...] = field(default=(), repr=False)

    @property
    def seen(self) -> int:
        """Rows dealt with."""
        return self.stored + self.duplicates + self.rejected + self.bad_rows

    @property
    def stored(self) -> int:
        """Records that are in the atlas now."""
        return self.created + self.updated + self.unchanged + self.skipped

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.seen / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True)
class Plan:
    """What to do: the collection to fill ("" for the active one), and the vectors that need not be computed.

    With `resume` what the atlas holds already is not sent. With `skip_duplicates` an image that another record of the run or
    of the atlas shows is not sent, but named. With `strict` a record without a given vector is refused rather than encoded.
    """

    collection: str = ""
    resume: bool = True
    skip_duplicates: bool = True
    vectors: Vectors | None = None
    strict: bool = False


@dataclass(frozen=True)
class Pace:
    """How hard to push: records in a batch, batches at a time, and how long to try while the server is not there."""

    batch: int = 32
    parallel: int = 2
    patience_s: float = 60.0


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
        self._images: dict[bytes, _Owner] = {}
        # Records whose image came first in one that is still on its way, and may yet be refused.
        self._deferred: list[SourceRecord] = []
        self._images_lock = threading.Lock()
        self._tally = Tally()
        self._started = 0.0

    def run(self, rows: Iterable[object]) -> Tally:
        """Sends every record of `rows`; rows without a `read_image` (bad ones: `line`, `reason`) are counted.

        Raises ClientError where the server refuses as a whole or stays away; what was acknowledged is stored. `tally` tells
        how far it came.
        """
        self._started = time.monotonic()
        running: set[Future[Tally]] = set()
        with ThreadPoolExecutor(self._pace.parallel, thread_name_prefix="index") as pool:
            try:
                for batch in self._batches(rows):
                    while len(running) >= self._pace.parallel:
                        running = self._collect(running)
                    running.add(pool.submit(self._send, batch))
                while running:
                    running = self._collect(running)
                while self._deferred:
                    # All others are decided now; one after the other, so that of several the first is stored.
                    record = self._deferred.pop(0)
                    self._add(pool.submit(self._send, [record]).result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self._tally

    @property
    def tally(self) -> Tally:
        """How far the run is."""
        return self._tally

    def _collect(self, running: set[Future[Tally]]) -> set[Future[Tally]]:
        done, rest = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            self._add(future.result())
        return rest

    def _add(self, more: Tally) -> None:
        mine = self._tally
        counts = ("created", "updated", "unchanged", "skipped", "duplicates", "rejected", "bad_rows")
        for complaint in more.complaints:
            self._complain(complaint)
        self._tally = Tally(
            **{name: getattr(mine, name) + getattr(more, name) for name in counts},
            elapsed_s=time.monotonic() - self._started,
            complaints=(mine.complaints + more.complaints)[:COMPLAINTS_KEPT],
        )
        self._report(self._tally)

    def _batches(self, rows: Iterable[object]) -> Iterator[list[SourceRecord]]:
        batch: list[SourceRecord] = []
        for row in rows:
            if _is_record(row):
                batch.append(row)
                if len(batch) == self._pace.batch:
                    yield batch
                    batch = []
            else:
                complaint = Complaint(f"line {getattr(row, 'line', '?')}", "BAD_ROW", str(getattr(row, "reason", row)))
                self._add(Tally(bad_rows=1, complaints=(complaint,)))
        if batch:
            yield batch

    def _send(self, records: list[SourceRecord]) -> Tally:
        tally = Tally()
        made: list[tuple[SourceRecord, Upload]] = []
        for record in records:
            upload = self._made(record)
            if isinstance(upload, Complaint):
                tally = replace(tally, rejected=tally.rejected + 1, complaints=(*tally.complaints, upload))
            else:
                made.append((record, upload))
        uploads, tally = self._sift(made, tally)
        part: list[Upload] = []
        size = 0
        for upload in uploads:
            if part and size + len(upload.image) > BATCH_BYTES:
                tally = self._upsert(part, tally)
                part, size = [], 0
            part.append(upload)
            size += len(upload.image)
        return self._upsert(part, tally) if part else tally

    def _made(self, record: SourceRecord) -> "Upload | Complaint":
        try:
            image = record.read_image()
        except OSError:
            return Complaint(record.id, "IMAGE_UNREADABLE", "the image file cannot be read")
        upload = _upload(record, image)
        vectors = self._plan.vectors
        if vectors is None:
            return upload
        found = vectors.of(record.id)
        if found is None:
            missing = Complaint(record.id, "EMBEDDING_MISSING", "the file of embeddings has none of this id")
            return missing if self._plan.strict else upload
        return replace(upload, image_vector=found[0], caption_vector=found[1], fingerprint=vectors.fingerprint)

    def _sift(self, made: list[tuple[SourceRecord, Upload]], tally: Tally) -> tuple[list[Upload], Tally]:
        """What is left to send, by what the run has met and what the atlas says it holds."""
        digests = [hashlib.sha256(upload.image) for _, upload in made]
        keys = [(upload.id, digest.hexdigest()) for (_, upload), digest in zip(made, digests, strict=True)]
        there = self._look_up(keys) if self._plan.resume or self._plan.skip_duplicates else {}
        left: list[Upload] = []
        for (record, upload), digest in zip(made, digests, strict=True):
            known = there.get(upload.id)
            stored = known.record if known else None
            if self._is_there(upload, stored, digest.hexdigest()):
                self._own(digest.digest(), upload.id, stored=True)
                tally = replace(tally, skipped=tally.skipped + 1)
                continue
            if self._plan.skip_duplicates and stored is None:
                other = next(iter(known.same_image_ids), "") if known else ""
                owner = self._own(digest.digest(), upload.id)
                if not other and owner.id != upload.id:
                    if not owner.stored:
                        self._deferred.append(record)
                        continue
                    other = owner.id
                if other:
                    complaint = Complaint(upload.id, "DUPLICATE_IMAGE", f"shows the same image as {other}")
                    tally = replace(tally, duplicates=tally.duplicates + 1, complaints=(*tally.complaints, complaint))
                    continue
            left.append(upload)
        return left, tally

    def _is_there(self, upload: Upload, stored: Record | None, sha256: str) -> bool:
        """True for what need not be sent. Given vectors must be: only the atlas can tell whether it has the same."""
        if not self._plan.resume or stored is None or upload.image_vector is not None:
            return False
        return is_same(stored, upload, sha256=sha256)

    def _own(self, digest: bytes, record_id: str, *, stored: bool = False) -> "_Owner":
        """The record whose image this is: this one, where none came before."""
        with self._images_lock:
            owner = self._images.setdefault(digest, _Owner(record_id))
            owner.stored |= stored and owner.id == record_id
            return owner

    def _settle(self, uploads: list[Upload], outcomes: Iterable[UpsertOutcome]) -> None:
        """Images of refused records are nobody's again."""
        refused = {outcome.id for outcome in outcomes if outcome.state == "rejected"}
        with self._images_lock:
            for upload in uploads:
                digest = hashlib.sha256(upload.image).digest()
                owner = self._images.get(digest)
                if owner is None or owner.id != upload.id:
                    continue
                if upload.id in refused:
                    del self._images[digest]
                else:
                    owner.stored = True

    def _look_up(self, keys: list[tuple[str, str]]) -> dict[str, Presence]:
        # One id that no record may have would spoil the look-up of all: the upsert names it.
        keys = [key for key in keys if _ID.fullmatch(key[0])]
        if not keys:
            return {}

        def ask() -> tuple[Presence, ...]:
            return self._atlas.look_up(keys, collection=self._plan.collection)

        return {presence.id: presence for presence in self._persist(ask)}

    def _upsert(self, uploads: list[Upload], tally: Tally) -> Tally:
        outcomes = self._persist(lambda: self._atlas.upsert(uploads, collection=self._plan.collection))
        self._settle(uploads, outcomes)
        counts = {
            "created": tally.created,
            "updated": tally.updated,
            "unchanged": tally.unchanged,
            "rejected": tally.rejected,
        }
        complaints = list(tally.complaints)
        for outcome in outcomes:
            counts[outcome.state] += 1
            if outcome.state == "rejected":
                complaints.append(Complaint(outcome.id, outcome.code, outcome.message))
        return replace(tally, **counts, complaints=tuple(complaints))

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


def is_same(stored: Record, upload: Upload, *, sha256: str) -> bool:
    """True if the atlas holds exactly this record, made from this file, whose SHA-256 is given."""
    return (
        (stored.original_sha256 or stored.image_sha256) == sha256
        and upload.pixels in (None, stored.pixels)
        and stored.caption == upload.caption
        and {facet: sorted(values) for facet, values in stored.labels.items()}
        == {facet: sorted(values) for facet, values in upload.labels.items()}
        and dict(stored.original_labels) == dict(upload.original_labels)
        and (stored.licence, stored.source, stored.attribution) == (upload.licence, upload.source, upload.attribution)
    )


def _is_record(row: object) -> TypeGuard[SourceRecord]:
    return hasattr(row, "read_image")


def _upload(record: SourceRecord, image: bytes) -> Upload:
    return Upload(
        id=record.id,
        caption=record.caption,
        image=image,
        labels=record.labels,
        original_labels=record.original_labels,
        licence=record.licence,
        source=record.source,
        attribution=record.attribution,
        pixels=getattr(record, "pixels", None),
    )


def _passes(error: ClientError) -> bool:
    return isinstance(error, UnreachableError | TimedOutError) or error.code in PASSING_CODES
