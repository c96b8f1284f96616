"""The retriever over real gRPC, with the real encoder behind it."""

import hashlib
import io
import math
import secrets
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from mirage_core.channels import invoke, invoke_stream, invoke_upload
from mirage_core.errors import Code, MirageError
from mirage_core.synthetic_label import draw_label
from mirage_core.vectors import vector_to_proto
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import collection_pb2, facet_pb2, flag_pb2, image_pb2, query_pb2, record_pb2, vector_pb2
from tests.support.old_data import dicom
from tests.support.waiting import until_async as until

from .conftest import Stub

Part: TypeAlias = retriever_pb2.UpsertRecordsRequest
CREATED, UPDATED, UNCHANGED, REJECTED = (
    record_pb2.UPSERT_STATE_CREATED,
    record_pb2.UPSERT_STATE_UPDATED,
    record_pb2.UPSERT_STATE_UNCHANGED,
    record_pb2.UPSERT_STATE_REJECTED,
)


def picture(number: int, form: str = "PNG", side: int = 96) -> bytes:
    """Another picture for each number."""
    image = Image.new("RGB", (side, side), (10, 10, 10))
    draw = ImageDraw.Draw(image)
    chance = np.random.default_rng(number)
    for _ in range(4):
        x, y, r = chance.integers(5, side - 5, 3)
        draw.ellipse((x - r // 4, y - r // 4, x + r // 4, y + r // 4), fill=tuple(chance.integers(60, 255, 3).tolist()))
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def record(id_: str, caption: str = "An axial section.", **labels: str) -> record_pb2.Record:
    message = record_pb2.Record(
        id=id_, caption=caption, licence="CC0-1.0", source="test", original_labels={"Plane": "TRA"}
    )
    for name, value in labels.items():
        message.labels[name].values.append(value)
    return message


def parts(message: record_pb2.Record, image: bytes = b"", **head: Any) -> list[Part]:
    chunks = [image[start : start + 2**20] for start in range(0, len(image), 2**20)]
    return [
        Part(part=record_pb2.RecordPart(record=record_pb2.RecordHead(record=message, **head))),
        *(Part(part=record_pb2.RecordPart(image_chunk=chunk)) for chunk in chunks),
    ]


async def upsert(stub: Stub, *records: Sequence[Part]) -> list[record_pb2.UpsertOutcome]:
    async def stream() -> AsyncIterator[Part]:
        for requests in records:
            for request in requests:
                yield request

    return list((await invoke_upload(stub.UpsertRecords, stream(), timeout_s=60)).outcomes)


async def search(stub: Stub, *terms: query_pb2.Term, **fields: Any) -> query_pb2.SearchReply:
    query = query_pb2.Query(terms=terms, **fields)
    return (await invoke(stub.Search, retriever_pb2.SearchRequest(query=query), timeout_s=30)).reply


async def collection(stub: Stub) -> collection_pb2.Collection:
    return (await invoke(stub.GetCollection, retriever_pb2.GetCollectionRequest(), timeout_s=10)).collection


async def image_of(stub: Stub, id_: str, variant: image_pb2.ImageVariant.ValueType | None) -> tuple[str, bytes]:
    request = retriever_pb2.GetImageRequest(id=id_, variant=variant)
    received = [reply.part async for reply in invoke_stream(stub.GetImage, request, timeout_s=30)]
    data = b"".join(part.chunk for part in received)
    assert received[0].length == len(data)
    return received[0].media_type, data


@pytest.fixture
def files(data: Path) -> Callable[[], set[str]]:
    """Tells the names of all image files that are stored."""
    return lambda: {path.name for path in (data / "clean").rglob("*") if path.is_file()}


@pytest.fixture
async def atlas(stub: Stub) -> AsyncIterator[str]:
    """Twelve records whose ids begin with what this yields; gone again afterwards."""
    prefix = f"t{secrets.token_hex(4)}"
    planes = ("axial", "coronal", "sagittal")
    outcomes = await upsert(
        stub,
        *(
            parts(record(f"{prefix}-{n:02}", f"Section number {n}, {planes[n % 3]}.", plane=planes[n % 3]), picture(n))
            for n in range(12)
        ),
    )
    assert {outcome.state for outcome in outcomes} == {CREATED}
    yield prefix
    request = retriever_pb2.DeleteRecordsRequest(ids=[f"{prefix}-{n:02}" for n in range(12)])
    await invoke(stub.DeleteRecords, request, timeout_s=10)
    assert (await collection(stub)).records == 0


def ids(reply: query_pb2.SearchReply) -> list[str]:
    return [result.record.id for result in reply.results]


async def test_an_image_finds_itself_and_its_record_comes_with_it(stub: Stub, atlas: str) -> None:
    reply = await search(stub, query_pb2.Term(image=picture(5)), k=3)
    first = reply.results[0]
    assert first.record.id == f"{atlas}-05"
    assert first.cosine == first.score == pytest.approx(1, abs=0.01)
    assert first.record.caption == "Section number 5, sagittal."
    assert list(first.record.labels["plane"].values) == ["sagittal"]
    assert dict(first.record.original_labels) == {"Plane": "TRA"}
    assert first.record.original_sha256 == hashlib.sha256(picture(5)).hexdigest()
    _, stored = await image_of(stub, f"{atlas}-05", image_pb2.IMAGE_VARIANT_DISPLAY)
    assert first.record.image_sha256 == hashlib.sha256(stored).hexdigest()
    assert (first.record.image_type, first.record.width, first.record.height) == ("image/png", 96, 96)
    assert reply.fingerprint == (await collection(stub)).fingerprint
    assert reply.timings.total_ms >= reply.timings.search_ms > 0


async def test_a_text_is_reported_with_its_tokens(stub: Stub, atlas: str) -> None:
    reply = await search(stub, query_pb2.Term(text="axial section"))
    assert len(reply.results) == 10
    assert reply.query.tokens == 4
    assert not reply.query.truncated
    assert reply.query.shift == pytest.approx(1)
    assert [(term.label, term.weight, term.share) for term in reply.query.terms] == [("axial section", 1, 1)]
    assert (await search(stub, query_pb2.Term(text="section " * 100))).query.truncated


async def test_a_caption_is_found_among_captions(stub: Stub, atlas: str) -> None:
    reply = await search(
        stub, query_pb2.Term(text="Section number 7, coronal."), vectors=query_pb2.VECTOR_SPACE_CAPTION, k=1
    )
    assert ids(reply) == [f"{atlas}-07"]
    assert reply.results[0].score == pytest.approx(1, abs=1e-3)
    assert reply.match == query_pb2.MATCH_NOT_JUDGED  # thresholds are of image vectors


async def test_fused_results_carry_both_scores(stub: Stub, atlas: str) -> None:
    reply = await search(
        stub, query_pb2.Term(text="Section number 7, coronal."), vectors=query_pb2.VECTOR_SPACE_FUSED, k=12
    )
    assert sorted(ids(reply)) == [f"{atlas}-{n:02}" for n in range(12)]
    scores = [result.score for result in reply.results]
    assert scores == sorted(scores, reverse=True)
    assert all(2 / 72 - 1e-6 <= score <= 2 / 61 + 1e-6 for score in scores)
    by_image = await search(stub, query_pb2.Term(text="Section number 7, coronal."), k=12)
    cosines = {result.record.id: result.cosine for result in by_image.results}
    assert {result.record.id: result.cosine for result in reply.results} == pytest.approx(cosines, abs=1e-5)
    floor = sorted(cosines.values())[6]
    bounded = await search(
        stub,
        query_pb2.Term(text="Section number 7, coronal."),
        vectors=query_pb2.VECTOR_SPACE_FUSED,
        k=12,
        min_score=floor,
    )
    assert set(ids(bounded)) == {id_ for id_, cosine in cosines.items() if cosine >= floor}


async def test_pages_give_everything_once_and_in_order(stub: Stub, atlas: str) -> None:
    for space in (query_pb2.VECTOR_SPACE_IMAGE, query_pb2.VECTOR_SPACE_CAPTION, query_pb2.VECTOR_SPACE_FUSED):
        whole = ids(await search(stub, query_pb2.Term(text="axial"), vectors=space, k=12))
        token, paged, matches = "", [], set()
        while True:
            reply = await search(stub, query_pb2.Term(text="axial"), vectors=space, k=5, page_token=token)
            paged += ids(reply)
            matches.add(reply.match)
            token = reply.next_page_token
            if not token:
                break
        assert paged == whole
        assert len(matches) == 1


async def test_equal_images_are_paged_in_order_of_their_ids(stub: Stub) -> None:
    names = [f"twin-{n:02}" for n in range(30)]
    await upsert(stub, *(parts(record(name), picture(1)) for name in reversed(names)))
    first = await search(stub, query_pb2.Term(image=picture(1)), k=7)
    second = await search(stub, query_pb2.Term(image=picture(1)), k=7, page_token=first.next_page_token)
    assert ids(first) + ids(second) == names[:14]
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=names), timeout_s=10)


