"""A dataset is sent in batches; what is wrong with a row stays with that row, and a run can be repeated."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mirage.errors import ApiError, ReplyError, TimedOutError, UnreachableError
from mirage.indexing import Indexer, stored_ids
from mirage.indexing_plan import Pace, Plan
from mirage.tally import Complaint, Tally
from mirage.uploads import BATCH_BYTES, Upload
from mirage_api.records import Record, RecordPresence, UpsertError, UpsertOutcome


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
    file: str = ""
    line: int = 0
    made_id: bool = False
    former_ids: tuple[str, ...] = ()
    made_from: str = ""

    def read_image(self) -> bytes:
        if self.image is None:
            raise OSError("gone")
        return f"pixels of {self.id}".encode() if self.image == b"own" else self.image


@dataclass(frozen=True)
class Bad:
    line: int
    reason: str
    file: str = ""
    code: str = "BAD_ROW"


def refused(id_: str, code: str, message: str) -> UpsertOutcome:
    return UpsertOutcome(id=id_, state="rejected", error=UpsertError(code=code, message=message))


class MemoryAtlas:
    """Keeps records as the gateway would; `troubles` are raised by the next calls, one each."""

    def __init__(self, *troubles: Exception) -> None:
        self.stored: dict[str, Upload] = {}
        self.batches: list[int] = []
        self._troubles = list(troubles)
        self._lock = threading.Lock()

    def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[RecordPresence, ...]:
        with self._lock:
            found = []
            for id_, sha256 in keys:
                same = tuple(
                    other for other, kept in self.stored.items() if other != id_ and _sha256(kept.image) == sha256
                )
                found.append(
                    RecordPresence(id=id_, record=self.record(id_) if id_ in self.stored else None, same_image_ids=same)
                )
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
            return refused(upload.id, "IMAGE_UNREADABLE", "not an image")
        before = self.stored.get(upload.id)
        self.stored[upload.id] = upload
        return UpsertOutcome(
            id=upload.id, state="created" if before is None else "unchanged" if before == upload else "updated"
        )

    def record(self, record_id: str) -> Record:
        if record_id not in self.stored:
            raise ApiError("RECORD_NOT_FOUND", "no such record", status=404)
        kept = self.stored[record_id]
        labels = {facet: tuple(values) for facet, values in kept.labels.items()}
        sha256 = _sha256(kept.image)
        return Record(
            id=kept.id,
            caption=kept.caption,
            labels=labels,
            licence=kept.licence,
            source=kept.source,
            image_sha256=sha256,
        )


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
                return refused(upload.id, "CAPTION_TOO_LONG", "no")
            return super()._put(upload)

    atlas = Picky()
    rows = [Row("a", image=b"same", caption="too long"), *(Row(id_, image=b"same") for id_ in "bcd")]
    tally = Indexer(atlas, pace=Pace(batch=batch)).run(rows)
    assert (tally.rejected, tally.created, tally.duplicates) == (1, 1, 2)
    # Which of the copies depends on whose batch is decided first.
    assert len(set(atlas.stored) & set("bcd")) == len(atlas.stored) == 1


def test_an_id_that_no_record_may_have_does_not_spoil_the_others() -> None:
    class Strict(MemoryAtlas):
        def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[RecordPresence, ...]:
            if any("/" in id_ for id_, _ in keys):
                raise ApiError("ID_INVALID", "no", status=422)
            return super().look_up(keys, collection=collection)

    atlas = Strict()
    Indexer(atlas).run([Row("a")])
    tally = Indexer(atlas).run([Row("a"), Row("../b")])
    assert (tally.skipped, tally.created) == (1, 1)


# Every row ends, and the refused ones are named in order


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_refused_rows_are_named_in_the_order_of_the_rows_and_the_sum_is_right(batch: int, parallel: int) -> None:
    rows: list[object] = []
    refused: list[tuple[str, str]] = []
    for n in range(60):
        match n % 6:
            case 0:
                rows.append(Row(f"r{n}", image=f"own {n // 12}".encode(), file="t.csv", line=n))
                if n % 12:
                    refused.append((f"t.csv line {n}", "DUPLICATE_IMAGE"))
            case 1:
                rows.append(Bad(n, "no caption", "t.csv"))
                refused.append((f"t.csv line {n}", "BAD_ROW"))
            case 2:
                rows.append(Row(f"r{n}", image=b"bad", file="t.csv", line=n))
                refused.append((f"t.csv line {n}", "IMAGE_UNREADABLE"))
            case 3:
                rows.append(Bad(0, "the file is not DICOM", f"file {n}", "IMAGE_UNREADABLE"))
                refused.append((f"file {n}", "IMAGE_UNREADABLE"))
            case _:
                rows.append(Row(f"r{n}", file="t.csv", line=n))
    named: list[Complaint] = []
    tally = Indexer(
        MemoryAtlas(), pace=Pace(batch=batch, parallel=parallel), plan=Plan(resume=False), complain=named.append
    ).run(rows)
    assert [(one.where, one.code) for one in named if one.code != "DUPLICATE_IMAGE"] == [
        each for each in refused if each[1] != "DUPLICATE_IMAGE"
    ]
    # Which of two copies in flight is stored depends on whose batch is decided first.
    assert len(named) == len(refused)
    numbers = [one.line or int(one.file.split()[1]) for one in named]
    assert numbers == sorted(numbers)
    assert tuple(named) == tally.complaints
    assert tally.seen == tally.stored + tally.refused == len(rows)
    assert tally.refused == len(refused)


def test_a_complaint_has_file_line_and_id() -> None:
    named: list[Complaint] = []
    Indexer(MemoryAtlas(), complain=named.append).run([Row("a", image=b"bad", file="t.csv", line=7)])
    assert named == [Complaint("t.csv line 7", "IMAGE_UNREADABLE", "not an image", file="t.csv", line=7, id="a")]


class OneSpoilsAll(MemoryAtlas):
    """Refuses a whole request because of one record in it, as a gateway does that cannot read its form."""

    def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[RecordPresence, ...]:
        keys = list(keys)
        if any(id_.startswith("spoilt") for id_, _ in keys):
            raise ApiError("ID_INVALID", "no", status=422)
        return super().look_up(keys, collection=collection)

    def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
        uploads = list(uploads)
        if any(upload.id.startswith("spoilt") for upload in uploads):
            raise ApiError("REQUEST_MALFORMED", "cannot be read", status=400)
        return super().upsert(uploads, collection=collection)


def test_a_record_that_spoils_its_batch_is_refused_alone() -> None:
    atlas = OneSpoilsAll()
    rows = [Row(f"r{n}") for n in range(20)] + [Row("spoilt")] + [Row(f"s{n}") for n in range(20)] + [Row("spoilt-too")]
    for _ in range(2):
        tally = Indexer(atlas).run(rows)
        assert [(one.id, one.code) for one in tally.complaints] == [
            ("spoilt", "REQUEST_MALFORMED"),
            ("spoilt-too", "REQUEST_MALFORMED"),
        ]
        assert (tally.stored, tally.refused) == (40, 2)


class SlowAtlas(MemoryAtlas):
    """Stores at most `most` records in the time of a reply."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self._most = most
        self._error = error
        self.asked: list[int] = []

    def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
        uploads = list(uploads)
        self.asked.append(len(uploads))
        if len(uploads) > self._most:
            raise self._error
        return super().upsert(uploads, collection=collection)


