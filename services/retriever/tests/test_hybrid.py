"""Searches by words and likeness, on a real embedded engine, with vectors that say what they look like."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.calibration import Calibration, Kind, Recall
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES
from mirage_retriever.hybrid import Section
from mirage_retriever.match import Match, Thresholds
from mirage_retriever.query import Id, Mode, Query, Term, Text
from mirage_retriever.records import Record
from mirage_retriever.reply import Reply
from mirage_retriever.search import Search
from mirage_retriever.terms import Encoded, EncoderModel
from mirage_retriever.words.documents import to_point

pytestmark = pytest.mark.asyncio(loop_scope="module")
DIMENSION = 8
FINGERPRINT = "f" * 64


class LookingEncoder:
    """Encodes each text as the same direction; `asked` are the texts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def model(self) -> EncoderModel:
        return EncoderModel("looking", FINGERPRINT, DIMENSION, "{}")

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        self.asked += texts
        return [Encoded(direction(0), FINGERPRINT, tokens=1) for _ in texts]

    async def image(self, data: bytes) -> Encoded:
        raise AssertionError(data)

    async def images(self, files: Sequence[bytes]) -> list[Encoded | MirageError]:
        raise AssertionError(files)


def direction(angle: float) -> np.ndarray:
    vector = np.zeros(DIMENSION, np.float32)
    vector[:2] = np.cos(angle), np.sin(angle)
    return vector


# In the order in which they look like what any text asks for.
RECORDS = [
    Record("twin", "Normal chest.", {"modality": ("ct",), "body_part": ("chest",)}),
    Record("rib", "Rib fracture after a fall.", {"modality": ("x-ray",), "body_part": ("chest",)}),
    Record("embolism", "Filling defect.", {"modality": ("ct",)}, title="Pulmonary embolism", case_id="c1", position=1),
    Record(
        "embolism2",
        "Filling defect, left.",
        {"modality": ("ct",)},
        title="Pulmonary embolism",
        case_id="c1",
        position=2,
    ),
    Record("apart", "Pulmonary artery. Air embolism.", {"modality": ("ct",)}),
    Record("history", "Clear lungs.", {"modality": ("ct",)}, history="Rule out appendicitis."),
    Record("healed", "Healed fracture of the wrist with pleural thickening, no effusion.", {"modality": ("x-ray",)}),
    Record("effusion", "Pleural effusion on the left.", {"modality": ("ct",)}),
    Record("brain", "Axial brain.", {"modality": ("mr",), "plane": ("axial",)}),
]


async def opened(path: Path, stack: AsyncExitStack) -> Atlas:
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=60, build_share=1, build_points=50_000)
    atlas = Atlas(EdgeEngine(path, facets=NAMES, policy=policy), name="hybrid")
    stack.push_async_callback(atlas.engine.close)
    await atlas.open()
    await atlas.make(Collection("hybrid", DIMENSION, FINGERPRINT))
    return atlas


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def atlas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Atlas]:
    async with AsyncExitStack() as stack:
        atlas = await opened(tmp_path_factory.mktemp("hybrid"), stack)
        points = [to_point(record, vector := direction(0.1 * (n + 1)), vector) for n, record in enumerate(RECORDS)]
        await atlas.engine.upsert(points)
        atlas.changed()
        yield atlas


@pytest_asyncio.fixture(loop_scope="module")
async def empty(tmp_path: Path) -> AsyncIterator[Atlas]:
    async with AsyncExitStack() as stack:
        yield await opened(tmp_path, stack)


@pytest.fixture
def encoder() -> LookingEncoder:
    return LookingEncoder()


@pytest.fixture
def search(atlas: Atlas, encoder: LookingEncoder) -> Search:
    return Search(atlas, encoder)


async def ask(search: Search, text: str, **fields: Any) -> Reply:
    return await search.search(Query((Term(Text(text)),), **fields))


def ids(reply: Reply) -> list[str]:
    return [found.id for found in reply.results]


def by(reply: Reply, section: Section) -> list[str]:
    return [found.id for found in reply.results if found.section is section]


async def test_records_that_say_it_come_before_those_that_look_like_it(search: Search) -> None:
    reply = await ask(search, "fracture")
    assert set(by(reply, Section.WORDS)) == {"rib", "healed"}
    assert ids(reply)[2:] == ["twin", "embolism", "embolism2", "apart", "history", "effusion", "brain"]
    assert reply.match is Match.GOOD
    first = next(found for found in reply.results if found.id == "rib")
    assert first.matched == {"caption": [[4, 12]]}
    assert first.cosine == pytest.approx(np.cos(0.2), abs=1e-5)


async def test_every_record_is_in_one_list_once_over_all_pages(search: Search) -> None:
    for text in ("fracture", "pulmonary embolism", "left pleural fracture", "the of"):
        whole = await ask(search, text, k=20)
        found: list[str] = []
        token = ""
        while True:
            reply = await ask(search, text, k=2, page_token=token)
            found += ids(reply)
            token = reply.next_page_token
            if not token:
                break
        assert found == ids(whole)
        assert len(found) == len(set(found)) == len(RECORDS)