async def test_filters_exclusions_and_scores_narrow(stub: Stub, atlas: str) -> None:
    where = {"plane": facet_pb2.StringList(values=["axial", "coronal"])}
    reply = await search(stub, query_pb2.Term(id=f"{atlas}-00"), where=where, exclude_ids=[f"{atlas}-00"], k=12)
    assert {result.record.labels["plane"].values[0] for result in reply.results} == {"axial", "coronal"}
    assert len(reply.results) == 7
    floor = reply.results[3].score
    bounded = await search(
        stub, query_pb2.Term(id=f"{atlas}-00"), where=where, exclude_ids=[f"{atlas}-00"], k=12, min_score=floor
    )
    assert ids(bounded) == ids(reply)[:4]
    nothing = await search(stub, query_pb2.Term(text="axial"), where={"modality": facet_pb2.StringList(values=["nm"])})
    assert not nothing.results


async def test_compare_gives_both_sides_and_their_distance(stub: Stub, atlas: str) -> None:
    request = retriever_pb2.CompareRequest(
        base=query_pb2.Query(terms=[query_pb2.Term(id=f"{atlas}-03")], k=2),
        shift=[query_pb2.Term(id=f"{atlas}-03", weight=-1), query_pb2.Term(id=f"{atlas}-04", weight=1)],
    )
    reply = await invoke(stub.Compare, request, timeout_s=10)
    assert ids(reply.base)[0] == f"{atlas}-03"
    assert ids(reply.shifted)[0] == f"{atlas}-04"
    assert reply.shift == pytest.approx(reply.shifted.query.shift, abs=1e-5)
    assert sum(term.share for term in reply.shifted.query.terms) == pytest.approx(1, abs=1e-5)
    assert [term.label for term in reply.shifted.query.terms] == [f"{atlas}-03", f"{atlas}-03", f"{atlas}-04"]
    rest = await search(stub, *request.base.terms, *request.shift, k=2, page_token=reply.shifted.next_page_token)
    assert not set(ids(rest)) & set(ids(reply.shifted))


async def test_the_same_record_again_changes_nothing(stub: Stub, atlas: str) -> None:
    revision = (await collection(stub)).revision
    same = parts(record(f"{atlas}-04", "Section number 4, coronal.", plane="coronal"), picture(4))
    [outcome] = await upsert(stub, same)
    assert outcome.state == UNCHANGED
    assert (await collection(stub)).revision == revision
    [outcome] = await upsert(stub, same[:1])  # without its image, which is there already
    assert outcome.state == UNCHANGED


async def test_a_record_can_be_changed_without_its_image(stub: Stub, atlas: str) -> None:
    revision = (await collection(stub)).revision
    [outcome] = await upsert(stub, parts(record(f"{atlas}-04", "A lesion of the left frontal lobe.", plane="axial")))
    assert outcome.state == UPDATED
    assert (await collection(stub)).revision != revision
    assert (await collection(stub)).records == 12
    reply = await search(stub, query_pb2.Term(image=picture(4)), k=1)
    assert reply.results[0].record.caption == "A lesion of the left frontal lobe."
    found = await search(
        stub, query_pb2.Term(text="A lesion of the left frontal lobe."), vectors=query_pb2.VECTOR_SPACE_CAPTION, k=1
    )
    assert ids(found) == [f"{atlas}-04"]


