"""Calls of the retriever over gRPC, and the records and images that its tests use."""

import io
import secrets
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mirage_core.channels import invoke, invoke_stream, invoke_upload
from mirage_core.errors import MirageError
from mirage_protos.retriever.v1 import retriever_pb2
from mirage_protos.v1 import collection_pb2, image_pb2, query_pb2, record_pb2

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


def pixels(**fields: Any) -> record_pb2.Pixels:
    made = record_pb2.Pixels()
    made.CopyFrom(HU)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def bomb(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


BAD_IMAGES = {
    "IMAGE_EMPTY": b"",
    "IMAGE_TOO_SMALL": bomb(1, 1),
    "IMAGE_UNREADABLE": picture(1, "JPEG", 300)[:1000],
    "IMAGE_TOO_MANY_PIXELS": bomb(60_000, 60_000),
    "IMAGE_FORMAT_UNSUPPORTED": b"%PDF-1.7\n" + bytes(500),
    "IMAGE_TOO_LARGE": b"\x89PNG\r\n\x1a\n" + bytes(20 * 2**20),
}


async def code_of(call: Awaitable[Any]) -> str:
    with pytest.raises(MirageError) as caught:
        await call
    return caught.value.code
