"""Every bad input that a caller can send, over HTTP and over gRPC: its catalogue error, and the next good request works."""

import base64
import io
import json
import math
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from PIL import Image

from mirage_core.vectors import vector_to_proto
from mirage_protos.v1 import mirage_service_pb2, mirage_service_pb2_grpc, query_pb2, record_pb2

GOOD_TEXT = "axial T1 brain MRI"


def picture(side: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(buffer, form)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD_IMAGES = {
    "empty image": (b"", "IMAGE_EMPTY"),
    "1x1 image": (picture(1), "IMAGE_TOO_SMALL"),
    "truncated JPEG": (picture(400, "JPEG")[:1500], "IMAGE_UNREADABLE"),
    "decompression bomb": (bomb(60_000, 60_000), "IMAGE_TOO_MANY_PIXELS"),
    "PDF named .png": (b"%PDF-1.7\n" + bytes(500), "IMAGE_FORMAT_UNSUPPORTED"),
    "21 MB image": (b"\x89PNG\r\n\x1a\n" + bytes(21 * 2**20), "IMAGE_TOO_LARGE"),
}

# name -> (terms, other fields of the query, code). A term is {"text"|"id"|"vector"|"image": ..., "weight"?: ...}.
BAD_QUERIES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "no terms": ([], {"min_score": 0.5}, "EMPTY_QUERY"),
    "empty text": ([{"text": ""}], {}, "TERM_EMPTY"),
    "blank text": ([{"text": " \n\t "}], {}, "TERM_EMPTY"),
    "10,000 characters": ([{"text": "a" * 10_000}], {}, "TEXT_TOO_LONG"),
    "k of 0": ([{"text": GOOD_TEXT}], {"k": 0}, "K_OUT_OF_RANGE"),
    "k of -5": ([{"text": GOOD_TEXT}], {"k": -5}, "K_OUT_OF_RANGE"),
    "k of 10^9": ([{"text": GOOD_TEXT}], {"k": 10**9}, "K_OUT_OF_RANGE"),
    "17 terms": ([{"text": f"t{i}"} for i in range(17)], {}, "TOO_MANY_TERMS"),
    "q - q": ([{"text": GOOD_TEXT}, {"text": GOOD_TEXT, "weight": -1.0}], {}, "QUERY_CANCELS_OUT"),
    "NaN weight": ([{"text": GOOD_TEXT, "weight": math.nan}], {}, "WEIGHT_NOT_FINITE"),
    "infinite weight": ([{"text": GOOD_TEXT, "weight": math.inf}], {}, "WEIGHT_NOT_FINITE"),
    "all weights zero": ([{"text": GOOD_TEXT, "weight": 0.0}], {}, "WEIGHTS_ALL_ZERO"),
    "wrong dimension": ([{"vector": [1.0, 2.0, 3.0]}], {}, "VECTOR_WRONG_DIMENSION"),
    "unknown id": ([{"id": "no-such-record"}], {}, "RECORD_NOT_FOUND"),
    "id with ../": ([{"id": "../../etc/passwd"}], {}, "ID_INVALID"),
    "unknown facet": ([{"text": GOOD_TEXT}], {"where": {"colour": ["red"]}}, "FACET_UNKNOWN"),
    "min_score of 2": ([{"text": GOOD_TEXT}], {"min_score": 2.0}, "MIN_SCORE_OUT_OF_RANGE"),
    "min_score of NaN": ([{"text": GOOD_TEXT}], {"min_score": math.nan}, "MIN_SCORE_OUT_OF_RANGE"),
    "forged page token": ([{"text": GOOD_TEXT}], {"page_token": "AAAA"}, "PAGE_TOKEN_INVALID"),
}


@pytest.fixture
def http(system: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.http_url, timeout=30) as client:
        yield client
        good = client.post("/v1/search", json={"text": GOOD_TEXT, "k": 3})
        assert good.status_code == 200, good.text
        assert len(good.json()["results"]) == 3