async def test_given_vectors_are_kept_and_need_the_fingerprint(stub: Stub, atlas: str) -> None:
    about = await collection(stub)
    direction = np.eye(about.dimension, dtype=np.float32)[0]
    given = vector_to_proto(7 * direction)
    fine = {"image_vector": given, "caption_vector": given, "fingerprint": about.fingerprint}
    broken = vector_to_proto(np.array([math.nan] * about.dimension, np.float32))
    outcomes = await upsert(
        stub,
        parts(record(f"{atlas}-11"), picture(11), **fine),
        parts(record(f"{atlas}-10"), picture(10), image_vector=given),
        parts(record(f"{atlas}-09"), picture(9), image_vector=given, fingerprint="0" * 64),
        parts(record(f"{atlas}-08"), picture(8), image_vector=broken, fingerprint=about.fingerprint),
        parts(
            record(f"{atlas}-07"),
            picture(7),
            image_vector=vector_to_proto(np.array([1], np.float32)),
            fingerprint=about.fingerprint,
        ),
    )
    assert [(outcome.state, outcome.error.code) for outcome in outcomes] == [
        (UPDATED, ""),
        (REJECTED, "FINGERPRINT_REQUIRED"),
        (REJECTED, "FINGERPRINT_MISMATCH"),
        (REJECTED, "VECTOR_NOT_FINITE"),
        (REJECTED, "VECTOR_WRONG_DIMENSION"),
    ]
    reply = await search(stub, query_pb2.Term(vector=given), k=1)
    assert ids(reply) == [f"{atlas}-11"]
    assert reply.results[0].score == pytest.approx(1, abs=1e-5)


async def test_images_come_in_three_forms(stub: Stub, atlas: str) -> None:
    jpeg = picture(40, "JPEG", 300)
    await upsert(stub, parts(record(f"{atlas}-01"), jpeg))
    media_type, shown = await image_of(stub, f"{atlas}-01", image_pb2.IMAGE_VARIANT_DISPLAY)
    assert media_type == "image/jpeg"
    assert Image.open(io.BytesIO(shown)).size == (300, 300)
    assert await image_of(stub, f"{atlas}-01", None) == (media_type, shown)
    assert await code_of(image_of(stub, f"{atlas}-01", image_pb2.IMAGE_VARIANT_UNSPECIFIED)) == "REQUEST_MALFORMED"
    media_type, thumbnail = await image_of(stub, f"{atlas}-01", image_pb2.IMAGE_VARIANT_THUMBNAIL)
    assert media_type == "image/webp"
    assert max(Image.open(io.BytesIO(thumbnail)).size) == 256
    assert await code_of(image_of(stub, f"{atlas}-01", image_pb2.IMAGE_VARIANT_PIXELS)) == "PIXELS_NOT_FOUND"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_nothing_but_pixels_of_a_file_is_stored(stub: Stub, atlas: str, form: str) -> None:
    name = f"PLANTED-{secrets.token_hex(8)}"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", name)
    exif = Image.Exif()
    exif[0x010E] = name
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(picture(50, side=300)))
    image.save(buffer, form, exif=exif, **({"pnginfo": texts} if form == "PNG" else {"xmp": f"<x>{name}</x>".encode()}))
    data = buffer.getvalue() + name.encode()
    await upsert(stub, parts(record(f"{atlas}-03"), data))
    for variant in (image_pb2.IMAGE_VARIANT_DISPLAY, image_pb2.IMAGE_VARIANT_THUMBNAIL):
        served = (await image_of(stub, f"{atlas}-03", variant))[1]
        assert name.encode() not in served
        assert Image.open(io.BytesIO(served)).getexif() == {}
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=f"{atlas}-03"), timeout_s=10)
    assert got.record.original_sha256 == hashlib.sha256(data).hexdigest() != got.record.image_sha256
    [outcome] = await upsert(stub, parts(record(f"{atlas}-03"), data))
    assert outcome.state == UNCHANGED


async def test_a_file_is_found_by_what_came_in_and_by_what_is_stored(stub: Stub, atlas: str) -> None:
    _, stored = await image_of(stub, f"{atlas}-05", image_pb2.IMAGE_VARIANT_DISPLAY)
    digests = [hashlib.sha256(data).hexdigest() for data in (picture(5), stored)]
    keys = [record_pb2.RecordKey(id="new", image_sha256=digest) for digest in digests]
    found = await invoke(stub.LookupRecords, retriever_pb2.LookupRecordsRequest(keys=keys), timeout_s=10)
    assert [list(each.same_image_ids) for each in found.records] == [[f"{atlas}-05"]] * 2


async def test_an_image_that_is_replaced_is_gone(stub: Stub, atlas: str, files: Callable[[], set[str]]) -> None:
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=f"{atlas}-07"), timeout_s=10)
    assert got.record.image_sha256 in files()
    [outcome] = await upsert(stub, parts(record(f"{atlas}-07"), picture(70)))
    assert outcome.state == UPDATED
    assert got.record.image_sha256 not in files()
    await upsert(stub, parts(record(f"{atlas}-07"), picture(8)))
    await upsert(stub, parts(record(f"{atlas}-07"), picture(7)))
    # The other record that shows it keeps it.
    assert Image.open(io.BytesIO((await image_of(stub, f"{atlas}-08", image_pb2.IMAGE_VARIANT_DISPLAY))[1])).size == (
        96,
        96,
    )


def test_no_other_user_can_read_what_is_stored(data: Path, retriever: str) -> None:
    entries = [data, *data.rglob("*")]
    assert len(entries) > 10
    assert [entry for entry in entries if entry.stat().st_mode & 0o077] == []


