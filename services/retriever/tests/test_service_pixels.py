"""Pixels of more than 8 bits over real gRPC, and what their values mean."""

import hashlib
import io
import math
import secrets

import numpy as np
import pytest
from PIL import Image

from mirage_core.channels import invoke
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import image_pb2, query_pb2, record_pb2
from tests.support.old_data import dicom

from .conftest import Stub
from .service_calls import (
    CREATED,
    HU,
    REJECTED,
    UNCHANGED,
    UPDATED,
    code_of,
    ids,
    image_of,
    parts,
    picture,
    pixels,
    record,
    search,
    upsert,
)
from .service_calls import atlas as atlas


def deep_png(number: int = 3) -> tuple[bytes, np.ndarray]:
    """A 16-bit greyscale PNG of 12-bit values, and the values."""
    ramp = np.arange(96 * 96, dtype=np.uint16).reshape(96, 96) % 4096
    values = np.roll(ramp, number, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue(), values


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