@pytest.fixture
async def stub(system: Any) -> "AsyncIterator[mirage_service_pb2_grpc.MirageServiceAsyncStub]":
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(system.grpc_address, options=options) as channel:
        stub = mirage_service_pb2_grpc.MirageServiceStub(channel)
        yield stub
        good = await stub.Search(
            mirage_service_pb2.SearchRequest(query=query([{"text": GOOD_TEXT}], {"k": 3})), timeout=30
        )
        assert len(good.reply.results) == 3


def term(value: dict[str, Any]) -> query_pb2.Term:
    message = query_pb2.Term()
    if "weight" in value:
        message.weight = value["weight"]
    if "vector" in value:
        message.vector.CopyFrom(vector_to_proto(np.array(value["vector"], np.float32)))
    for name in ("text", "id", "image"):
        if name in value:
            setattr(message, name, value[name])
    return message


def query(terms: list[dict[str, Any]], fields: dict[str, Any]) -> query_pb2.Query:
    message = query_pb2.Query(terms=[term(each) for each in terms])
    for name, value in fields.items():
        if name == "where":
            for facet, values in value.items():
                message.where[facet].values.extend(values)
        else:
            setattr(message, name, value)
    return message


def problem_code(response: httpx.Response) -> str:
    assert response.headers["content-type"].startswith("application/problem+json"), response.text
    body = response.json()
    assert body["status"] == response.status_code >= 400
    assert "Traceback" not in response.text
    return str(body["code"])