async def test_a_large_image_travels_in_pieces(stub: Stub, atlas: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 2 * 2**20
    [outcome] = await upsert(stub, parts(record(f"{atlas}-02"), buffer.getvalue()))
    assert outcome.state == UPDATED
    media_type, stored = await image_of(stub, f"{atlas}-02", image_pb2.IMAGE_VARIANT_DISPLAY)
    assert (media_type, len(stored) > 2 * 2**20) == ("image/png", True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored))), noise)


async def test_facets_are_counted_under_a_filter(stub: Stub, atlas: str) -> None:
    where = {"plane": facet_pb2.StringList(values=["axial", "coronal"])}
    reply = await invoke(stub.ListFacets, retriever_pb2.ListFacetsRequest(where=where), timeout_s=10)
    counts = {facet.name: {value.value: value.count for value in facet.values} for facet in reply.facets}
    # What a facet's own filter leaves out is counted too: it could be chosen next.
    assert counts == {"plane": {"axial": 4, "coronal": 4, "sagittal": 4}, "licence": {"cc0-1.0": 8}}


async def test_flags_count_on_the_record(stub: Stub, atlas: str) -> None:
    request = retriever_pb2.FlagRecordRequest(
        record_id=f"{atlas}-06", reason=flag_pb2.FLAG_REASON_WRONG_CAPTION, comment="left?"
    )
    flag = (await invoke(stub.FlagRecord, request, timeout_s=10)).flag
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=f"{atlas}-06"), timeout_s=10)
    assert got.record.flags == 1
    listed = await invoke(stub.ListFlags, retriever_pb2.ListFlagsRequest(record_id=f"{atlas}-06"), timeout_s=10)
    assert list(listed.flags) == [flag]
    assert flag.reason == flag_pb2.FLAG_REASON_WRONG_CAPTION
    assert flag.create_time.seconds > 1_700_000_000
    nameless = retriever_pb2.FlagRecordRequest(record_id=f"{atlas}-06")
    assert await code_of(invoke(stub.FlagRecord, nameless, timeout_s=10)) == "FLAG_INVALID"


@pytest.mark.parametrize("name", ["ListRecords", "ListFlags", "ListCollections", "ListCommonQueries"])
async def test_a_list_refuses_a_page_of_no_size_and_a_token_that_it_did_not_make(stub: Stub, name: str) -> None:
    method, request = getattr(stub, name), getattr(retriever_pb2, f"{name}Request")
    for size in (0, -1, 1_001):
        assert await code_of(invoke(method, request(page_size=size), timeout_s=10)) == "K_OUT_OF_RANGE"
    assert await code_of(invoke(method, request(page_token="?"), timeout_s=10)) == "PAGE_TOKEN_INVALID"


async def test_common_queries_come_page_by_page(stub: Stub) -> None:
    found: list[str] = []
    token = ""
    while True:
        request = retriever_pb2.ListCommonQueriesRequest(page_size=7, page_token=token)
        page = await invoke(stub.ListCommonQueries, request, timeout_s=10)
        assert len(page.queries) <= 7
        found += page.queries
        if not (token := page.next_page_token):
            break
    everything = await invoke(
        stub.ListCommonQueries, retriever_pb2.ListCommonQueriesRequest(page_size=1_000), timeout_s=10
    )
    assert found == list(everything.queries) != []


async def test_deleting_removes_an_image_that_nobody_else_shows(stub: Stub) -> None:
    await upsert(stub, parts(record("one"), picture(77)), parts(record("two"), picture(77)))

    async def delete(id_: str) -> int:
        return (
            await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=[id_, "none"]), timeout_s=10)
        ).deleted

    assert await delete("one") == 1
    assert Image.open(io.BytesIO((await image_of(stub, "two", image_pb2.IMAGE_VARIANT_DISPLAY))[1])).size == (96, 96)
    assert await delete("two") == 1
    assert await delete("two") == 0
    [outcome] = await upsert(stub, parts(record("two")))
    assert outcome.error.code == "IMAGE_EMPTY"


def deep_png(number: int = 3) -> tuple[bytes, np.ndarray]:
    """A 16-bit greyscale PNG of 12-bit values, and the values."""
    ramp = np.arange(96 * 96, dtype=np.uint16).reshape(96, 96) % 4096
    values = np.roll(ramp, number, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue(), values


HU = record_pb2.Pixels(
    bits=12,
    slope=1,
    intercept=-1024,
    unit="HU",
    windows=[
        record_pb2.PixelWindow(name="soft", center=40, width=400),
        record_pb2.PixelWindow(name="lung", center=-600, width=1500),
    ],
)


def greys(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=np.int64)


async def test_more_than_8_bits_are_kept_with_what_they_mean(stub: Stub, atlas: str) -> None:
    data, values = deep_png()
    [outcome] = await upsert(stub, parts(record(f"{atlas}-00"), data, pixels=HU))
    assert outcome.state == UPDATED, outcome
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=f"{atlas}-00"), timeout_s=10)
    assert got.record.pixels == HU
    assert (got.record.image_type, got.record.width, got.record.height) == ("image/png", 96, 96)
    media_type, deep = await image_of(stub, f"{atlas}-00", image_pb2.IMAGE_VARIANT_PIXELS)
    assert media_type == "image/png"
    stored = Image.open(io.BytesIO(deep))
    assert stored.mode == "I;16"
    assert np.array_equal(np.asarray(stored), values)
    # PS3.3 C.11.2.1.2: the first window, from -160 to 239 HU.
    shown = greys((await image_of(stub, f"{atlas}-00", image_pb2.IMAGE_VARIANT_DISPLAY))[1])
    hu = values.astype(np.float64) - 1024
    expected = np.clip(((hu - 39.5) / 399 + 0.5) * 255, 0, 255)
    assert np.abs(shown - expected).max() <= 1
    reply = await search(
        stub, query_pb2.Term(image=(await image_of(stub, f"{atlas}-00", image_pb2.IMAGE_VARIANT_DISPLAY))[1]), k=1
    )
    assert ids(reply) == [f"{atlas}-00"]
    assert reply.results[0].cosine == pytest.approx(1, abs=1e-3)