async def test_an_expression_as_a_whole_is_before_its_words_apart(search: Search) -> None:
    reply = await ask(search, "pulmonary embolism")
    assert (set(ids(reply)[:2]), ids(reply)[2]) == ({"embolism", "embolism2"}, "apart")


async def test_an_expression_whose_words_stand_apart_in_every_record_is_no_good_match(
    atlas: Atlas, search: Search
) -> None:
    text = "air artery"
    assert by(await ask(search, text), Section.WORDS)[0] == "apart"
    try:
        # Neither by words nor by likeness, which has hardly learnt what no text says.
        atlas.calibrated(calibration(trusted=True))
        assert (await ask(search, text)).match is Match.WEAK
    finally:
        atlas._calibration = None
    assert (await ask(search, text)).match is Match.WEAK
    assert (await ask(search, "air embolism")).match is Match.GOOD


async def test_synonyms_and_typing_errors_find_it_and_are_reported(search: Search) -> None:
    reply = await ask(search, "broken")
    assert set(by(reply, Section.WORDS)) == {"rib", "healed"}
    assert reply.words is not None
    assert reply.words.expanded == {"broken": ("fracture",)}
    reply = await ask(search, "fractre")
    assert set(by(reply, Section.WORDS)) == {"rib", "healed"}
    assert reply.words is not None
    assert [(each.given, each.used) for each in reply.words.corrected] == [("fractre", "fracture")]
    assert reply.terms[0].label == "fractre"


async def test_records_that_say_half_of_it_come_before_look_alikes(search: Search) -> None:
    reply = await ask(search, "fracture of the spleen")
    assert set(by(reply, Section.WORDS)) == {"rib", "healed"}
    assert reply.match is Match.WEAK


async def test_a_phrase_is_found_as_it_stands_only(search: Search, encoder: LookingEncoder) -> None:
    assert by(await ask(search, '"pleural effusion"'), Section.WORDS) == ["effusion"]
    assert by(await ask(search, '"effusion pleural"'), Section.WORDS) == []
    assert encoder.asked == ["pleural effusion", "effusion pleural"]


async def test_a_minus_leaves_records_out_of_the_whole_list(search: Search, encoder: LookingEncoder) -> None:
    reply = await ask(search, "fracture -wrist -brain")
    assert by(reply, Section.WORDS) == ["rib"]
    assert not {"healed", "brain"} & set(ids(reply))
    assert encoder.asked == ["fracture"]
    reply = await ask(search, 'left -"pleural effusion"')
    assert "effusion" not in ids(reply)
    assert "healed" in ids(reply)


async def test_words_alone_need_no_encoder(search: Search, encoder: LookingEncoder) -> None:
    reply = await ask(search, "fracture", mode=Mode.WORDS)
    assert set(ids(reply)) == {"rib", "healed"}
    assert [found.cosine for found in reply.results] == [None, None]
    assert encoder.asked == []
    assert (await ask(search, "zebra crossing", mode=Mode.WORDS)).results == ()


async def test_images_alone_look_at_no_word(search: Search) -> None:
    reply = await ask(search, "fracture", mode=Mode.IMAGES, k=3)
    assert ids(reply) == ["twin", "rib", "embolism"]
    assert reply.words is None
    assert reply.results[0].matched is None


async def test_more_than_one_term_is_compared_with_images(search: Search) -> None:
    query = Query((Term(Text("fracture")), Term(Id("brain"), 0.0)), k=2)
    assert ids(await search.search(query)) == ["twin", "rib"]
    with pytest.raises(MirageError) as refused:
        await search.search(Query(query.terms, mode=Mode.WORDS))
    assert refused.value.code is Code.REQUEST_MALFORMED


async def test_a_filter_holds_for_words_and_likeness(search: Search) -> None:
    reply = await ask(search, "fracture", where={"modality": ("ct",)})
    assert ids(reply) == ["twin", "embolism", "embolism2", "apart", "history", "effusion"]


@pytest.mark.parametrize("text", ["-fracture", '-"left lung" -x', "\u200b\u202e -a", '"' * 2_000])
async def test_a_query_that_asks_for_nothing_is_refused(search: Search, text: str) -> None:
    with pytest.raises(MirageError) as refused:
        await ask(search, text)
    assert refused.value.code is Code.TERM_EMPTY


@pytest.mark.parametrize("text", ["the of", "'; DROP TABLE x; --", "(a+)+$", '"' * 1_999 + "x", "fracture\x00\u202e"])
async def test_odd_queries_are_answered(search: Search, text: str) -> None:
    assert len((await ask(search, text, k=20)).results) == len(RECORDS)


async def test_what_only_a_history_says_is_no_good_match(search: Search) -> None:
    reply = await ask(search, "appendicitis")
    assert ids(reply)[0] == "history"
    assert reply.match is Match.WEAK


