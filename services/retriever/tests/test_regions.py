"""Label maps in the retriever, over real gRPC: stored, served, found by name, replaced and removed."""

import hashlib
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirage_core.channels import invoke
from mirage_core.errors import Code, MirageError
from mirage_core.regions import Region
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import image_pb2, query_pb2, record_pb2
from mirage_retriever.words.queries import read_query
from mirage_retriever.words.regions import named_regions
from mirage_retriever.words.synonyms import load_synonyms
from mirage_retriever.words.vocabulary import Vocabulary

from .conftest import Stub
from .service_calls import CREATED, REJECTED, UNCHANGED, UPDATED, image_of, parts, picture, record, search, upsert

SIDE = 96
PLACES = {1: ("liver", 10, 10, 30, 20), 2: ("left kidney", 60, 50, 8, 12), 3: ("right kidney", 20, 50, 8, 12)}


def drawn(*ids: int, side: int = SIDE) -> bytes:
    numbers = np.zeros((side, side), np.uint8)
    for each in ids:
        _, x, y, width, height = PLACES[each]
        numbers[y : y + height, x : x + width] = each
    buffer = io.BytesIO()
    Image.fromarray(numbers).save(buffer, "PNG")
    return buffer.getvalue()


def label_map(*ids: int, png: bytes | None = None) -> record_pb2.RegionMap:
    legend = [record_pb2.Region(id=n, name=PLACES[n][0], group="organs", colour=f"#00000{n}") for n in ids]
    return record_pb2.RegionMap(png=drawn(*ids) if png is None else png, legend=legend)


async def stored(stub: Stub, id_: str) -> record_pb2.Record:
    return (await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=id_), timeout_s=10)).record


async def map_of(stub: Stub, id_: str) -> bytes:
    media_type, data = await image_of(stub, id_, image_pb2.IMAGE_VARIANT_REGIONS)
    assert media_type == "image/png"
    return data


@pytest.fixture
def maps(data: Path) -> Callable[[], set[str]]:
    """Returns the names of the label maps that are stored."""
    return lambda: {path.name for path in (data / "clean" / "regions").rglob("*") if path.is_file()}


@pytest.fixture
async def outlined(stub: Stub) -> AsyncIterator[str]:
    """The id of a record with three structures; it is gone afterwards."""
    (outcome,) = await upsert(stub, parts(record("outlined"), picture(1), regions=label_map(1, 2, 3)))
    assert outcome.state == CREATED
    yield "outlined"
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["outlined"]), timeout_s=10)


async def test_a_record_says_where_each_structure_is(stub: Stub, outlined: str) -> None:
    found = await stored(stub, outlined)

    assert [(each.name, each.group, each.colour, tuple(each.box), each.area) for each in found.regions] == [
        (name, "organs", f"#00000{n}", box, box[2] * box[3])
        for n, (name, *corners) in PLACES.items()
        for box in [tuple(corners)]
    ]
    assert found.original_regions_sha256 == hashlib.sha256(drawn(1, 2, 3)).hexdigest()
    with Image.open(io.BytesIO(await map_of(stub, outlined))) as image:
        assert (image.size, image.mode) == ((SIDE, SIDE), "P")
        assert set(np.unique(np.asarray(image))) == {0, 1, 2, 3}


async def test_structures_become_a_facet_and_words(stub: Stub, outlined: str) -> None:
    assert set((await stored(stub, outlined)).labels["structure"].values) == {"liver", "left kidney", "right kidney"}
    reply = await search(stub, query_pb2.Term(text="liver"), mode=query_pb2.SEARCH_MODE_WORDS)
    assert [each.record.id for each in reply.results] == [outlined]


async def test_structures_that_the_caller_states_are_left_as_they_are(stub: Stub) -> None:
    await upsert(stub, parts(record("own", structure="ribs"), picture(2), regions=label_map(1)))
    assert list((await stored(stub, "own")).labels["structure"].values) == ["ribs"]
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["own"]), timeout_s=10)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("liver", ["liver"]),
        ("hepatic", ["liver"]),
        ("kidney", ["left kidney", "right kidney"]),
        ("CT of the left kidney", ["left kidney"]),
        ("axial", []),
    ],
)
async def test_a_result_carries_the_regions_that_the_query_names(
    stub: Stub, outlined: str, text: str, names: list[str]
) -> None:
    [result] = (await search(stub, query_pb2.Term(text=text))).results
    assert [each.name for each in result.record.regions] == names


async def test_regions_are_named_by_what_a_sum_adds_and_not_by_what_it_takes_away(stub: Stub, outlined: str) -> None:
    terms = [query_pb2.Term(text="liver"), query_pb2.Term(text="kidney", weight=-1)]
    [result] = (await search(stub, *terms)).results
    assert [each.name for each in result.record.regions] == ["liver"]
    [result] = (await search(stub, query_pb2.Term(id=outlined))).results
    assert not result.record.regions


async def test_the_same_map_again_changes_nothing(stub: Stub, outlined: str, maps: Callable[[], set[str]]) -> None:
    before = maps()
    (outcome,) = await upsert(stub, parts(record(outlined), picture(1), regions=label_map(1, 2, 3)))
    assert (outcome.state, maps()) == (UNCHANGED, before)


