"""What every engine of the retriever does, on each of them.

`edge` is the embedded engine with its real searcher processes, with one shard and with three. `scripted` is the server
engine on a server for tests, which answers over gRPC what qdrant-client's simulator finds: it tests our use of Qdrant's
contract, not a server. With MIRAGE_TEST_QDRANT_URL set, `server` runs the same on a real one (`make test-qdrant URL=...`), with
the key in MIRAGE_TEST_QDRANT_KEY if it wants one.
"""

import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from mirage_core.addresses import read_ports, read_urls
from mirage_core.errors import Code, MirageError
from mirage_retriever.engines.base import (
    ORDERS,
    Collection,
    Engine,
    Filter,
    Like,
    Nearest,
    Point,
    Saying,
    Space,
    Words,
)
from mirage_retriever.engines.edge.engine import EdgeEngine
from mirage_retriever.engines.edge.shard import ShardPolicy
from mirage_retriever.engines.qdrant import QdrantEngine
from mirage_retriever.engines.qdrant_nodes import connect
from tests.support.scripted_qdrant import Node

DIMENSION = 8
COLLECTION = Collection(name="contract", dimension=DIMENSION, fingerprint="f" * 64)
FACETS = ("plane", "modality")
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # What the simulator behind the scripted server says; nothing here depends on it.
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]
SERVER = os.environ.get("MIRAGE_TEST_QDRANT_URL")
KINDS = ["edge", "edge-3-shards", "scripted", *(["server"] if SERVER else [])]


def edge(path: Path, shards: int) -> EdgeEngine:
    policy = ShardPolicy(restart_wait_s=10, queue_limit=64, build_quiet_s=1, build_share=0.1, build_points=50_000)
    return EdgeEngine(path, facets=FACETS, policy=policy, shards=shards)


def on_server(url: str, stack: AsyncExitStack, *, name: str) -> QdrantEngine:
    urls = read_urls(url)
    key = os.environ.get("MIRAGE_TEST_QDRANT_KEY", "")
    nodes = connect(urls, read_ports("", urls), collection=name, api_key=key)
    stack.push_async_callback(nodes.close)
    return QdrantEngine(nodes, name=name, facets=FACETS)