async def test_what_pixels_mean_stays_if_it_is_omitted_and_can_be_changed_alone(stub: Stub, atlas: str) -> None:
    data, _ = deep_png()
    name = f"{atlas}-00"
    await upsert(stub, parts(record(name), data, pixels=HU))
    before = await image_of(stub, name, image_pb2.IMAGE_VARIANT_DISPLAY)
    deep = await image_of(stub, name, image_pb2.IMAGE_VARIANT_PIXELS)
    for again in (parts(record(name), data), parts(record(name)), parts(record(name), pixels=HU)):
        [outcome] = await upsert(stub, again)
        assert outcome.state == UNCHANGED
    lung = record_pb2.Pixels(bits=12, slope=1, intercept=-1024, unit="HU", windows=[HU.windows[1]])
    [outcome] = await upsert(stub, parts(record(name), pixels=lung))
    assert outcome.state == UPDATED
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=name), timeout_s=10)
    assert got.record.pixels == lung
    assert got.record.original_sha256 == hashlib.sha256(data).hexdigest()
    assert await image_of(stub, name, image_pb2.IMAGE_VARIANT_DISPLAY) != before
    assert await image_of(stub, name, image_pb2.IMAGE_VARIANT_PIXELS) == deep
    [outcome] = await upsert(stub, parts(record(name), picture(0)))
    assert outcome.state == UPDATED
    assert await code_of(image_of(stub, name, image_pb2.IMAGE_VARIANT_PIXELS)) == "PIXELS_NOT_FOUND"


async def test_two_images_that_look_the_same_keep_their_own_values(stub: Stub, atlas: str) -> None:
    """All of their values are below the window: both are black on 8 bits."""
    far = record_pb2.Pixels(bits=12, slope=1, unit="", windows=[record_pb2.PixelWindow(center=60_000, width=2)])
    sent = [deep_png(number) for number in (1, 2)]
    names = [f"{atlas}-00", f"{atlas}-01"]
    await upsert(stub, *(parts(record(name), data, pixels=far) for name, (data, _) in zip(names, sent, strict=True)))
    got = [
        (await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=name), timeout_s=10)).record for name in names
    ]
    assert got[0].image_sha256 == got[1].image_sha256
    for name, (_, values) in zip(names, sent, strict=True):
        deep = (await image_of(stub, name, image_pb2.IMAGE_VARIANT_PIXELS))[1]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(deep))), values)
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=names[:1]), timeout_s=10)
    deep = (await image_of(stub, names[1], image_pb2.IMAGE_VARIANT_PIXELS))[1]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(deep))), sent[1][1])


def pixels(**fields: Any) -> record_pb2.Pixels:
    made = record_pb2.Pixels()
    made.CopyFrom(HU)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def windows(*given: tuple[str, float, float]) -> record_pb2.Pixels:
    return record_pb2.Pixels(
        bits=12,
        slope=1,
        windows=[record_pb2.PixelWindow(name=name, center=center, width=width) for name, center, width in given],
    )


BAD_PIXELS = {
    "no bits": pixels(bits=0),
    "8 bits": pixels(bits=8),
    "17 bits": pixels(bits=17),
    "fewer bits than the values": pixels(bits=10),
    "no slope": pixels(slope=0),
    "slope nan": pixels(slope=math.nan),
    "slope inf": pixels(slope=math.inf),
    "intercept inf": pixels(intercept=-math.inf),
    "long unit": pixels(unit="x" * 17),
    "unit of two lines": pixels(unit="H\nU"),
    "width 0": windows(("a", 1, 0)),
    "width below 0": windows(("a", 1, -1)),
    "width nan": windows(("a", 1, math.nan)),
    "center inf": windows(("a", math.inf, 1)),
    "long name": windows(("x" * 65, 1, 1)),
    "17 windows": windows(*[("a", 1, 1)] * 17),
}


@pytest.mark.parametrize("given", BAD_PIXELS.values(), ids=BAD_PIXELS)
async def test_pixels_that_mean_nothing_are_refused(stub: Stub, given: record_pb2.Pixels) -> None:
    data, _ = deep_png()
    outcomes = await upsert(stub, parts(record("bad"), data, pixels=given), parts(record("after"), picture(2)))
    assert [(outcome.state, outcome.error.code) for outcome in outcomes] == [
        (REJECTED, "PIXELS_INVALID"),
        (CREATED, ""),
    ]
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["after"]), timeout_s=10)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_an_image_of_8_bits_has_no_pixels(stub: Stub, atlas: str, form: str) -> None:
    [outcome] = await upsert(stub, parts(record("bad"), picture(1, form), pixels=HU))
    assert (outcome.state, outcome.error.code) == (REJECTED, "PIXELS_INVALID")
    [outcome] = await upsert(stub, parts(record(f"{atlas}-03"), pixels=HU))
    assert (outcome.state, outcome.error.code) == (REJECTED, "PIXELS_INVALID")


async def test_a_patient_file_says_what_its_pixels_mean_and_nothing_else(stub: Stub, atlas: str) -> None:
    name = f"PLANTED-{secrets.token_hex(8)}"
    [outcome] = await upsert(stub, parts(record(f"{atlas}-09"), dicom(5, name)))
    assert outcome.state == UPDATED, outcome
    got = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=f"{atlas}-09"), timeout_s=10)
    assert (got.record.pixels.bits, got.record.pixels.unit, got.record.pixels.intercept) == (12, "HU", -1024)
    assert [(each.center, each.width) for each in got.record.pixels.windows] == [(976, 2000)]
    for variant in (image_pb2.IMAGE_VARIANT_DISPLAY, image_pb2.IMAGE_VARIANT_PIXELS, image_pb2.IMAGE_VARIANT_THUMBNAIL):
        assert name.encode() not in (await image_of(stub, f"{atlas}-09", variant))[1]
    [outcome] = await upsert(stub, parts(record("bad"), dicom(6, name, burned_in="YES")))
    assert (outcome.state, outcome.error.code) == (REJECTED, "IMAGE_BURNED_IN")
    assert name not in outcome.error.message


