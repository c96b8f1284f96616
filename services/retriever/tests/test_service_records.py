"""Records and their images over real gRPC: stored, changed, refused and removed."""

import hashlib
import io
import math
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from mirage_core.channels import invoke
from mirage_core.synthetic_label import draw_label
from mirage_core.vectors import vector_to_proto
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import flag_pb2, image_pb2, query_pb2, record_pb2
from tests.support.waiting import until_async as until

from .conftest import Stub
from .service_calls import (
    BAD_IMAGES,
    CREATED,
    REJECTED,
    UNCHANGED,
    UPDATED,
    Part,
    code_of,
    collection,
    ids,
    image_of,
    parts,
    picture,
    record,
    search,
    upsert,
)
from .service_calls import atlas as atlas


@pytest.fixture
def files(data: Path) -> Callable[[], set[str]]:
    """Tells the names of all image files that are stored."""
    return lambda: {path.name for path in (data / "clean").rglob("*") if path.is_file()}


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