async def make(kind: str, path: Path, stack: AsyncExitStack) -> Engine:
    match kind:
        case "edge":
            return edge(path, 1)
        case "edge-3-shards":
            return edge(path, 3)
        case "scripted":
            node = await Node().start()
            stack.push_async_callback(node.stop)
            return on_server(node.url, stack, name="contract")
        case _:
            return on_server(str(SERVER), stack, name=f"contract-{secrets.token_hex(4)}")


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engine under test keeps its files."""
    return tmp_path_factory.mktemp(kind)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collection(kind: str, folder: Path) -> AsyncIterator[Engine]:
    """One empty collection for all tests of an engine: starting the processes takes longer than most tests."""
    async with AsyncExitStack() as stack:
        engine = await make(kind, folder, stack)
        assert await engine.open() is None
        await engine.create(COLLECTION)
        yield engine
        await engine.drop()  # leave no trace on somebody's server
        await engine.close()


@pytest_asyncio.fixture(loop_scope="module")
async def engine(collection: Engine) -> AsyncIterator[Engine]:
    yield collection
    if (await collection.status()).records:
        [hits] = await collection.search([Nearest(unit(1), Space.IMAGE, 1000, exact=True)])
        await collection.delete([hit.id for hit in hits])
    assert (await collection.status()).records == 0


def unit(*components: float) -> np.ndarray:
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[: len(components)] = components
    return vector / np.linalg.norm(vector)


def point(
    id_: str,
    image: np.ndarray,
    *,
    plane: str = "axial",
    caption: np.ndarray | None = None,
    original: str = "",
    pixels: str = "",
) -> Point:
    return Point(
        id=id_,
        image=image,
        caption=image if caption is None else caption,
        record=f'{{"id":"{id_}"}}',
        facets={"plane": (plane,), "modality": ("mr",)},
        image_sha256="a" * 64,
        original_sha256=original,
        pixels_sha256=pixels,
    )


async def found(engine: Engine, vector: np.ndarray, **options: Any) -> list[str]:
    options = {"space": Space.IMAGE, "limit": 10, **options}
    [hits] = await engine.search([Nearest(vector, **options)])
    return [hit.id for hit in hits]


async def test_an_empty_collection_answers_with_nothing(engine: Engine) -> None:
    assert await found(engine, unit(1)) == []
    assert await engine.fetch(["a"]) == {}
    assert (await engine.status()).records == 0
    assert await engine.delete(["a"]) == 0


async def test_hits_come_by_cosine_with_their_record(engine: Engine) -> None:
    await engine.upsert([point("far", unit(0, 1)), point("near", unit(1, 0.1)), point("nearest", unit(1))])
    [hits] = await engine.search([Nearest(unit(1), Space.IMAGE, 10)])
    assert [hit.id for hit in hits] == ["nearest", "near", "far"]
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert hits[1].score == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)
    assert hits[2].score == pytest.approx(0, abs=1e-6)
    assert hits[0].record == '{"id":"nearest"}'


async def test_a_tie_goes_by_id(engine: Engine) -> None:
    await engine.upsert([point(id_, unit(1, 1)) for id_ in ("c", "a", "d", "b")])
    assert await found(engine, unit(1, 1)) == ["a", "b", "c", "d"]


async def test_each_space_has_vectors_of_its_own(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1), caption=unit(0, 1)), point("b", unit(0, 1), caption=unit(1))])
    requests = [Nearest(unit(1), space, 1) for space in (Space.IMAGE, Space.CAPTION)]
    assert [[hit.id for hit in hits] for hits in await engine.search(requests)] == [["a"], ["b"]]


async def test_a_walk_meets_every_point_once_and_ends(engine: Engine) -> None:
    names = {f"p{number:02}" for number in range(25)}
    await engine.upsert([point(name, unit(1, number)) for number, name in enumerate(sorted(names))])
    met: list[str] = []
    position, steps = "", 0
    while True:
        walked = await engine.walk(position, 4, vectors=True)
        assert len(walked.points) == len(walked.positions) <= 4
        met += [each.id for each in walked.points]
        assert all(each.image is not None and each.image.shape == (DIMENSION,) for each in walked.points)
        steps += 1
        position = walked.position
        if not position:
            break
    assert sorted(met) == sorted(names)
    assert steps < 15


async def test_a_walk_goes_on_from_the_position_of_a_point(engine: Engine) -> None:
    await engine.upsert([point(f"p{number}", unit(1, number)) for number in range(6)])
    walked = await engine.walk("", 6)
    for each, position in zip(walked.points, walked.positions, strict=True):
        assert (await engine.walk(position, 1)).points[0].id == each.id
    assert (await engine.walk("", 1)).points[0].image is None


@pytest.mark.parametrize("position", ["x", "9/", "0/zz", "-1/", "../x"])
async def test_a_walk_from_nowhere_is_refused(engine: Engine, position: str) -> None:
    with pytest.raises(MirageError) as caught:
        await engine.walk(position, 1)
    assert caught.value.code == Code.PAGE_TOKEN_INVALID


async def test_points_are_found_by_their_image(engine: Engine) -> None:
    await engine.upsert([point(name, unit(1)) for name in ("c", "a", "b")])
    assert await engine.showing(["a" * 64, "b" * 64], 10) == {"a" * 64: ["a", "b", "c"]}
    assert len((await engine.showing(["a" * 64], 2))["a" * 64]) == 2


async def test_points_are_found_by_the_file_that_they_came_from(engine: Engine) -> None:
    await engine.upsert(
        [
            point("old", unit(1)),  # as older versions stored it: the digest of its image alone
            point("clean", unit(1), original="b" * 64),
            point("other", unit(1), original="c" * 64),
        ]
    )
    found = await engine.showing(["a" * 64, "b" * 64, "c" * 64, "d" * 64], 10)
    assert found == {"a" * 64: ["clean", "old", "other"], "b" * 64: ["clean"], "c" * 64: ["other"]}


async def test_a_digest_is_counted_where_it_is_and_nowhere_else(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1), original="b" * 64, pixels="c" * 64), point("b", unit(1))])
    assert await engine.count(facet="pixels_sha256", value="c" * 64) == 1
    assert await engine.count(facet="pixels_sha256", value="b" * 64) == 0
    await engine.upsert([point("a", unit(1))])
    assert await engine.count(facet="pixels_sha256", value="c" * 64) == 0


async def test_limit_and_min_score_cut(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1)), point("b", unit(1, 1)), point("c", unit(0, 1))])
    assert await found(engine, unit(1), limit=2) == ["a", "b"]
    [hits] = await engine.search([Nearest(unit(1), Space.IMAGE, 3)])
    for number, hit in enumerate(hits):
        assert await found(engine, unit(1), min_score=hit.score) == ["a", "b", "c"][: number + 1]


async def test_filters_take_any_value_of_every_facet(engine: Engine) -> None:
    await engine.upsert([point(plane, unit(1), plane=plane) for plane in ("axial", "coronal", "sagittal")])

    def where(**facets: tuple[str, ...]) -> Filter:
        return Filter(where=facets)

    assert await found(engine, unit(1), filter=where(plane=("axial", "sagittal"))) == ["axial", "sagittal"]
    assert await found(engine, unit(1), filter=where(plane=("axial",), modality=("mr",))) == ["axial"]
    assert await found(engine, unit(1), filter=where(plane=("axial",), modality=("ct",))) == []
    assert await found(engine, unit(1), filter=Filter(exclude=("axial", "unknown"))) == ["coronal", "sagittal"]
    assert await found(engine, unit(1), filter=Filter(only=("axial", "unknown")), exact=True) == ["axial"]


async def test_fetch_gives_what_was_stored(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1, 2, 3), caption=unit(3, 2, 1))])
    stored = (await engine.fetch(["a", "b"], vectors=True)).pop("a")
    assert stored.record == '{"id":"a"}'
    assert stored.image is not None
    assert stored.caption is not None
    np.testing.assert_allclose(stored.image, unit(1, 2, 3), atol=1e-6)
    np.testing.assert_allclose(stored.caption, unit(3, 2, 1), atol=1e-6)
    assert (await engine.fetch(["a"]))["a"].image is None


async def test_an_upsert_replaces_the_whole_point(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1), plane="axial")])
    await engine.upsert([point("a", unit(0, 1), plane="coronal")])
    assert (await engine.status()).records == 1
    [[hit]] = await engine.search([Nearest(unit(0, 1), Space.IMAGE, 10)])
    assert hit.score == pytest.approx(1, abs=1e-6)
    assert await engine.count(facet="plane", value="axial") == 0
    assert await engine.count(facet="plane", value="coronal") == 1


async def test_delete_counts_what_was_there(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1)), point("b", unit(1))])
    assert await engine.delete(["a", "a", "c"]) == 1
    assert await found(engine, unit(1)) == ["b"]
    assert (await engine.status()).records == 1


async def test_facets_count_under_a_filter(engine: Engine) -> None:
    planes = ["sagittal", "axial", "axial", "coronal"]
    await engine.upsert([point(f"p{n}", unit(1), plane=plane) for n, plane in enumerate(planes)])
    facets = await engine.facets(["plane", "modality"], Filter(), 10)
    assert facets == {"plane": [("axial", 2), ("coronal", 1), ("sagittal", 1)], "modality": [("mr", 4)]}
    some = await engine.facets(["modality", "plane"], Filter(where={"plane": ("axial",)}), 10)
    assert some == {"modality": [("mr", 2)], "plane": [("axial", 2)]}
    assert len((await engine.facets(["plane"], Filter(), 2))["plane"]) == 2


async def test_images_can_be_counted_by_their_digest(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1)), point("b", unit(1))])
    assert await engine.count(facet="image_sha256", value="a" * 64) == 2
    assert await engine.count(facet="image_sha256", value="b" * 64) == 0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
async def test_a_vector_that_is_not_finite_never_gets_in(engine: Engine, number: float) -> None:
    broken = unit(1)
    broken[3] = number
    with pytest.raises(MirageError) as caught:
        await engine.upsert([point("a", broken)])
    assert caught.value.code is Code.VECTOR_NOT_FINITE
    assert (await engine.status()).records == 0


async def test_more_points_than_one_write_takes_are_all_there(engine: Engine) -> None:
    points = [point(f"p{n:03}", unit(1, n / 100)) for n in range(300)]
    await engine.upsert(points)
    assert (await engine.status()).records == 300
    assert await found(engine, unit(1), limit=3) == ["p000", "p001", "p002"]


async def test_what_was_replaced_or_removed_is_off_the_disk_once_it_is_written_again(
    engine: Engine, folder: Path
) -> None:
    def on_disk(text: str) -> bool:
        return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())

    await engine.upsert([point(f"planted-{n:03}", unit(1, n), original=f"{n:064x}") for n in range(150)])
    await engine.delete([f"planted-{n:03}" for n in range(100)])
    can = await engine.rewrite()
    assert can == isinstance(engine, EdgeEngine)
    assert on_disk("planted-149") == can
    assert not on_disk("planted-007")
    assert (await engine.status()).records == 50
    assert await found(engine, unit(1, 120), limit=1) == ["planted-120"]
    assert await engine.showing([f"{120:064x}"], 1) == {f"{120:064x}": ["planted-120"]}
    await engine.upsert([point("after", unit(0, 0, 1))])
    assert await found(engine, unit(0, 0, 1), limit=1) == ["after"]


async def test_a_collection_that_is_there_stays_with_its_records(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1))])
    await engine.create(COLLECTION)
    assert await found(engine, unit(1)) == ["a"]


@pytest.mark.parametrize("change", [{"dimension": 4}, {"fingerprint": "e" * 64}])
async def test_a_collection_of_another_model_is_never_replaced(engine: Engine, change: dict[str, Any]) -> None:
    await engine.upsert([point("a", unit(1))])
    with pytest.raises(MirageError) as caught:
        await engine.create(replace(COLLECTION, **change))
    assert caught.value.code is Code.COLLECTION_EXISTS
    assert caught.value.metadata["name"] == "contract" or SERVER
    assert await found(engine, unit(1)) == ["a"]


async def test_a_dropped_collection_leaves_nothing_for_the_next(engine: Engine) -> None:
    await engine.upsert([point("a", unit(1))])
    await engine.drop()
    await engine.create(replace(COLLECTION, dimension=4))
    assert (await engine.status()).records == 0
    assert await engine.search([Nearest(np.full(4, 0.5, np.float32), Space.IMAGE, 1)]) == [[]]
    await engine.drop()
    await engine.create(COLLECTION)


def placed(id_: str, place: int, *, case: str = "", plane: str = "axial") -> Point:
    return replace(point(id_, unit(1), plane=plane), case_id=case, order=dict.fromkeys(ORDERS, place))


@pytest.mark.parametrize("name", ORDERS)
async def test_points_are_read_in_an_order_from_a_number_on(engine: Engine, name: str) -> None:
    places = {"a": 2**53 - 1, "b": 5, "c": 2**52, "d": 0, "e": 7}
    await engine.upsert([placed(id_, place) for id_, place in places.items()])

    async def read(*arguments: Any, **options: Any) -> list[tuple[str, int]]:
        return [(each.id, each.number) for each in await engine.ordered(name, *arguments, **options)]

    ascending = sorted(places.items(), key=lambda item: item[1])
    assert await read(None, 10, Filter()) == ascending
    assert await read(None, 10, Filter(), descending=True) == ascending[::-1]
    assert await read(7, 2, Filter()) == ascending[2:4]
    assert await read(7, 2, Filter(), descending=True) == [("e", 7), ("b", 5)]
    assert await read(2**53, 10, Filter()) == []
    [first, *_] = await engine.ordered(name, None, 1, Filter())
    assert first.record == '{"id":"d"}'


async def test_an_order_holds_only_what_passes_the_filter(engine: Engine) -> None:
    planes = ("axial", "coronal", "sagittal")
    await engine.upsert([placed(f"p{n}", n, plane=planes[n % 3]) for n in range(9)])
    among = Filter(where={"plane": ("axial", "coronal")}, exclude=("p0",))
    assert [each.id for each in await engine.ordered("added", 1, 3, among)] == ["p1", "p3", "p4"]


async def test_values_that_are_not_wanted_leave_points_out(engine: Engine) -> None:
    await engine.upsert([point(plane, unit(1), plane=plane) for plane in ("axial", "coronal", "sagittal")])
    among = Filter(where_not={"plane": ("axial", "coronal"), "modality": ("ct",)})
    assert await found(engine, unit(1), filter=among) == ["sagittal"]
    assert await engine.total(among) == 1
    assert await engine.total(Filter(where_not={"plane": ("axial",), "modality": ("mr",)})) == 0
    assert await engine.total(Filter(where={"plane": ("axial", "coronal")}, where_not={"plane": ("axial",)})) == 1
    assert (await engine.facets(["plane"], among, 10))["plane"] == [("sagittal", 1)]
    met, position = [], ""
    while True:
        walked = await engine.walk(position, 10, among=among)
        met += [each.id for each in walked.points]
        position = walked.position
        if not position:
            break
    assert met == ["sagittal"]


async def test_points_are_counted_by_case(engine: Engine) -> None:
    await engine.upsert(
        [
            placed("a", 1, case="first"),
            placed("b", 2, case="first", plane="coronal"),
            placed("c", 3, case="second"),
            placed("d", 4),
        ]
    )
    assert await engine.cases(["first", "second", "none"], Filter()) == {"first": 2, "second": 1}
    assert await engine.cases(["first", "second"], Filter(where={"plane": ("coronal",)})) == {"first": 1}
    assert await engine.cases([], Filter()) == {}
    assert [each.id for each in await engine.ordered("case", None, 9, Filter(cases=("first",)))] == ["a", "b"]
    assert await found(engine, unit(1), filter=Filter(cases=("second",))) == ["c"]
    await engine.upsert([placed("c", 3)])
    assert await engine.cases(["second"], Filter()) == {}


async def test_what_is_like_some_and_unlike_others_comes_first(engine: Engine) -> None:
    await engine.upsert(
        [
            point("wanted", unit(1, 0.1)),
            point("between", unit(1, 0.9)),
            point("unwanted", unit(0.1, 1)),
            point("other", unit(0, 0, 1)),
        ]
    )

    async def like(*positives: np.ndarray, negatives: tuple[np.ndarray, ...] = (), **options: Any) -> list[str]:
        options = {"limit": 10, **options}
        [hits] = await engine.search([Like(positives, negatives, Space.IMAGE, **options)])
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        return [hit.id for hit in hits]

    assert (await like(unit(1), negatives=(unit(0, 1),)))[:2] == ["wanted", "between"]
    assert (await like(unit(1), negatives=(unit(0, 1),)))[-1] == "unwanted"
    assert set((await like(unit(1), unit(0, 0, 1)))[:2]) == {"wanted", "other"}
    assert await like(unit(1), limit=1) == ["wanted"]
    assert await like(unit(1), filter=Filter(exclude=("wanted",)), limit=1) == ["between"]


async def test_an_engine_that_is_open_answers(engine: Engine) -> None:
    assert engine.answers


def number(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")


def words(**weights: float) -> Words:
    """A point's words: each a dimension of its own, with a form."""
    ordered = sorted(weights, key=number)
    return Words(
        np.array([number(word) for word in ordered], np.uint32),
        np.array([weights[word] for word in ordered], np.float32),
        forms=tuple(f"{word}s" for word in weights),
    )