async def test_what_is_denied_comes_last_and_is_no_good_match(search: Search) -> None:
    reply = await ask(search, "effusion")
    assert ids(reply)[:2] == ["effusion", "healed"]
    assert (await ask(search, "fracture effusion")).match is not Match.GOOD
    assert (await ask(search, "fracture, no effusion")).match is Match.GOOD
    reply = await ask(search, "no effusion")
    assert (ids(reply)[0], reply.match) == ("healed", Match.GOOD)


async def test_a_label_that_none_of_the_first_has_is_no_good_match_but_an_offer(search: Search) -> None:
    assert (await ask(search, "MRI of the brain")).match is Match.GOOD
    reply = await ask(search, "left pleural effusion ultrasound")
    assert reply.match is not Match.GOOD
    assert reply.words is not None
    assert [(label.facet, label.value, label.count) for label in reply.words.named] == [("modality", "us", 0)]
    reply = await ask(search, "healed wrist MRI", k=1)
    assert reply.words is not None
    assert [(label.facet, label.value, label.count) for label in reply.words.named] == [("modality", "mr", 1)]


def calibration(*, trusted: bool, good: float = 0.5) -> Calibration:
    recall = Recall(100, 0.5, 0.8, 0.7, 0.9, 0.01, 0.1)
    return Calibration(9, FINGERPRINT, {"text": Kind(recall, Thresholds(good, 0.1), 0.9, trusted)})


async def test_likeness_is_judged_once_it_was_measured_and_good_only_if_it_is_trusted(
    atlas: Atlas, search: Search
) -> None:
    # Each word is in some record, both in none.
    text = "brain fracture"
    assert (await ask(search, text, mode=Mode.IMAGES)).match is Match.NOT_JUDGED
    before = await ask(search, "zebra")
    assert (before.match, before.match_pending) == (Match.NOT_JUDGED, True)
    # By words it is judged already.
    assert not (await ask(search, "fracture")).match_pending
    try:
        atlas.calibrated(calibration(trusted=False))
        assert not (await ask(search, "zebra")).match_pending
        assert (await ask(search, text)).match is Match.WEAK
        assert (await ask(search, "fracture")).match is Match.GOOD
        assert by(await ask(search, text), Section.WORDS)[0] in ("rib", "healed", "brain")
        atlas.calibrated(calibration(trusted=True))
        assert (await ask(search, text)).match is Match.GOOD
        # Likeness that says something goes before records that say half of it.
        assert by(await ask(search, text), Section.WORDS) == []
        atlas.calibrated(calibration(trusted=True, good=0.999))
        assert (await ask(search, text)).match is Match.WEAK
    finally:
        atlas._calibration = None


async def test_likeness_is_not_good_for_a_word_that_no_record_has(atlas: Atlas, search: Search) -> None:
    try:
        atlas.calibrated(calibration(trusted=True))
        assert (await ask(search, "zebra", mode=Mode.IMAGES)).match is Match.GOOD
        assert (await ask(search, "zebra")).match is Match.WEAK
        assert (await ask(search, "brain fractre")).match is Match.WEAK
    finally:
        atlas._calibration = None


@pytest.mark.parametrize("text", ["lesion of the frontal lobe", "lateral ventricle"])
async def test_a_plane_that_is_part_of_a_name_names_no_label(search: Search, text: str) -> None:
    reply = await ask(search, text)
    assert reply.words is not None
    assert reply.words.named == ()
    reply = await ask(search, "lateral view of the chest")
    assert reply.words is not None
    assert [label.value for label in reply.words.named] == ["lateral"]


async def test_ten_thousand_records_of_one_caption_are_searched_and_paged(
    empty: Atlas, encoder: LookingEncoder
) -> None:
    points = [to_point(Record(f"r{n:05}", "Lipoma."), direction(0), direction(0)) for n in range(10_000)]
    for start in range(0, len(points), 1_000):
        await empty.engine.upsert(points[start : start + 1_000])
    empty.changed()
    search = Search(empty, encoder)
    first = await ask(search, "lipoma", k=100)
    second = await ask(search, "lipoma", k=100, page_token=first.next_page_token)
    assert len({*ids(first), *ids(second)}) == 200
    assert first.match is Match.GOOD


async def test_an_empty_collection_and_one_of_one_record_answer(empty: Atlas, encoder: LookingEncoder) -> None:
    search = Search(empty, encoder)
    assert (await ask(search, "fracture")).results == ()
    await empty.engine.upsert([to_point(RECORDS[1], direction(0), direction(0))])
    empty.changed()
    reply = await ask(search, "fracture")
    assert (ids(reply), reply.match) == (["rib"], Match.GOOD)
    assert ids(await ask(search, "zebra")) == ["rib"]


async def test_searches_at_the_same_time_do_not_mix(search: Search) -> None:
    texts = ["fracture", "pleural effusion", "pulmonary embolism"] * 5
    replies = await asyncio.gather(*(ask(search, text) for text in texts))
    assert [ids(reply) for reply in replies] == [ids(reply) for reply in replies[:3]] * 5