def bomb(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


TEXT = query_pb2.Term(text="axial section")
BAD_IMAGES = {
    "IMAGE_EMPTY": b"",
    "IMAGE_TOO_SMALL": bomb(1, 1),
    "IMAGE_UNREADABLE": picture(1, "JPEG", 300)[:1000],
    "IMAGE_TOO_MANY_PIXELS": bomb(60_000, 60_000),
    "IMAGE_FORMAT_UNSUPPORTED": b"%PDF-1.7\n" + bytes(500),
    "IMAGE_TOO_LARGE": b"\x89PNG\r\n\x1a\n" + bytes(20 * 2**20),
}
BAD_QUERIES: list[tuple[str, Callable[[str, int], query_pb2.Query]]] = [
    ("EMPTY_QUERY", lambda *_: query_pb2.Query(variety=True)),
    ("TERM_EMPTY", lambda *_: query_pb2.Query(terms=[query_pb2.Term()])),
    ("TERM_EMPTY", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text=" ")])),
    ("TEXT_TOO_LONG", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a" * 10_000)])),
    ("K_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], k=0)),
    ("K_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], k=-5)),
    ("K_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], k=10**9)),
    ("TOO_MANY_TERMS", lambda *_: query_pb2.Query(terms=[TEXT] * 17)),
    ("QUERY_CANCELS_OUT", lambda *_: query_pb2.Query(terms=[TEXT, query_pb2.Term(text="axial section", weight=-1)])),
    ("WEIGHT_NOT_FINITE", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a", weight=math.nan)])),
    ("WEIGHT_NOT_FINITE", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a", weight=math.inf)])),
    ("WEIGHTS_ALL_ZERO", lambda *_: query_pb2.Query(terms=[query_pb2.Term(text="a", weight=0)])),
    (
        "VECTOR_WRONG_DIMENSION",
        lambda *_: query_pb2.Query(terms=[query_pb2.Term(vector=vector_to_proto(np.array([1, 2], np.float32)))]),
    ),
    (
        "VECTOR_NOT_FINITE",
        lambda _, d: query_pb2.Query(
            terms=[query_pb2.Term(vector=vector_to_proto(np.array([math.nan] * d, np.float32)))]
        ),
    ),
    (
        "VECTOR_NOT_FINITE",
        lambda _, d: query_pb2.Query(
            terms=[query_pb2.Term(vector=vector_to_proto(np.array([math.inf] * d, np.float32)))]
        ),
    ),
    (
        "VECTOR_ZERO",
        lambda _, d: query_pb2.Query(terms=[query_pb2.Term(vector=vector_to_proto(np.array([0.0] * d, np.float32)))]),
    ),
    ("MIN_SCORE_OUT_OF_RANGE", lambda *_: query_pb2.Query(terms=[TEXT], min_score=math.nan)),
    ("PAGE_TOKEN_INVALID", lambda *_: query_pb2.Query(terms=[TEXT], page_token="AAAA")),
    ("FACET_UNKNOWN", lambda *_: query_pb2.Query(terms=[TEXT], where={"colour": facet_pb2.StringList(values=["red"])})),
    ("FACET_VALUE_INVALID", lambda *_: query_pb2.Query(terms=[TEXT], where={"plane": facet_pb2.StringList()})),
    ("ID_INVALID", lambda *_: query_pb2.Query(terms=[query_pb2.Term(id="../../etc/passwd")])),
    ("ID_INVALID", lambda *_: query_pb2.Query(terms=[TEXT], exclude_ids=["../x"])),
    ("RECORD_NOT_FOUND", lambda *_: query_pb2.Query(terms=[query_pb2.Term(id="no-such-record")])),
    ("REQUEST_MALFORMED", lambda *_: query_pb2.Query(terms=[TEXT], vectors=query_pb2.VectorSpace.ValueType(9))),
    ("REQUEST_MALFORMED", lambda *_: query_pb2.Query(terms=[TEXT], vectors=query_pb2.VECTOR_SPACE_UNSPECIFIED)),
    (
        "REQUEST_MALFORMED",
        lambda *_: query_pb2.Query(terms=[query_pb2.Term(vector=vector_pb2.Vector(float32=b"12345"))]),
    ),
    *(
        (code, lambda *_, data=data: query_pb2.Query(terms=[query_pb2.Term(image=data)]))
        for code, data in BAD_IMAGES.items()
    ),
]


async def code_of(call: Awaitable[Any]) -> str:
    with pytest.raises(MirageError) as caught:
        await call
    return caught.value.code


@pytest.mark.parametrize(("code", "make"), BAD_QUERIES, ids=[f"{n}-{code}" for n, (code, _) in enumerate(BAD_QUERIES)])
async def test_a_bad_query_gets_its_error_and_the_next_good_one_an_answer(
    stub: Stub, atlas: str, code: str, make: Callable[[str, int], query_pb2.Query]
) -> None:
    query = make(atlas, (await collection(stub)).dimension)
    request = retriever_pb2.SearchRequest(query=query)
    assert await code_of(invoke(stub.Search, request, timeout_s=30)) == code
    assert len(ids(await search(stub, TEXT, k=3))) == 3


async def test_a_page_token_of_another_query_is_refused(stub: Stub, atlas: str) -> None:
    token = (await search(stub, TEXT, k=3)).next_page_token
    assert (
        await code_of(search(stub, query_pb2.Term(text="coronal section"), k=3, page_token=token))
        == "PAGE_TOKEN_INVALID"
    )
    assert await code_of(search(stub, TEXT, k=3, min_score=0, page_token=token)) == "PAGE_TOKEN_INVALID"


def generated(form: str, **options: Any) -> bytes:
    """A picture whose metadata says that a model made it."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(buffer, form, **options)
    return buffer.getvalue()


def labelled_copy() -> bytes:
    """A picture with the visible label, saved again without metadata."""
    buffer = io.BytesIO()
    pixels = np.asarray(Image.open(io.BytesIO(picture(1, side=128))).convert("RGB"))
    Image.fromarray(draw_label(pixels)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


SAID = PngImagePlugin.PngInfo()
SAID.add_text("ai_generated", "true")
XMP = b'<a DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
SYNTHETIC_IMAGES = (
    generated("PNG", pnginfo=SAID),
    generated("JPEG", xmp=XMP),
    generated("WEBP", xmp=XMP),
    labelled_copy(),
)

BAD_RECORDS: list[tuple[str, Callable[[], list[Part]]]] = [
    ("ID_INVALID", lambda: parts(record("../x"), picture(1))),
    ("ID_INVALID", lambda: parts(record(""), picture(1))),
    ("RECORD_INVALID", lambda: parts(record("bad", ""), picture(1))),
    ("CAPTION_TOO_LONG", lambda: parts(record("bad", "a" * 20_001), picture(1))),
    ("FACET_UNKNOWN", lambda: parts(record("bad", colour="red"), picture(1))),
    ("FACET_VALUE_INVALID", lambda: parts(record("bad", plane="Axial"), picture(1))),
    ("SYNTHETIC_REFUSED", lambda: parts(record("bad", synthetic="generated"), picture(1))),
    *(("SYNTHETIC_REFUSED", lambda data=data: parts(record("bad"), data)) for data in SYNTHETIC_IMAGES),
    *((code, lambda data=data: parts(record("bad"), data)) for code, data in BAD_IMAGES.items()),
]


@pytest.mark.parametrize(("code", "make"), BAD_RECORDS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(BAD_RECORDS)])
async def test_a_bad_record_is_rejected_and_its_neighbours_are_kept(
    stub: Stub, code: str, make: Callable[[], list[Part]]
) -> None:
    outcomes = await upsert(stub, parts(record("before"), picture(1)), make(), parts(record("after"), picture(2)))
    assert [outcome.state for outcome in outcomes] == [CREATED, REJECTED, CREATED]
    assert outcomes[1].error.code == code
    request = retriever_pb2.DeleteRecordsRequest(ids=["before", "after"])
    assert (await invoke(stub.DeleteRecords, request, timeout_s=10)).deleted == 2
    assert (await collection(stub)).records == 0


async def test_original_labels_about_a_person_are_not_stored_and_are_named(stub: Stub) -> None:
    message = record("person")
    message.original_labels.update(
        {
            "Patient Name": "Mustermann^Erika",
            "MRN": "4711",
            "Fecha de nacimiento": "1970-01-01",
            "Structure name": "thalamus",
        }
    )
    outcomes = await upsert(stub, parts(message, picture(1)))
    try:
        assert outcomes[0].state == CREATED
        assert sorted(outcomes[0].left_out) == ["Fecha de nacimiento", "MRN", "Patient Name"]
        assert (await upsert(stub, parts(message, picture(1))))[0].state == UNCHANGED
        reply = await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id="person"), timeout_s=10)
        assert dict(reply.record.original_labels) == {"Plane": "TRA", "Structure name": "thalamus"}
    finally:
        await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["person"]), timeout_s=10)


async def test_a_filter_may_be_written_in_any_case(stub: Stub, atlas: str) -> None:
    where = {"Plane": facet_pb2.StringList(values=["AXIAL "])}
    assert len(ids(await search(stub, query_pb2.Term(text="axial section"), where=where))) == 4
    request = retriever_pb2.ListFacetsRequest(where=where)
    facets = (await invoke(stub.ListFacets, request, timeout_s=10)).facets
    assert [(value.value, value.count) for value in next(f for f in facets if f.name == "licence").values] == [
        ("cc0-1.0", 4)
    ]


async def test_a_stream_that_is_no_upsert_is_refused(stub: Stub) -> None:
    chunk = Part(part=record_pb2.RecordPart(image_chunk=b"x"))
    assert await code_of(upsert(stub, [chunk])) == "UPSERT_OUT_OF_ORDER"
    assert await code_of(upsert(stub, [Part()])) == "REQUEST_MALFORMED"
    large = Part(part=record_pb2.RecordPart(image_chunk=bytes(2**20 + 1)))
    assert await code_of(upsert(stub, parts(record("a")), [large])) == "REQUEST_MALFORMED"
    assert await upsert(stub) == []


@pytest.mark.parametrize("id_", ["../x", "..", "a/../b", "%2e%2e", "", "a" * 129, "-a"])
async def test_an_id_is_an_id_everywhere(stub: Stub, id_: str) -> None:
    calls: list[Awaitable[Any]] = [
        invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id=id_), timeout_s=10),
        image_of(stub, id_, image_pb2.IMAGE_VARIANT_DISPLAY),
        invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=[id_]), timeout_s=10),
        invoke(
            stub.FlagRecord,
            retriever_pb2.FlagRecordRequest(record_id=id_, reason=flag_pb2.FLAG_REASON_OTHER),
            timeout_s=10,
        ),
    ]
    for call in calls:
        assert await code_of(call) == "ID_INVALID"


async def test_an_unknown_id_is_not_found_everywhere(stub: Stub) -> None:
    calls: list[Awaitable[Any]] = [
        invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id="none"), timeout_s=10),
        image_of(stub, "none", image_pb2.IMAGE_VARIANT_THUMBNAIL),
        invoke(
            stub.FlagRecord,
            retriever_pb2.FlagRecordRequest(record_id="none", reason=flag_pb2.FLAG_REASON_OTHER),
            timeout_s=10,
        ),
    ]
    for call in calls:
        assert await code_of(call) == "RECORD_NOT_FOUND"


async def test_counts_have_limits(stub: Stub) -> None:
    many = retriever_pb2.DeleteRecordsRequest(ids=[f"i{n}" for n in range(1_001)])
    assert await code_of(invoke(stub.DeleteRecords, many, timeout_s=10)) == "TOO_MANY_ITEMS"
    none = retriever_pb2.DeleteRecordsRequest()
    assert await code_of(invoke(stub.DeleteRecords, none, timeout_s=10)) == "TOO_MANY_ITEMS"
    facets = retriever_pb2.ListFacetsRequest(limit=0)
    assert await code_of(invoke(stub.ListFacets, facets, timeout_s=10)) == "K_OUT_OF_RANGE"
    flags = retriever_pb2.ListFlagsRequest(page_size=1_001)
    assert await code_of(invoke(stub.ListFlags, flags, timeout_s=10)) == "K_OUT_OF_RANGE"


async def test_what_a_dataset_says_of_a_record_is_kept_and_found_by_words(stub: Stub, png: bytes) -> None:
    fields: dict[str, Any] = {
        "title": "Quixotic lipoma",
        "findings": "A fatty zorblatt of the shoulder.",
        "history": "Swelling since May.",
        "impression": "Benign.",
        "keywords": ["zorblatt", "shoulder"],
        "case_id": "case 7",
        "position": 2,
    }
    message = record("worded", "Axial T1.", modality="mr")
    message.MergeFrom(record_pb2.Record(**fields))
    [outcome] = await upsert(stub, parts(message, png))
    assert outcome.state == record_pb2.UPSERT_STATE_CREATED
    kept = (await invoke(stub.GetRecord, retriever_pb2.GetRecordRequest(id="worded"), timeout_s=10)).record
    assert {name: getattr(kept, name) for name in fields} == fields
    [outcome] = await upsert(stub, parts(message))
    assert outcome.state == record_pb2.UPSERT_STATE_UNCHANGED

    async def corrected() -> query_pb2.SearchReply | None:
        reply = await search(stub, query_pb2.Term(text="shoulder zorblat"))
        return reply if reply.words.corrected else None

    reply = await until(corrected)
    first = reply.results[0]
    assert first.record.id == "worded"
    assert first.section == query_pb2.SECTION_WORDS
    assert first.HasField("cosine")
    found = {path: [(span.start, span.end) for span in spans.spans] for path, spans in first.matched.items()}
    assert found == {"findings": [(8, 16), (24, 32)], "keywords.0": [(0, 8)], "keywords.1": [(0, 8)]}
    assert reply.match == query_pb2.MATCH_GOOD
    assert [(each.given, each.used) for each in reply.words.corrected] == [("zorblat", "zorblatt")]
    assert all(result.section == query_pb2.SECTION_LIKENESS for result in reply.results[1:])

    reply = await search(stub, query_pb2.Term(text="zorblatt ultrasound"), mode=query_pb2.SEARCH_MODE_WORDS)
    assert [result.record.id for result in reply.results] == ["worded"]
    assert not reply.results[0].HasField("cosine")
    assert reply.match == query_pb2.MATCH_WEAK
    assert [(each.facet, each.value, each.count) for each in reply.words.labels] == [("modality", "us", 0)]
    reply = await search(stub, query_pb2.Term(text="zorblatt"), mode=query_pb2.SEARCH_MODE_IMAGES)
    assert reply.results[0].section == query_pb2.SECTION_UNSPECIFIED
    assert not reply.HasField("words")
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=["worded"]), timeout_s=10)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"title": "x" * 501}, "title"),
        ({"findings": "x" * 20_001}, "findings"),
        ({"history": "x" * 20_001}, "history"),
        ({"impression": "x" * 20_001}, "impression"),
        ({"keywords": ["x"] * 65}, "keywords"),
        ({"keywords": ["x" * 201]}, "keywords"),
        ({"keywords": [" "]}, "keywords"),
        ({"case_id": "x" * 129}, "case_id"),
        ({"case_id": "two\nlines"}, "case_id"),
        ({"position": -1}, "position"),
        ({"position": 100_001}, "position"),
    ],
)
async def test_a_text_of_a_record_that_is_wrong_is_named(
    stub: Stub, png: bytes, fields: dict[str, Any], wrong: str
) -> None:
    message = record("wrong")
    message.MergeFrom(record_pb2.Record(**fields))
    [outcome] = await upsert(stub, parts(message, png))
    assert (outcome.state, outcome.error.code) == (record_pb2.UPSERT_STATE_REJECTED, "RECORD_INVALID")
    assert outcome.error.metadata["field"] == wrong


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": query_pb2.SEARCH_MODE_UNSPECIFIED},
        {"mode": 77},
        {"mode": query_pb2.SEARCH_MODE_WORDS, "vectors": query_pb2.VECTOR_SPACE_IMAGE},
    ],
)
async def test_a_mode_that_is_none_is_refused(stub: Stub, fields: dict[str, Any]) -> None:
    with pytest.raises(MirageError) as refused:
        await search(stub, query_pb2.Term(text="x"), **fields)
    assert refused.value.code is Code.REQUEST_MALFORMED


async def test_words_of_an_image_or_of_several_terms_are_refused(stub: Stub, png: bytes) -> None:
    for terms in ([query_pb2.Term(image=png)], [query_pb2.Term(text="a"), query_pb2.Term(text="b")]):
        with pytest.raises(MirageError) as refused:
            await search(stub, *terms, mode=query_pb2.SEARCH_MODE_WORDS)
        assert refused.value.code is Code.REQUEST_MALFORMED


async def test_a_filter_of_a_hundred_values_is_refused_with_the_limit(stub: Stub) -> None:
    where = {"finding": facet_pb2.StringList(values=[f"v{number}" for number in range(100)])}
    with pytest.raises(MirageError) as refused:
        await search(stub, query_pb2.Term(text="x"), where=where)
    assert refused.value.code is Code.FACET_VALUE_INVALID
    assert "64" in refused.value.message


async def test_a_collection_says_what_was_measured(stub: Stub, png: bytes) -> None:
    await upsert(stub, *(parts(record(f"many{number}", f"Section {number}."), png) for number in range(20)))
    found = await until(lambda: _calibrated(stub))
    assert set(found.kinds) <= {"text", "image", "arithmetic", "caption"}
    assert found.kinds["text"].recall.queries >= 20
    assert -1 <= found.kinds["text"].weak <= found.kinds["text"].good <= 1
    ids = [f"many{number}" for number in range(20)]
    await invoke(stub.DeleteRecords, retriever_pb2.DeleteRecordsRequest(ids=ids), timeout_s=10)


async def _calibrated(stub: Stub) -> collection_pb2.Calibration | None:
    found = (await collection(stub)).calibration
    return found if found.kinds else None
