"""A dataset is sent in batches; what is wrong with a row stays with that row, and a run can be repeated."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from mirage.errors import ApiError, UnreachableError
from mirage.indexing import Complaint, Indexer, Pace, Plan, Tally
from mirage.replies import Presence, Record, UpsertOutcome
from mirage.uploads import BATCH_BYTES, Upload


@dataclass(frozen=True)
class Row:
    id: str
    image: bytes | None = b"own"
    caption: str = "a caption"
    labels: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"plane": ("axial",)})
    original_labels: dict[str, str] = field(default_factory=dict)
    licence: str = "CC0-1.0"
    source: str = "here"
    attribution: str = ""
    sha256: str = ""

    def read_image(self) -> bytes:
        if self.image is None:
            raise OSError("gone")
        return f"pixels of {self.id}".encode() if self.image == b"own" else self.image


@dataclass(frozen=True)
class Bad:
    line: int
    reason: str


class MemoryAtlas:
    """Keeps records as the gateway would; `troubles` are raised by the next calls, one each."""

    def __init__(self, *troubles: Exception) -> None:
        self.stored: dict[str, Upload] = {}
        self.batches: list[int] = []
        self._troubles = list(troubles)
        self._lock = threading.Lock()

    def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[Presence, ...]:
        with self._lock:
            found = []
            for id_, sha256 in keys:
                same = tuple(
                    other for other, kept in self.stored.items() if other != id_ and _sha256(kept.image) == sha256
                )
                found.append(Presence(id_, self.record(id_) if id_ in self.stored else None, same))
            return tuple(found)

    def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
        with self._lock:
            if self._troubles:
                raise self._troubles.pop(0)
            batch = list(uploads)
            self.batches.append(len(batch))
            return tuple(map(self._put, batch))

    def _put(self, upload: Upload) -> UpsertOutcome:
        if upload.image == b"bad":
            return UpsertOutcome(upload.id, "rejected", "IMAGE_UNREADABLE", "not an image")
        before = self.stored.get(upload.id)
        self.stored[upload.id] = upload
        return UpsertOutcome(upload.id, "created" if before is None else "unchanged" if before == upload else "updated")

    def record(self, record_id: str) -> Record:
        if record_id not in self.stored:
            raise ApiError("RECORD_NOT_FOUND", "no such record", status=404)
        kept = self.stored[record_id]
        labels = {facet: tuple(values) for facet, values in kept.labels.items()}
        sha256 = _sha256(kept.image)
        return Record(kept.id, kept.caption, labels, kept.licence, kept.source, image_sha256=sha256)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def busy() -> ApiError:
    return ApiError("QUEUE_FULL", "busy", status=429, retry_after_s=0.001)


def test_every_record_is_stored_once_in_batches() -> None:
    atlas = MemoryAtlas()
    tally = Indexer(atlas, pace=Pace(batch=32)).run(Row(f"r{i}") for i in range(100))
    assert tally.created == tally.stored == tally.seen == 100
    assert set(atlas.stored) == {f"r{i}" for i in range(100)}
    assert sorted(atlas.batches) == [4, 32, 32, 32]


def test_bad_rows_and_refused_records_are_listed_and_stop_nothing() -> None:
    rows: list[object] = [
        Row("a"),
        Bad(2, "the line is not JSON"),
        Row("b", image=b"bad"),
        Row("c", image=None),
        Row("d"),
    ]
    tally = Indexer(MemoryAtlas()).run(rows)
    assert (tally.created, tally.rejected, tally.bad_rows) == (2, 2, 1)
    found = {(one.where, one.code) for one in tally.complaints}
    assert found == {("line 2", "BAD_ROW"), ("b", "IMAGE_UNREADABLE"), ("c", "IMAGE_UNREADABLE")}


def test_a_second_run_changes_nothing() -> None:
    atlas = MemoryAtlas()
    rows = [Row("a"), Row("b")]
    Indexer(atlas).run(rows)
    tally = Indexer(atlas).run(rows)
    assert (tally.skipped, tally.stored) == (2, 2)
    assert Indexer(atlas, plan=Plan(resume=False)).run(rows).unchanged == 2


def test_resuming_sends_only_what_is_not_there_or_differs() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row("a"), Row("b"), Row("c")])
    atlas.batches.clear()
    rows = [Row("a"), Row("b", caption="another caption"), Row("c", image=b"other pixels"), Row("d")]
    tally = Indexer(atlas).run(rows)
    assert (tally.skipped, tally.updated, tally.created) == (1, 2, 1)
    assert sum(atlas.batches) == 3


def test_a_busy_server_is_asked_again() -> None:
    atlas = MemoryAtlas(busy(), busy(), UnreachableError("http://x", "connection refused"))
    assert Indexer(atlas).run([Row("a")]).created == 1


def test_a_server_that_stays_away_ends_the_run() -> None:
    atlas = MemoryAtlas(*[busy() for _ in range(1000)])
    with pytest.raises(ApiError, match="busy"):
        Indexer(atlas, pace=Pace(patience_s=0.05)).run([Row("a")])


def test_a_refusal_of_the_whole_is_not_repeated() -> None:
    atlas = MemoryAtlas(ApiError("API_KEY_MISSING", "a key is needed", status=401))
    with pytest.raises(ApiError) as caught:
        Indexer(atlas, pace=Pace(parallel=1)).run(Row(f"r{i}") for i in range(64))
    assert caught.value.code == "API_KEY_MISSING"
    assert len(atlas.stored) <= 32


def test_large_images_make_smaller_batches() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row(f"r{i}", image=bytes([i]) + bytes(BATCH_BYTES // 2 - 1)) for i in range(5)])
    assert sorted(atlas.batches) == [1, 2, 2]


def test_progress_only_grows() -> None:
    seen: list[Tally] = []
    Indexer(MemoryAtlas(), pace=Pace(batch=8), report=seen.append).run(Row(f"r{i}") for i in range(64))
    counts = [tally.seen for tally in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 64


def test_an_image_that_another_record_shows_is_named_and_not_sent() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row("first", image=b"same")])
    complaints: list[Complaint] = []
    rows = [Row("second", image=b"same"), Row("a", image=b"new"), Row("b", image=b"new"), Row("first", image=b"same")]
    tally = Indexer(atlas, pace=Pace(parallel=1), complain=complaints.append).run(rows)
    assert (tally.duplicates, tally.created, tally.skipped) == (2, 1, 1)
    assert {(one.where, one.code, one.reason) for one in complaints} == {
        ("second", "DUPLICATE_IMAGE", "shows the same image as first"),
        ("b", "DUPLICATE_IMAGE", "shows the same image as a"),
    }
    assert Indexer(atlas, plan=Plan(skip_duplicates=False)).run(rows).created == 2


class TwoVectors:
    fingerprint = "f" * 64

    def of(self, record_id: str) -> tuple[bytes, bytes | None] | None:
        return {"a": (b"image", b"caption"), "b": (b"image", None)}.get(record_id)


def test_given_vectors_go_with_their_records() -> None:
    atlas = MemoryAtlas()
    rows = [Row("a"), Row("b"), Row("c")]
    assert Indexer(atlas, plan=Plan(vectors=TwoVectors())).run(rows).created == 3
    sent = {id_: (each.image_vector, each.caption_vector, each.fingerprint) for id_, each in atlas.stored.items()}
    assert sent == {"a": (b"image", b"caption", "f" * 64), "b": (b"image", None, "f" * 64), "c": (None, None, "")}
    strict = Indexer(MemoryAtlas(), plan=Plan(vectors=TwoVectors(), strict=True)).run(rows)
    assert [(one.where, one.code) for one in strict.complaints] == [("c", "EMBEDDING_MISSING")]


def test_vectors_that_are_given_are_sent_even_where_the_record_is_there() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row("a"), Row("c")])
    tally = Indexer(atlas, plan=Plan(vectors=TwoVectors())).run([Row("a"), Row("c")])
    assert (tally.updated, tally.skipped) == (1, 1)
    assert atlas.stored["a"].image_vector == b"image"


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_copy_of_a_refused_record_is_stored(batch: int) -> None:
    class Picky(MemoryAtlas):
        def _put(self, upload: Upload) -> UpsertOutcome:
            if upload.caption == "too long":
                return UpsertOutcome(upload.id, "rejected", "CAPTION_TOO_LONG", "no")
            return super()._put(upload)

    atlas = Picky()
    rows = [Row("a", image=b"same", caption="too long"), *(Row(id_, image=b"same") for id_ in "bcd")]
    tally = Indexer(atlas, pace=Pace(batch=batch)).run(rows)
    assert (tally.rejected, tally.created, tally.duplicates) == (1, 1, 2)
    # Which of the copies depends on whose batch is decided first.
    assert len(set(atlas.stored) & set("bcd")) == len(atlas.stored) == 1


def test_an_id_that_no_record_may_have_does_not_spoil_the_others() -> None:
    class Strict(MemoryAtlas):
        def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[Presence, ...]:
            if any("/" in id_ for id_, _ in keys):
                raise ApiError("ID_INVALID", "no", status=422)
            return super().look_up(keys, collection=collection)

    atlas = Strict()
    Indexer(atlas).run([Row("a")])
    tally = Indexer(atlas).run([Row("a"), Row("../b")])
    assert (tally.skipped, tally.created) == (1, 1)