def ways(*several: str) -> tuple[tuple[int, ...], ...]:
    """One group of a condition: each text is a way, of one word or more."""
    return tuple(tuple(map(number, way.split())) for way in several)


def saying(id_: str, **weights: float) -> Point:
    return replace(point(id_, unit(1)), words=words(**weights))


async def said(engine: Engine, limit: int = 10, among: Filter | None = None, **weights: float) -> list[str]:
    query = words(**weights)
    [hits] = await engine.search([Saying(query.ids, query.weights, limit, among or Filter())])
    return [hit.id for hit in hits]


async def test_points_are_found_by_their_words(engine: Engine) -> None:
    await engine.upsert([saying("a", lung=1), saying("b", lung=1.5), saying("c", bone=1)])
    assert await said(engine, lung=1) == ["b", "a"]
    assert await said(engine, lung=2, bone=1, limit=1) == ["b"]
    assert await said(engine, spleen=1) == []


async def test_a_rare_word_counts_more_than_a_frequent_one(engine: Engine) -> None:
    # Many, for each shard counts how rare a word is among its own points.
    frequent = [saying(f"f{number}", lung=1) for number in range(60)]
    await engine.upsert([*frequent, *(saying(f"r{number}", clot=1) for number in range(6))])
    assert {id_[0] for id_ in await said(engine, lung=1, clot=1, limit=6)} == {"r"}


