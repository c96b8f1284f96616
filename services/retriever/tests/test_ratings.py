"""Rating sheets: what raters see, what they may send, and what becomes of the records behind them."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mirage_core.decoders import DecoderPool
from mirage_core.errors import Code, MirageError
from mirage_core.image_store import ImageStore
from mirage_core.synthetic_label import draw_label
from mirage_protos.v1.rating_pb2 import (
    RATING_KIND_DESCRIPTION,
    RATING_KIND_IMAGE,
    RATING_KIND_RESULT,
    RATING_ORIGIN_GENERATED,
    RATING_ORIGIN_REAL,
    RATING_VERDICT_CORRECT,
    RATING_VERDICT_MISLABELLED,
    RATING_VERDICT_MISLEADING,
    RatingAnswer,
    RatingItem,
)
from mirage_retriever.collections import Collections
from mirage_retriever.engines.base import Collection, Point
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.edge.store import EdgeCollectionStore
from mirage_retriever.facets import NAMES
from mirage_retriever.images import Images
from mirage_retriever.ratings import Ratings, RatingStore
from mirage_retriever.records import Record

UNIT = np.array([1, 0, 0, 0], np.float32)
DESCRIPTION = {"kind": RATING_KIND_DESCRIPTION, "query": "liver", "text": "The liver is shown.", "system": "mirage"}


def picture(*, marked: bool = False) -> bytes:
    pixels = np.asarray(Image.radial_gradient("L").convert("RGB"))
    out = io.BytesIO()
    Image.fromarray(draw_label(pixels) if marked else pixels).save(out, "PNG")
    return out.getvalue()


def item(**changes: Any) -> RatingItem:
    return RatingItem(**{**DESCRIPTION, **changes})


def answer(number: int = 1, **changes: Any) -> RatingAnswer:
    return RatingAnswer(**{"number": number, "relevance": 2, "verdict": RATING_VERDICT_CORRECT, **changes})


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    return RatingStore(tmp_path / "ratings")


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[tuple[Ratings, Collections]]:
    """Ratings over a real collection with one record, whose image is in the store."""
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=60, build_share=1, build_points=50_000)
    engines = EdgeCollectionStore(
        tmp_path, default="atlas", make=lambda path: EdgeEngine(path, facets=NAMES, policy=policy)
    )
    collections = Collections(engines)
    await collections.open()
    await collections.active.make(Collection("atlas", 4, "a" * 64))
    decoder = DecoderPool(1, 512, 30.0, 512, "test-decode")
    images = Images(ImageStore(tmp_path), decoder, places=1)
    staged = await images.take_in([picture()], None)
    images.store.keep([staged])
    sha256 = staged.stored.image_sha256
    record = Record("one", "Liver, axial CT", image_sha256=sha256, image_type="image/png", width=256, height=256)
    await collections.active.engine.upsert([Point("one", UNIT, UNIT, record.to_json(), {}, sha256)])
    yield Ratings(tmp_path / "ratings", collections, images), collections
    await decoder.close()
    await collections.close()


async def refused(code: Code, call: Any, **metadata: str) -> None:
    with pytest.raises(MirageError) as caught:
        await call
    assert caught.value.code is code
    assert caught.value.metadata == metadata or not metadata


async def test_a_rater_sees_neither_system_nor_place_nor_record(made: tuple[Ratings, Collections]) -> None:
    ratings, _ = made
    sheet, (token,) = await ratings.create("", 1)
    await ratings.add(sheet.id, item(kind=RATING_KIND_RESULT, text="", record_id="one", system="alpha", rank=7), b"")
    own = item(kind=RATING_KIND_IMAGE, text="", system="beta", origin=RATING_ORIGIN_GENERATED)
    await ratings.add(sheet.id, own, picture())
    await ratings.add(sheet.id, item(system="gamma"), b"")
    seen = await ratings.rating(token)
    assert [(each.text, each.has_image) for each in seen.questions] == [
        ("Liver, axial CT", True),
        ("", True),
        ("The liver is shown.", False),
    ]
    said = "".join(str(each) for each in seen.questions)
    assert not [word for word in ("alpha", "beta", "gamma", "one", "origin", "rank") if word in said]
    for number in (1, 2):
        pieces = [piece async for piece in ratings.image(token, number)]
        assert {(kind, length) for kind, length, _ in pieces} == {("image/png", sum(len(each[2]) for each in pieces))}
        assert Image.open(io.BytesIO(b"".join(each[2] for each in pieces))).size == (256, 256)
    await refused(Code.RATING_ITEM_NOT_FOUND, anext(ratings.image(token, 3)))
    await refused(Code.RATING_ITEM_NOT_FOUND, anext(ratings.image(token, 4)))


async def test_an_item_whose_record_was_deleted_is_gone_and_says_nothing_of_it(
    made: tuple[Ratings, Collections],
) -> None:
    ratings, collections = made
    sheet, (token,) = await ratings.create("", 1)
    await ratings.add(sheet.id, item(kind=RATING_KIND_RESULT, text="", record_id="one"), b"")
    assert await ratings.answer(token, answer(), 0) == 1
    await collections.active.engine.delete(["one"])
    (seen,) = (await ratings.rating(token)).questions
    assert (seen.gone, seen.has_image, seen.text) == (True, False, "")
    await refused(Code.RATING_ITEM_NOT_FOUND, ratings.answer(token, answer(relevance=1), 1), number="1")
    await refused(Code.RATING_ITEM_NOT_FOUND, anext(ratings.image(token, 1)), number="1")
    assert [each.gone for each in (await ratings.sheet(sheet.id)).items] == [True]
    await refused(
        Code.RECORD_NOT_FOUND, ratings.add(sheet.id, item(kind=RATING_KIND_RESULT, text="", record_id="one"), b"")
    )


BAD_ITEMS: list[tuple[str, dict[str, Any], bytes]] = [
    ("kind", {"kind": 0}, b""),
    ("query", {"query": " "}, b""),
    ("query", {"query": "x" * 2001}, b""),
    ("text", {"text": ""}, b""),
    ("text", {"text": "x" * 4001}, b""),
    ("text", {"kind": RATING_KIND_RESULT, "record_id": "one"}, b""),
    ("record_id, image", {"record_id": "one"}, b""),
    ("record_id, image", {"kind": RATING_KIND_RESULT, "text": ""}, b""),
    ("record_id, image", {"kind": RATING_KIND_RESULT, "text": "", "record_id": "one"}, b"x"),
    ("system", {"system": ""}, b""),
    ("system", {"system": "x" * 65}, b""),
    ("rank", {"rank": -1}, b""),
    ("rank", {"rank": 101}, b""),
    ("origin", {"kind": RATING_KIND_IMAGE, "text": "", "record_id": "one"}, b""),
]


async def test_items_that_cannot_be_rated_are_refused(made: tuple[Ratings, Collections]) -> None:
    ratings, _ = made
    sheet, _ = await ratings.create("", 1)
    for field, changes, image in BAD_ITEMS:
        await refused(Code.REQUEST_MALFORMED, ratings.add(sheet.id, item(**changes), image), field=field)
    alone: dict[str, Any] = {"kind": RATING_KIND_IMAGE, "text": "", "origin": RATING_ORIGIN_REAL}
    await refused(Code.IMAGE_FORMAT_UNSUPPORTED, ratings.add(sheet.id, item(**alone), b"no image"))
    await refused(Code.SYNTHETIC_REFUSED, ratings.add(sheet.id, item(**alone), picture(marked=True)))
    await refused(Code.ID_INVALID, ratings.add(sheet.id, item(**alone, record_id="../one"), b""))
    await refused(Code.RATING_NOT_FOUND, ratings.add("0" * 16, item(), b""))
    await refused(Code.COLLECTION_NOT_FOUND, ratings.create("none", 1))
    assert not (await ratings.sheet(sheet.id)).items


def test_answers_are_kept_by_rater_and_the_last_one_counts(store: RatingStore, tmp_path: Path) -> None:
    sheet, tokens = store.create("atlas", 2)
    for _ in range(2):
        store.add(sheet.id, item())
    assert store.answer(tokens[0], answer(1, relevance=0, verdict=RATING_VERDICT_MISLEADING), 0) == 1
    assert store.answer(tokens[0], answer(2), 1) == 2
    assert store.answer(tokens[0], answer(1, relevance=3), 2) == 3
    assert store.answer(tokens[1], RatingAnswer(number=1), 0) == 1
    found = RatingStore(tmp_path / "ratings").sheet(sheet.id)
    assert [(each.number, each.rater, each.relevance) for each in found.answers] == [(1, 1, 3), (1, 2, 0), (2, 1, 2)]
    assert [each.HasField("relevance") for each in found.answers] == [True, False, True]
    # Tokens are not kept, only their digests.
    kept = b"".join(each.read_bytes() + each.name.encode() for each in (tmp_path / "ratings" / sheet.id).iterdir())
    assert not [token for token in tokens if token.encode() in kept]


def test_two_raters_on_one_link_notice_each_other(store: RatingStore) -> None:
    sheet, (token,) = store.create("atlas", 1)
    store.add(sheet.id, item())
    assert store.answer(token, answer(relevance=3), 0) == 1
    with pytest.raises(MirageError) as caught:
        store.answer(token, answer(relevance=0), 0)
    assert caught.value.code is Code.RATING_CHANGED
    _, answers, version = store.of_token(token)
    assert [each.relevance for each in answers] == [3]
    # Who sends the same again, since the reply was lost, is not another rater.
    assert store.answer(token, answer(relevance=3), 0) == version == 1


BAD_ANSWERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("relevance", {}, {"relevance": 4}),
    ("relevance", {}, {"relevance": -1}),
    ("verdict", {}, {"verdict": 0}),
    ("verdict", {}, {"verdict": RATING_VERDICT_MISLABELLED}),
    ("verdict", {}, {"relevance": None}),
    ("origin", {}, {"origin": RATING_ORIGIN_REAL}),
    ("verdict", {"kind": RATING_KIND_IMAGE}, {"origin": RATING_ORIGIN_REAL}),
    ("origin", {"kind": RATING_KIND_IMAGE}, {"verdict": 0}),
]


@pytest.mark.parametrize(("field", "of", "changes"), BAD_ANSWERS)
def test_answers_that_are_not_whole_are_refused(
    store: RatingStore, field: str, of: dict[str, Any], changes: dict[str, Any]
) -> None:
    sheet, (token,) = store.create("atlas", 1)
    store.add(sheet.id, item(**of))
    with pytest.raises(MirageError) as caught:
        store.answer(token, answer(**changes), 0)
    assert (caught.value.code, caught.value.metadata) == (Code.REQUEST_MALFORMED, {"field": field})
    assert not store.sheet(sheet.id).answers


@pytest.mark.parametrize("number", [0, 2, -1])
def test_a_question_that_is_not_there_is_not_answered(store: RatingStore, number: int) -> None:
    sheet, (token,) = store.create("atlas", 1)
    store.add(sheet.id, item())
    with pytest.raises(MirageError) as caught:
        store.answer(token, answer(number), 0)
    assert caught.value.code is Code.RATING_ITEM_NOT_FOUND


@pytest.mark.parametrize("token", ["", "x", "x" * 32, "../../flags.jsonl", "*", "a/b" * 11, "\0" * 32])
def test_a_guessed_token_finds_nothing(store: RatingStore, token: str) -> None:
    sheet, (real,) = store.create("atlas", 1)
    assert len(real) == 32
    for call in (lambda: store.of_token(token), lambda: store.answer(token, answer(), 0)):
        with pytest.raises(MirageError) as caught:
            call()
        assert caught.value.code is Code.RATING_NOT_FOUND
    for id_ in (token, f"../ratings/{sheet.id}", sheet.id.upper() + "0"):
        with pytest.raises(MirageError) as caught:
            store.sheet(id_)
        assert caught.value.code is Code.RATING_NOT_FOUND


def test_a_removed_sheet_takes_its_links_with_it(store: RatingStore, tmp_path: Path) -> None:
    sheet, (token,) = store.create("atlas", 1)
    store.add(sheet.id, item())
    store.answer(token, answer(), 0)
    assert store.remove(sheet.id) == 1
    assert store.sheets() == []
    for call in (lambda: store.of_token(token), lambda: store.remove(sheet.id), lambda: store.sheet(sheet.id)):
        with pytest.raises(MirageError) as caught:
            call()
        assert caught.value.code is Code.RATING_NOT_FOUND
    assert [each.name for each in (tmp_path / "ratings").iterdir()] == ["lock"]


def test_sheets_items_and_raters_are_bounded(store: RatingStore) -> None:
    for raters in (0, 11):
        with pytest.raises(MirageError) as caught:
            store.create("atlas", raters)
        assert caught.value.metadata["field"] == "raters"
    made = [store.create("atlas", 1)[0] for _ in range(50)]
    with pytest.raises(MirageError) as caught:
        store.create("atlas", 1)
    assert (caught.value.code, caught.value.metadata["field"]) == (Code.TOO_MANY_ITEMS, "sheets")
    assert {each.id for each in store.sheets()} == {each.id for each in made}


def test_a_full_server_lists_its_sheets_with_10_000_answers(store: RatingStore, tmp_path: Path) -> None:
    answers = [{"number": number, "relevance": 2, "verdict": "RATING_VERDICT_CORRECT"} for number in range(1, 201)]
    for _ in range(5):
        sheet, _ = store.create("atlas", 10)
        folder = tmp_path / "ratings" / sheet.id
        # As `answer` writes them, at once.
        for path in folder.glob("answers-*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "version": 200, "answers": answers}))
        document = json.loads((folder / "sheet.json").read_text())
        document["items"] = [{"number": number, "kind": "RATING_KIND_DESCRIPTION"} for number in range(1, 201)]
        (folder / "sheet.json").write_text(json.dumps(document))
    found = store.sheets()
    assert [(each.size, each.answered, len(each.items), len(each.answers)) for each in found] == [(200, 2000, 0, 0)] * 5
    assert len(store.sheet(found[0].id).answers) == 2000


def test_an_item_beyond_the_bound_is_refused(store: RatingStore, tmp_path: Path) -> None:
    sheet, _ = store.create("atlas", 1)
    path = tmp_path / "ratings" / sheet.id / "sheet.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "items": [{"number": 1}] * 300}))
    with pytest.raises(MirageError) as caught:
        store.add(sheet.id, item())
    assert (caught.value.code, caught.value.metadata["field"]) == (Code.TOO_MANY_ITEMS, "items")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": 7}', b"\xff\x00"])
def test_a_damaged_file_hides_its_sheet_alone(store: RatingStore, tmp_path: Path, damage: bytes) -> None:
    whole, _ = store.create("atlas", 1)
    broken, (token,) = store.create("atlas", 1)
    (tmp_path / "ratings" / broken.id / "sheet.json").write_bytes(damage)
    assert [each.id for each in store.sheets()] == [whole.id]
    with pytest.raises(MirageError) as caught:
        store.of_token(token)
    assert caught.value.code is Code.RATING_NOT_FOUND
    # It can still be removed.
    assert store.remove(broken.id) == 0