async def rpc_code(call: Callable[[], Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call()
    for key, value in caught.value.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return str(info.reason)
    return f"no ErrorInfo: {caught.value!r}"


@pytest.mark.parametrize("name", BAD_QUERIES)
def test_a_bad_query_over_http_gets_its_error(http: httpx.Client, name: str) -> None:
    terms, fields, code = BAD_QUERIES[name]
    # json.dumps writes NaN and Infinity, as careless clients do.
    body = json.dumps({"terms": terms, **fields})
    response = http.post("/v1/search", content=body, headers={"content-type": "application/json"})
    # NaN is no JSON: a gateway that says so is as right as one that names the weight.
    accepted = {code, "REQUEST_MALFORMED"} if "NaN" in body or "Infinity" in body else {code}
    assert problem_code(response) in accepted


@pytest.mark.parametrize("name", BAD_QUERIES)
async def test_a_bad_query_over_grpc_gets_its_error(stub: Any, name: str) -> None:
    terms, fields, code = BAD_QUERIES[name]
    request = mirage_service_pb2.SearchRequest(query=query(terms, fields))
    assert await rpc_code(lambda: stub.Search(request, timeout=30)) == code


@pytest.mark.parametrize("component", [math.nan, math.inf])
async def test_a_vector_that_is_not_finite_is_refused(stub: Any, system: Any, component: float) -> None:
    dimension = (await stub.GetCollection(mirage_service_pb2.GetCollectionRequest(), timeout=30)).collection.dimension
    request = mirage_service_pb2.SearchRequest(query=query([{"vector": [component, *[1.0] * (dimension - 1)]}], {}))
    assert await rpc_code(lambda: stub.Search(request, timeout=30)) == "VECTOR_NOT_FINITE"


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_over_http_gets_its_error(http: httpx.Client, name: str) -> None:
    data, code = BAD_IMAGES[name]
    response = http.post("/v1/search", json={"image": base64.b64encode(data).decode()})
    assert problem_code(response) == code


@pytest.mark.parametrize("name", BAD_IMAGES)
async def test_a_bad_image_over_grpc_gets_its_error(stub: Any, name: str) -> None:
    data, code = BAD_IMAGES[name]
    request = mirage_service_pb2.SearchRequest(query=query_pb2.Query(terms=[query_pb2.Term(image=data)]))
    assert await rpc_code(lambda: stub.Search(request, timeout=30)) == code


def test_a_40_mb_upload_over_http_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/search", content=b"x" * 40 * 2**20, headers={"content-type": "application/json"})
    assert problem_code(response) == "REQUEST_TOO_LARGE"
    assert response.status_code == 413


async def test_a_40_mb_message_over_grpc_is_refused(stub: Any) -> None:
    request = mirage_service_pb2.SearchRequest(query=query_pb2.Query(terms=[query_pb2.Term(image=bytes(40 * 2**20))]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Search(request, timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "path",
    [
        "/v1/records/{}",
        "/v1/records/{}/similar",
        "/v1/images/{}",
        "/v1/images/{}/thumbnail",
        "/{}",
        "/static/{}",
        "/v1/{}",
    ],
)
@pytest.mark.parametrize(
    "climb", ["../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..\\..\\etc"]
)
def test_no_path_climbs_out(http: httpx.Client, system: Any, path: str, climb: str) -> None:
    # Sent as raw bytes: httpx would tidy the path up.
    host, port = system.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"GET {path.format(climb)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500
    assert b"root:" not in answer


@pytest.mark.parametrize("method", ["GetRecord", "FindSimilar"])
@pytest.mark.parametrize(("bad", "code"), [("../../etc/passwd", "ID_INVALID"), ("no-such-record", "RECORD_NOT_FOUND")])
async def test_a_bad_id_over_grpc_gets_its_error(stub: Any, method: str, bad: str, code: str) -> None:
    request = getattr(mirage_service_pb2, f"{method}Request")(id=bad)
    assert await rpc_code(lambda: getattr(stub, method)(request, timeout=30)) == code


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/search", b"{", 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/search", b"[]", 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/search", b'{"text": 7}', 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/search", b'{"text": "x", "colour": 1}', 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/search", b'{"image": "not base64!"}', 400, "REQUEST_MALFORMED"),
        ("POST", "/v1/search", b"\xff\xfe", 400, "REQUEST_MALFORMED"),
        ("GET", "/v1/nowhere", b"", 404, "ROUTE_NOT_FOUND"),
        ("PUT", "/v1/search", b"{}", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/records/no-such-record", b"", 404, "RECORD_NOT_FOUND"),
        ("GET", "/v1/images/no-such-record", b"", 404, "RECORD_NOT_FOUND"),
    ],
)
def test_a_malformed_http_request_gets_its_error(
    http: httpx.Client, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    response = http.request(method, path, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, problem_code(response)) == (status, code)


async def test_vectors_of_another_model_are_refused(stub: Any) -> None:
    dimension = (await stub.GetCollection(mirage_service_pb2.GetCollectionRequest(), timeout=30)).collection.dimension
    head = record_pb2.RecordHead(
        record=record_pb2.Record(id="foreign", caption="x", licence="CC0-1.0", source="test"),
        image_vector=vector_to_proto(np.array([1.0] * dimension, np.float32)),
        caption_vector=vector_to_proto(np.array([1.0] * dimension, np.float32)),
        fingerprint="0" * 64,
    )

    async def parts() -> AsyncIterator[mirage_service_pb2.UpsertRecordsRequest]:
        yield mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(record=head))
        yield mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=picture(64)))

    reply = await stub.UpsertRecords(parts(), timeout=30)
    assert [outcome.error.code for outcome in reply.outcomes] == ["FINGERPRINT_MISMATCH"]
    request = mirage_service_pb2.GetRecordRequest(id="foreign")
    assert await rpc_code(lambda: stub.GetRecord(request, timeout=30)) == "RECORD_NOT_FOUND"


async def test_one_bad_record_of_an_upsert_does_not_spoil_the_others(stub: Any) -> None:
    async def parts() -> AsyncIterator[mirage_service_pb2.UpsertRecordsRequest]:
        for record_id, data in (
            ("ok-1", picture(64)),
            ("../bad", picture(64)),
            ("bad-2", b"%PDF"),
            ("ok-2", picture(80)),
        ):
            record = record_pb2.Record(id=record_id, caption="a disc", licence="CC0-1.0", source="test")
            yield mirage_service_pb2.UpsertRecordsRequest(
                part=record_pb2.RecordPart(record=record_pb2.RecordHead(record=record))
            )
            yield mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(image_chunk=data))

    try:
        reply = await stub.UpsertRecords(parts(), timeout=60)
        assert [outcome.error.code for outcome in reply.outcomes] == ["", "ID_INVALID", "IMAGE_FORMAT_UNSUPPORTED", ""]
    finally:
        await stub.DeleteRecords(mirage_service_pb2.DeleteRecordsRequest(ids=["ok-1", "ok-2"]), timeout=30)
