"""Results by case, varied, by examples, and by an id: on a real embedded engine, with vectors that say what they look like."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mirage_core.errors import Code, MirageError
from mirage_retriever.arrange import SAME_IMAGE, varied
from mirage_retriever.atlas import Atlas
from mirage_retriever.calibration import Calibration, Kind
from mirage_retriever.engines.base import Collection
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES
from mirage_retriever.hybrid import Found
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
POLICY = ShardPolicy(restart_wait_s=20, queue_limit=64, build_quiet_s=60, build_share=1, build_points=50_000)


class StillEncoder:
    """Encodes every text as the first axis."""

    async def model(self) -> EncoderModel:
        return EncoderModel("still", FINGERPRINT, DIMENSION, "{}")

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(direction(1), FINGERPRINT, tokens=1) for _ in texts]

    async def image(self, data: bytes) -> Encoded:
        raise AssertionError(data)

    async def images(self, files: Sequence[bytes]) -> list[Encoded | MirageError]:
        raise AssertionError(files)


def direction(*components: float) -> np.ndarray:
    vector = np.zeros(DIMENSION, np.float32)
    vector[: len(components)] = components
    return vector / np.linalg.norm(vector)


CT = {"modality": ("ct",)}
POINTS = {
    # Three views of one case, of which the first two show the same, and two other cases.
    "clot1": (Record("clot1", "Embolism, first.", CT, case_id="c1", position=1), direction(1, 0.10)),
    "clot2": (Record("clot2", "Embolism, second.", CT, case_id="c1", position=2), direction(1, 0.12)),
    "clot3": (Record("clot3", "Embolism, third.", {"modality": ("mr",)}, case_id="c1", position=3), direction(1, 0, 1)),
    "other": (Record("other", "Embolism elsewhere.", CT, case_id="c2"), direction(1, 0.14)),
    "alone": (Record("alone", "Embolism alone.", CT), direction(1, -0.3)),
    "edge": (Record("edge", "Nothing said.", {"modality": ("mr",)}), direction(1, 0, 0, 0, 0.45)),
    "MPX12_a.4": (
        Record("MPX12_a.4", "A bone.", CT, case_id="MPX12", source="PubMed Central PMC4083729"),
        direction(0, 1),
    ),
    "kidneys": (Record("kidneys", "Kidneys.", {"structure": ("left kidney", "right kidney")}), direction(0, 0, 0, 1)),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def atlas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Atlas]:
    async with AsyncExitStack() as stack:
        atlas = Atlas(EdgeEngine(tmp_path_factory.mktemp("arranged"), facets=NAMES, policy=POLICY), name="arranged")
        stack.push_async_callback(atlas.engine.close)
        await atlas.open()
        await atlas.make(Collection("arranged", DIMENSION, FINGERPRINT))
        await atlas.engine.upsert([to_point(record, vector, vector) for record, vector in POINTS.values()])
        kind = Kind(None, Thresholds(0.9, 0.5), 0.9, trusted=True)
        atlas.calibrated(Calibration(len(POINTS), FINGERPRINT, dict.fromkeys(("text", "image"), kind)))
        yield atlas


@pytest.fixture
def search(atlas: Atlas) -> Search:
    return Search(atlas, StillEncoder())


async def ask(search: Search, text: str, **fields: Any) -> Reply:
    return await search.search(Query((Term(Text(text)),), **fields))


def ids(reply: Reply) -> list[str]:
    return [found.id for found in reply.results]


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.WORDS, Mode.IMAGES, Mode.CAPTIONS, Mode.FUSED])
async def test_each_case_is_listed_once_by_its_best_record(search: Search, mode: Mode) -> None:
    every = ids(await ask(search, "embolism", mode=mode, k=50))
    reply = await ask(search, "embolism", mode=mode, k=50, by_case=True)
    cases = [POINTS[id_][0].case_id or id_ for id_ in every]
    assert ids(reply) == [every[cases.index(case)] for case in dict.fromkeys(cases)]
    counts = {found.case[0]: found.case[1] for found in reply.results if found.case is not None}
    assert counts["c1"] == 3
    assert counts["c2"] == counts[""] == 1


async def test_the_images_of_a_case_are_those_that_pass_the_filter(search: Search) -> None:
    reply = await ask(search, "embolism", where={"modality": ("ct",)}, by_case=True)
    assert ("c1", 2) in [found.case for found in reply.results]
    reply = await ask(search, "embolism", where_not={"modality": ("ct",)}, by_case=True)
    assert [found.case for found in reply.results if found.case and found.case[0]] == [("c1", 1)]


@pytest.mark.parametrize("more", [{"by_case": True}, {"variety": True}, {"by_case": True, "variety": True}])
@pytest.mark.parametrize("k", [1, 2])
async def test_pages_of_arranged_results_follow_each_other(search: Search, more: dict[str, bool], k: int) -> None:
    whole = await ask(search, "embolism", k=50, **more)
    paged: list[str] = []
    token, matches = "", set()
    while True:
        reply = await ask(search, "embolism", k=k, page_token=token, **more)
        paged += ids(reply)
        matches.add(reply.match)
        token = reply.next_page_token
        if not token:
            break
    assert paged == ids(whole)
    assert matches == {whole.match}


async def test_variety_lists_the_same_image_of_a_case_once_and_different_ones_first(search: Search) -> None:
    plain = ids(await ask(search, "embolism", mode=Mode.IMAGES))
    found = ids(await ask(search, "embolism", mode=Mode.IMAGES, variety=True))
    assert plain[:5] == ["clot1", "clot2", "other", "alone", "edge"]
    assert "clot2" not in found
    # `other` is of another case: it stays, but after what differs more.
    assert found[:4] == ["clot1", "alone", "other", "edge"]
    # What is not good stays where it is.
    assert found[4:] == plain[5:]


async def test_varied_results_are_all_that_there_were_but_for_what_shows_the_same() -> None:
    chance = np.random.default_rng(1)
    vectors = {f"r{n}": vector / np.linalg.norm(vector) for n, vector in enumerate(chance.normal(size=(30, 16)))}
    found = [Found(id_, 1 - n / 100, None, Record(id_, "c", case_id="c").to_json()) for n, id_ in enumerate(vectors)]
    kept, dropped = varied(found, vectors)
    assert not dropped
    assert sorted(each.id for each in kept) == sorted(vectors)
    assert kept[0].id == "r0"
    twin = {**vectors, "twin": vectors["r3"] * SAME_IMAGE + np.sqrt(1 - SAME_IMAGE**2) * 0}
    assert varied([*found, Found("twin", 0.1, None, Record("twin", "c", case_id="d").to_json())], twin)[1] == set()
    twin = {**vectors, "twin": vectors["r3"]}
    assert varied([*found, Found("twin", 0.1, None, Record("twin", "c", case_id="c").to_json())], twin)[1] == {"twin"}


async def test_results_are_like_the_positive_examples_and_unlike_the_negative(search: Search) -> None:
    reply = await search.search(Query((), positive=("clot1",), negative=("clot3",)))
    assert ids(reply)[:2] == ["clot2", "other"]
    assert not {"clot1", "clot3"} & set(ids(reply))
    cosine = float(POINTS["clot1"][1] @ POINTS["clot2"][1])
    assert reply.results[0].cosine == pytest.approx(cosine, abs=1e-5)
    assert reply.match is Match.GOOD
    both = await search.search(Query((), positive=("clot1", "MPX12_a.4")))
    assert {found.cosine for found in both.results if found.cosine is not None}


async def test_pages_by_examples_follow_each_other_and_group_by_case(search: Search) -> None:
    query = Query((), positive=("other",), negative=("kidneys",), k=2)
    whole = ids(await search.search(replace(query, k=50)))
    first = await search.search(query)
    second = await search.search(replace(query, page_token=first.next_page_token))
    assert ids(first) + ids(second) == whole[:4]
    grouped = await search.search(replace(query, k=50, by_case=True))
    assert [found.case for found in grouped.results].count(("c1", 3)) == 1


async def test_an_example_that_is_not_there_is_not_found(search: Search) -> None:
    with pytest.raises(MirageError) as caught:
        await search.search(Query((), positive=("clot1",), negative=("none",)))
    assert caught.value.code is Code.RECORD_NOT_FOUND


async def test_a_comparison_groups_both_sides(search: Search) -> None:
    base = Query((Term(Id("clot1")),), by_case=True)
    compared = await search.compare(base, [Term(Id("MPX12_a.4"), 0.5)])
    for reply in (compared.base, compared.shifted):
        assert [found.case for found in reply.results].count(("c1", 3)) == 1


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.WORDS])
@pytest.mark.parametrize("text", ["MPX12_a.4", "MPX12", "PMC4083729", "pmc4083729", "clot2", "alone"])
async def test_ids_are_found_by_words(search: Search, text: str, mode: Mode) -> None:
    reply = await ask(search, text, mode=mode, k=3)
    expected = text if text in POINTS else "MPX12_a.4"
    assert ids(reply)[0] == expected
    assert reply.match is Match.GOOD
    assert ids(reply).count(expected) == 1
    rest = await ask(search, text, mode=mode, k=1)
    if rest.next_page_token:
        assert expected not in ids(await ask(search, text, mode=mode, k=50, page_token=rest.next_page_token))


async def test_both_kidneys_together_are_a_left_kidney(search: Search) -> None:
    reply = await ask(search, "left kidney")
    assert reply.words is not None
    assert not [named for named in reply.words.named if named.facet == "side"]
    assert ids(reply)[0] == "kidneys"
    assert reply.match is Match.GOOD


async def test_a_listing_is_a_reply_without_a_judgement(search: Search) -> None:
    reply = await search.search(Query((), where={"modality": ("ct",)}, k=2))
    assert (reply.total, reply.match, len(reply.results)) == (5, Match.NOT_JUDGED, 2)
    assert all(found.cosine is None for found in reply.results)
    rest = await search.search(Query((), where={"modality": ("ct",)}, k=50, page_token=reply.next_page_token))
    assert not rest.next_page_token
    assert len({*ids(reply), *ids(rest)}) == 5
    by_case = await search.search(Query((), where={"modality": ("ct",)}, by_case=True))
    assert sorted(found.case or () for found in by_case.results) == [("", 1), ("MPX12", 1), ("c1", 2), ("c2", 1)]