async def test_without_a_map_the_stored_one_stays_with_its_image_and_goes_with_it(
    stub: Stub, outlined: str, maps: Callable[[], set[str]]
) -> None:
    (outcome,) = await upsert(stub, parts(record(outlined, "Another caption.")))
    assert outcome.state == UPDATED
    assert len((await stored(stub, outlined)).regions) == 3
    (outcome,) = await upsert(stub, parts(record(outlined), picture(3)))
    assert outcome.state == UPDATED
    assert not (await stored(stub, outlined)).regions
    assert not maps()
    with pytest.raises(MirageError) as raised:
        await map_of(stub, outlined)
    assert raised.value.code is Code.REGIONS_NOT_FOUND


async def test_another_map_replaces_it_and_an_empty_one_removes_it(
    stub: Stub, outlined: str, maps: Callable[[], set[str]]
) -> None:
    before = maps()
    (outcome,) = await upsert(stub, parts(record(outlined), regions=label_map(2)))
    assert outcome.state == UPDATED
    assert [each.name for each in (await stored(stub, outlined)).regions] == ["left kidney"]
    assert len(maps()) == 1
    assert maps() != before
    (outcome,) = await upsert(stub, parts(record(outlined), regions=record_pb2.RegionMap()))
    assert outcome.state == UPDATED
    assert not (await stored(stub, outlined)).regions
    assert not maps()


async def test_a_map_that_two_records_share_stays_until_both_are_deleted(
    stub: Stub, outlined: str, maps: Callable[[], set[str]]
) -> None:
    await upsert(stub, parts(record("twin"), picture(4), regions=label_map(1, 2, 3)))
    assert len(maps()) == 1
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=[outlined]), timeout_s=10)
    assert await map_of(stub, "twin")
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["twin"]), timeout_s=10)
    assert not maps()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (label_map(1, png=drawn(1, side=SIDE + 1)), "it has 97 x 97 pixels, and its image has 96 x 96"),
        (label_map(1, png=drawn(1, 2)), "it has the number 2, which is not in its legend"),
        (label_map(1, 1), "its legend has the number 1 twice"),
        (label_map(1, png=b"\x89PNG\r\n\x1a\n"), "damaged"),
        (label_map(1, png=bytes(2**20)), "it has more than 524288 bytes"),
        (
            record_pb2.RegionMap(png=drawn(1), legend=[record_pb2.Region(id=n) for n in range(70_000)]),
            "its legend has more than 255 structures",
        ),
    ],
)
async def test_a_tampered_map_is_refused_and_its_neighbours_are_stored(
    stub: Stub, given: record_pb2.RegionMap, said: str, maps: Callable[[], set[str]]
) -> None:
    good, bad = await upsert(stub, parts(record("good"), picture(5)), parts(record("bad"), picture(6), regions=given))
    assert (good.state, bad.state, bad.error.code) == (CREATED, REJECTED, "REGIONS_INVALID")
    assert said in bad.error.message
    assert not maps()
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["good", "bad"]), timeout_s=10)


NAMES = (
    "aorta", "hepatic portal and splenic vein", "inferior vena cava", "left hip bone", "left kidney",
    "left suprarenal gland", "liver", "lower lobe of the left lung", "lower lobe of the right lung", "oesophagus",
    "pulmonary artery", "right hip bone", "right kidney", "right rib 5", "small intestine", "spleen", "superior vena cava",
    "trachea", "upper lobe of the left lung", "vertebra T8", "vertebra T9",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pancreas", ()),
        ("spleen", ("spleen",)),
        ("splenic vein", ("hepatic portal and splenic vein",)),
        ("T8", ("vertebra T8",)),
        ("windpipe", ("trachea",)),
        ("gullet", ("oesophagus",)),
        ("esophagus", ("oesophagus",)),
        ("IVC", ("inferior vena cava",)),
        ("inferior vena cava", ("inferior vena cava",)),
        ("vena cava", ("inferior vena cava", "superior vena cava")),
        ("hip", ("left hip bone", "right hip bone")),
        ("small bowel", ("small intestine",)),
        ("left adrenal", ("left suprarenal gland",)),
        ("right adrenal gland", ()),
        ("lung", ("lower lobe of the left lung", "lower lobe of the right lung", "upper lobe of the left lung")),
        ("lower lobe", ("lower lobe of the left lung", "lower lobe of the right lung")),
        ("left lung", ("lower lobe of the left lung", "upper lobe of the left lung")),
        ("middle lobe", ()),
        ("liver and aorta", ("aorta", "liver")),
        ("rib 5 on the right", ("right rib 5",)),
        ("left", ()),
        ("kidney -left", ("left kidney", "right kidney")),
    ],
)
def test_names_of_regions_are_compared_by_their_words(text: str, names: tuple[str, ...]) -> None:
    regions = [Region(number, name, "", "#000000") for number, name in enumerate(NAMES, start=1)]
    query = read_query(text, load_synonyms(), Vocabulary())
    assert tuple(each.name for each in named_regions(regions, query)) == names


def test_a_structure_that_is_not_there_is_not_replaced_by_one_that_shares_a_word_of_place() -> None:
    query = read_query("left kidney", load_synonyms(), Vocabulary())
    regions = [Region(1, "right kidney", "", "#000000"), Region(2, "left rib 5", "", "#000000")]
    assert named_regions(regions, query) == ()
