"""Records without a query: listed in an order under filters, by case, and what a page token is worth; on a real engine."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mirage_core.errors import Code, MirageError
from mirage_retriever.atlas import Atlas
from mirage_retriever.browse import Listing, read_case, walk
from mirage_retriever.engines.base import Collection, Filter
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.facets import NAMES, count_facets, display_name
from mirage_retriever.query import Id, Mode, Order, Query, Term, check_query
from mirage_retriever.records import Record
from mirage_retriever.words.documents import to_point

pytestmark = pytest.mark.asyncio(loop_scope="module")
DIMENSION = 4
POLICY = ShardPolicy(restart_wait_s=20, queue_limit=64, build_quiet_s=60, build_share=1, build_points=50_000)
ALL = Query(())


def records() -> list[Record]:
    """Forty in ten cases of four whose positions run backwards, and two by themselves; each stored later than the one before."""
    made = [
        Record(
            f"r{n:02}",
            f"Image {n}.",
            {"plane": ("axial", "coronal", "sagittal")[n % 3 : n % 3 + 1], "structure": (f"s{n % 20:02}",)},
            case_id=f"c{n % 10}",
            position=4 - n // 10,
            title="" if n < 10 else f"Case {n % 10}",
            history="Cough." if n % 10 == 3 else "",
            added=1_000 + n,
        )
        for n in range(40)
    ]
    alone = [Record(f"alone{n}", "Alone.", {"plane": ("axial",)}, added=2_000 + n) for n in range(2)]
    return [*made, *alone]


RECORDS = records()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[1, 3])
async def atlas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Atlas]:
    async with AsyncExitStack() as stack:
        path = tmp_path_factory.mktemp("listing")
        atlas = Atlas(EdgeEngine(path, facets=NAMES, policy=POLICY, shards=request.param), name="listing")
        stack.push_async_callback(atlas.engine.close)
        await atlas.open()
        await atlas.make(Collection("listing", DIMENSION, "f" * 64))
        vector = np.eye(DIMENSION, dtype=np.float32)[0]
        await atlas.engine.upsert([to_point(record, vector, vector) for record in RECORDS])
        yield atlas


async def listed(atlas: Atlas, query: Query, limit: int = 7) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    token = ""
    while True:
        page, token = await Listing(atlas, query).page(limit, token)
        assert len(page) == limit or not token
        found += [row.id for row in page]
        if not token:
            return found


async def test_the_newest_come_first(atlas: Atlas) -> None:
    newest = [record.id for record in sorted(RECORDS, key=lambda record: -record.added)]
    assert await listed(atlas, ALL) == newest
    assert await listed(atlas, replace(ALL, order=Order.NEWEST), limit=50) == newest


async def test_the_records_of_a_case_come_next_to_each_other_by_position(atlas: Atlas) -> None:
    found = await listed(atlas, replace(ALL, order=Order.CASE))
    assert sorted(found) == sorted(record.id for record in RECORDS)
    for case in range(10):
        ids = [f"r{n:02}" for n in (30 + case, 20 + case, 10 + case, case)]
        start = found.index(ids[0])
        assert found[start : start + 4] == ids


@pytest.mark.parametrize("limit", [1, 7, 42])
async def test_a_seed_gives_the_same_shuffled_order_on_pages_of_any_length(atlas: Atlas, limit: int) -> None:
    shuffled = replace(ALL, order=Order.RANDOM, seed=5)
    found = await listed(atlas, shuffled, limit)
    assert sorted(found) == sorted(record.id for record in RECORDS)
    assert found == await listed(atlas, shuffled, 50)
    assert found != await listed(atlas, replace(shuffled, seed=6), 50)


async def test_a_random_order_without_a_seed_is_kept_by_its_page_token(atlas: Atlas) -> None:
    found = await listed(atlas, replace(ALL, order=Order.RANDOM))
    assert sorted(found) == sorted(record.id for record in RECORDS)


@pytest.mark.parametrize("order", [None, *Order])
async def test_each_case_is_listed_once_by_its_first_image_that_passes(atlas: Atlas, order: Order | None) -> None:
    query = replace(ALL, by_case=True, order=order, seed=1 if order is Order.RANDOM else None)
    firsts = {f"r{30 + case}" for case in range(10)} | {"alone0", "alone1"}
    found = await listed(atlas, query)
    assert len(found) == len(firsts)
    assert set(found) == firsts
    without = await listed(atlas, replace(query, exclude_ids=tuple(sorted(firsts))))
    assert set(without) == {f"r{20 + case}" for case in range(10)}


async def test_filters_take_several_values_and_what_is_not_wanted(atlas: Atlas) -> None:
    query = replace(ALL, where={"plane": ("axial", "coronal")}, where_not={"structure": ("s00", "s01")})
    wanted = {
        record.id
        for record in RECORDS
        if record.labels["plane"][0] != "sagittal" and record.labels.get("structure", ("",))[0] not in ("s00", "s01")
    }
    assert set(await listed(atlas, query)) == wanted
    assert await Listing(atlas, query).total() == len(wanted)
    assert await listed(atlas, replace(ALL, where={"plane": ("oblique",)})) == []


async def test_a_walk_gives_what_passes_a_filter_and_no_empty_page_before_its_end(atlas: Atlas) -> None:
    query = replace(ALL, where={"structure": ("s07",)})
    found, token = [], ""
    while True:
        points, token = await walk(atlas, query, limit=1, page_token=token)
        assert points or not token
        found += [point.id for point in points]
        if not token:
            break
    assert sorted(found) == ["r07", "r27"]


@pytest.mark.parametrize(
    "change",
    [
        {"order": Order.CASE},
        {"order": Order.RANDOM},
        {"where": {"plane": ("axial",)}},
        {"where_not": {"plane": ("axial",)}},
        {"by_case": True},
    ],
)
async def test_a_page_token_of_another_listing_is_refused(atlas: Atlas, change: dict[str, Any]) -> None:
    _, token = await Listing(atlas, ALL).page(5)
    for bad in (token, token[:-2], "x", "A" * 301):
        with pytest.raises(MirageError) as caught:
            await Listing(atlas, replace(ALL, **change)).page(5, bad)
        assert caught.value.code is Code.PAGE_TOKEN_INVALID


async def test_a_page_token_of_another_seed_is_refused(atlas: Atlas) -> None:
    shuffled = replace(ALL, order=Order.RANDOM, seed=1)
    _, token = await Listing(atlas, shuffled).page(5)
    with pytest.raises(MirageError) as caught:
        await Listing(atlas, replace(shuffled, seed=2)).page(5, token)
    assert caught.value.code is Code.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (replace(ALL, mode=Mode.WORDS), Code.EMPTY_QUERY),
        (replace(ALL, variety=True), Code.EMPTY_QUERY),
        (replace(ALL, min_score=0.5), Code.EMPTY_QUERY),
        (replace(ALL, seed=1), Code.REQUEST_MALFORMED),
        (replace(ALL, seed=-1, order=Order.RANDOM), Code.OPTION_OUT_OF_RANGE),
        (replace(ALL, order=Order.CASE, terms=(Term(Id("a")),)), Code.REQUEST_MALFORMED),
        (replace(ALL, order=Order.CASE, positive=("a",)), Code.REQUEST_MALFORMED),
        (replace(ALL, positive=("a",), terms=(Term(Id("a")),)), Code.REQUEST_MALFORMED),
        (replace(ALL, positive=("a",), mode=Mode.WORDS), Code.REQUEST_MALFORMED),
        (replace(ALL, positive=("a",), min_score=0.1), Code.REQUEST_MALFORMED),
        (replace(ALL, negative=("a",)), Code.TOO_MANY_ITEMS),
        (replace(ALL, positive=tuple(f"a{n}" for n in range(9))), Code.TOO_MANY_ITEMS),
        (replace(ALL, positive=("a",), negative=tuple(f"a{n}" for n in range(9))), Code.TOO_MANY_ITEMS),
        (replace(ALL, positive=("../a",)), Code.ID_INVALID),
        (replace(ALL, where_not={"plane": tuple(f"v{n}" for n in range(100))}), Code.FACET_VALUE_INVALID),
        (replace(ALL, where={"structure": tuple(f"v{n}" for n in range(100))}), Code.FACET_VALUE_INVALID),
        (replace(ALL, where_not={"colour": ("red",)}), Code.FACET_UNKNOWN),
    ],
)
async def test_what_does_not_go_together_is_refused(query: Query, code: Code) -> None:
    with pytest.raises(MirageError) as caught:
        check_query(query)
    assert caught.value.code is code


async def test_a_case_has_its_records_by_position_and_their_first_texts(atlas: Atlas) -> None:
    case = await read_case(atlas, "c3")
    assert [record.id for record in case.records] == ["r33", "r23", "r13", "r03"]
    assert (case.images, case.first("title"), case.first("history")) == (4, "Case 3", "Cough.")


@pytest.mark.parametrize("id_", ["", "none", "c3 ", "x" * 129, "../c3", "r03"])
async def test_a_case_that_is_not_there_is_not_found(atlas: Atlas, id_: str) -> None:
    with pytest.raises(MirageError) as caught:
        await read_case(atlas, id_)
    assert caught.value.code is Code.CASE_NOT_FOUND


async def test_counts_follow_the_filter_except_those_of_its_own_facet(atlas: Atlas) -> None:
    among = Filter(where={"plane": ("sagittal",)})
    found = {counts.name: counts for counts in await count_facets(atlas.engine, among, 50)}
    planes = dict(found["plane"].values)
    assert planes == {"axial": 16, "coronal": 13, "sagittal": 13}
    assert sum(count for _, count in found["structure"].values) + found["structure"].rare_count == 13


async def test_rare_values_of_a_long_facet_are_named_together_unless_they_are_chosen(atlas: Atlas) -> None:
    [_, structure] = await count_facets(atlas.engine, Filter(), 50)
    assert (structure.values, len(structure.rare), structure.rare_count) == ((), 20, 40)
    chosen = Filter(where={"structure": ("s07",)})
    [_, structure] = await count_facets(atlas.engine, chosen, 50)
    assert (structure.values, len(structure.rare), structure.rare_count) == ((("s07", 2),), 19, 38)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("modality", "ct", "CT"),
        ("modality", "us", "Ultrasound"),
        ("modality", "histology", "Histology"),
        ("body_part", "abdomen and pelvis", "Abdomen and pelvis"),
        ("structure", "left kidney", "Left kidney"),
        ("sequence", "t1", "T1"),
        ("sequence", "t2w", "T2w"),
        ("sequence", "flair", "FLAIR"),
        ("licence", "cc-by-4.0", "CC BY 4.0"),
        ("licence", "cc-by-nc-sa-3.0", "CC BY-NC-SA 3.0"),
        ("licence", "cc0-1.0", "CC0 1.0"),
        ("licence", "apache-2.0", "Apache 2.0"),
        ("licence", "bsd-3-clause", "BSD 3 Clause"),
        ("licence", "mit", "MIT"),
        ("licence", "cc by 4.0", "CC BY 4.0"),
        ("licence", "terms of a hospital", "Terms of a hospital"),
    ],
)
async def test_values_have_names_for_people(name: str, value: str, shown: str) -> None:
    assert display_name(name, value) == shown