async def test_words_and_vectors_are_searched_by_one_call(engine: Engine) -> None:
    await engine.upsert([saying("a", lung=1), point("silent", unit(0, 1))])
    query = words(lung=1)
    by_words, by_image = await engine.search([Saying(query.ids, query.weights, 5), Nearest(unit(0, 1), Space.IMAGE, 1)])
    assert [hit.id for hit in by_words] == ["a"]
    assert [hit.id for hit in by_image] == ["silent"]
    assert by_words[0].record == '{"id":"a"}'


async def test_conditions_ask_for_every_group_and_for_all_words_of_one_way(engine: Engine) -> None:
    await engine.upsert(
        [saying("both", heart=1, attack=1), saying("half", heart=1), saying("other", infarct=1), saying("none", bone=1)]
    )
    attack = ways("heart attack", "infarct", "stroke")
    everything: dict[str, Any] = {"heart": 1.0, "attack": 1.0, "infarct": 1.0, "bone": 1.0}
    assert set(await said(engine, among=Filter(says=(attack,)), **everything)) == {"both", "other"}
    assert await said(engine, among=Filter(says=(attack, ways("heart"))), **everything) == ["both"]
    assert set(await said(engine, among=Filter(silent=((attack,),)), **everything)) == {"half", "none"}
    silent = ((attack,), (ways("bone"),))
    assert await said(engine, among=Filter(silent=silent), **everything) == ["half"]
    # The same for vectors.
    assert set(await found(engine, unit(1), filter=Filter(says=(attack,)))) == {"both", "other"}
    assert await found(engine, unit(1), filter=Filter(silent=silent)) == ["half"]