TOO_SLOW = (TimedOutError("no answer in time"), ApiError("DEADLINE_EXCEEDED", "too slow", status=504))


@pytest.mark.parametrize("error", TOO_SLOW)
def test_a_batch_that_takes_too_long_is_halved(error: Exception) -> None:
    atlas = SlowAtlas(8, error)
    tally = Indexer(atlas, pace=Pace(parallel=1, patience_s=0)).run(Row(f"r{n}") for n in range(40))
    assert tally.created == len(atlas.stored) == 40
    assert atlas.batches == [8] * 5


@pytest.mark.parametrize("error", TOO_SLOW)
def test_a_server_that_never_answers_in_time_ends_the_run(error: Exception) -> None:
    atlas = SlowAtlas(0, error)
    with pytest.raises(type(error)):
        Indexer(atlas, pace=Pace(parallel=1, patience_s=0)).run(Row(f"r{n}") for n in range(40))
    assert atlas.asked == [32, 16, 8, 4]


@pytest.mark.parametrize("id_", ["a..b", "..", "-x", "a/b", "", "x" * 129])
def test_an_id_that_the_server_refuses_is_not_asked_about(id_: str) -> None:
    asked: list[str] = []

    class Listening(MemoryAtlas):
        def look_up(self, keys: Iterable[tuple[str, str]], *, collection: str = "") -> tuple[RecordPresence, ...]:
            keys = list(keys)
            asked.extend(each for each, _ in keys)
            return super().look_up(keys, collection=collection)

    Indexer(Listening()).run([Row("a"), Row(id_)])
    assert asked == ["a"]


def test_copies_of_a_record_that_cannot_be_asked_about_all_end() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row("there", image=b"same")])
    rows = [Row(id_, image=b"same") for id_ in ("a", "b..c", "d..e", "f")]
    tally = Indexer(atlas).run(rows)
    assert tally.seen == 4
    assert tally.duplicates == 4


def test_an_answer_of_another_length_is_not_believed() -> None:
    class Short(MemoryAtlas):
        def upsert(self, uploads: Iterable[Upload], *, collection: str = "") -> tuple[UpsertOutcome, ...]:
            return super().upsert(uploads, collection=collection)[1:]

    with pytest.raises(ReplyError):
        Indexer(Short()).run([Row("a"), Row("b")])


def test_labels_that_the_server_left_out_are_known() -> None:
    class Careful(MemoryAtlas):
        def _put(self, upload: Upload) -> UpsertOutcome:
            return UpsertOutcome(id=upload.id, state="created", left_out=("MRN",))

    indexer = Indexer(Careful())
    indexer.run([Row("a"), Row("b")])
    assert indexer.left_out == ("MRN",)


# Ids that were made from names, and those of earlier versions


def made(id_: str, image: bytes, caption: str, **fields: Any) -> Row:
    return Row(id_, image=image, caption=caption, made_id=True, **fields)


@pytest.mark.parametrize(
    "plan", [Plan(), Plan(resume=False), Plan(skip_duplicates=False), Plan(resume=False, skip_duplicates=False)]
)
def test_a_dataset_with_the_same_names_replaces_nothing(plan: Plan) -> None:
    atlas = MemoryAtlas()
    first = [made("set-1", b"one", "first one"), made("set-2", b"two", "first two")]
    second = [made("set-1", b"three", "second one"), made("set-2", b"four", "second two")]
    assert Indexer(atlas, plan=plan).run(first).created == 2
    assert Indexer(atlas, plan=plan).run(second).created == 2
    assert {kept.caption for kept in atlas.stored.values()} == {"first one", "first two", "second one", "second two"}
    for rows in (first, second):
        tally = Indexer(atlas, plan=plan).run(rows)
        assert (tally.unchanged + tally.skipped, tally.seen) == (2, 2)


def test_a_record_that_changed_its_caption_or_its_image_stays_one_record() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([made("set-1", b"one", "a caption")])
    assert Indexer(atlas).run([made("set-1", b"one", "another caption")]).updated == 1
    assert Indexer(atlas).run([made("set-1", b"another", "another caption")]).updated == 1
    assert set(atlas.stored) == {"set-1"}


def test_what_an_earlier_version_stored_keeps_its_id() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row("1.png", image=b"one", caption="a caption")])
    row = made("set-1", b"one", "a better caption", former_ids=("images/1.png", "1.png"))
    assert Indexer(atlas).run([row]).updated == 1
    assert Indexer(atlas).run([row]).skipped == 1
    assert set(atlas.stored) == {"1.png"}
    assert stored_ids(atlas, [row, Row("none")]) == ["1.png", ""]


def test_the_former_id_of_another_image_or_dataset_is_not_taken_over() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run(
        [Row("1.png", image=b"one", caption="a caption"), Row("2.png", image=b"two", caption="x", source="there")]
    )
    rows = [
        made("set-1", b"another", "a caption", former_ids=("1.png",)),
        made("set-2", b"two", "y", former_ids=("2.png",)),
    ]
    tally = Indexer(atlas).run(rows)
    assert (tally.created, tally.duplicates) == (1, 1)
    assert atlas.stored["1.png"].image == b"one"
    assert atlas.stored["2.png"].caption == "x"


def test_a_series_that_has_grown_updates_the_record_of_its_earlier_id() -> None:
    atlas = MemoryAtlas()
    Indexer(atlas).run([Row("dicom-s-2", image=b"second section")])
    former = tuple(f"dicom-s-{n}" for n in range(1_500))
    row = Row("dicom-s", image=b"third section", former_ids=former)
    assert Indexer(atlas).run([row]).updated == 1
    assert set(atlas.stored) == {"dicom-s-2"}


def test_copies_of_an_image_that_was_made_from_a_file_are_recognised_by_the_file() -> None:
    atlas = MemoryAtlas()
    rows = [Row("a", image=b"same", made_from="1" * 64), Row("b", image=b"same", made_from="2" * 64)]
    rows += [Row("c", image=b"same", made_from="1" * 64)]
    tally = Indexer(atlas).run(rows)
    assert (tally.created, tally.duplicates) == (2, 1)
    assert Indexer(atlas).run(rows[:2]).skipped == 2


def test_vectors_are_found_by_an_earlier_id() -> None:
    atlas = MemoryAtlas()
    row = made("set-1", b"one", "a caption", former_ids=("a",))
    assert Indexer(atlas, plan=Plan(vectors=TwoVectors(), strict=True)).run([row]).created == 1
    assert atlas.stored["set-1"].image_vector == b"image"