async def test_an_upsert_replaces_the_words_too(engine: Engine) -> None:
    await engine.upsert([saying("a", lung=1)])
    await engine.upsert([saying("a", bone=1)])
    assert await said(engine, lung=1) == []
    assert await said(engine, bone=1) == ["a"]
    assert await engine.vocabulary() == {"bones": 1}


async def test_the_vocabulary_counts_points(engine: Engine) -> None:
    assert await engine.vocabulary() == {}
    await engine.upsert([saying("a", lung=1, bone=2), saying("b", lung=1)])
    assert await engine.vocabulary() == {"lungs": 2, "bones": 1}


async def test_words_that_are_not_finite_never_get_in(engine: Engine) -> None:
    with pytest.raises(MirageError) as refused:
        await engine.upsert([saying("a", lung=float("nan"))])
    assert refused.value.code is Code.VECTOR_NOT_FINITE
    assert await engine.fetch(["a"]) == {}


async def test_a_text_is_kept_with_the_collection(engine: Engine) -> None:
    assert await engine.kept("one") == ""
    await engine.keep("one", '{"recall": 0.5}')
    await engine.keep("one", '{"recall": 0.75}')
    await engine.keep("other", "{}")
    assert (await engine.kept("one"), await engine.kept("other")) == ('{"recall": 0.75}', "{}")
    await engine.drop()
    await engine.create(COLLECTION)
    assert (await engine.kept("one"), await engine.kept("other")) == ("", "")


async def test_status_counts_no_words_as_vectors_of_the_graph(engine: Engine) -> None:
    await engine.upsert([saying(f"p{number}", lung=1) for number in range(20)])
    await engine.upsert([point("silent", unit(1))])
    status = await engine.status()
    assert (status.records, status.indexed) == (21, 0)
