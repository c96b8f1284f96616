"""Bad input to collections, look-ups, walks and guesses, over HTTP and gRPC alike: named, and the next good request works."""

import base64
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2

from mirage_protos.v1 import mirage_service_pb2, mirage_service_pb2_grpc, record_pb2

PDF = b"%PDF-1.7 no image"
CASES: list[tuple[str, str, str, Any, str, Any]] = [
    (
        "IMAGE_FORMAT_UNSUPPORTED",
        "POST",
        "/v1/classify",
        {"image": base64.b64encode(PDF).decode()},
        "ClassifyImage",
        mirage_service_pb2.ClassifyImageRequest(image=PDF),
    ),
    (
        "IMAGE_EMPTY",
        "POST",
        "/v1/classify",
        {"image": ""},
        "ClassifyImage",
        mirage_service_pb2.ClassifyImageRequest(),
    ),
    (
        "ID_INVALID",
        "POST",
        "/v1/records/lookup",
        {"keys": [{"id": "../x"}]},
        "LookupRecords",
        mirage_service_pb2.LookupRecordsRequest(keys=[record_pb2.RecordKey(id="../x")]),
    ),
    (
        "TOO_MANY_ITEMS",
        "POST",
        "/v1/records/lookup",
        {"keys": []},
        "LookupRecords",
        mirage_service_pb2.LookupRecordsRequest(),
    ),
    (
        "COLLECTION_NOT_FOUND",
        "GET",
        "/v1/records?collection=none",
        None,
        "ListRecords",
        mirage_service_pb2.ListRecordsRequest(collection="none"),
    ),
    (
        "PAGE_TOKEN_INVALID",
        "GET",
        "/v1/records?page_token=abc",
        None,
        "ListRecords",
        mirage_service_pb2.ListRecordsRequest(page_token="abc"),
    ),
    (
        "K_OUT_OF_RANGE",
        "GET",
        "/v1/records?limit=0",
        None,
        "ListRecords",
        mirage_service_pb2.ListRecordsRequest(page_size=0),
    ),
    (
        "COLLECTION_NAME_INVALID",
        "POST",
        "/v1/collections",
        {"name": "../up"},
        "CreateCollection",
        mirage_service_pb2.CreateCollectionRequest(name="../up"),
    ),
    (
        "COLLECTION_EXISTS",
        "POST",
        "/v1/collections",
        {"name": "atlas"},
        "CreateCollection",
        mirage_service_pb2.CreateCollectionRequest(name="atlas"),
    ),
    (
        "REQUEST_MALFORMED",
        "POST",
        "/v1/collections",
        {"name": "a", "dimension": 4},
        "CreateCollection",
        mirage_service_pb2.CreateCollectionRequest(name="a", dimension=4),
    ),
    (
        "COLLECTION_NOT_FOUND",
        "POST",
        "/v1/collections/none/activate",
        None,
        "ActivateCollection",
        mirage_service_pb2.ActivateCollectionRequest(name="none"),
    ),
    (
        "COLLECTION_ACTIVE",
        "DELETE",
        "/v1/collections/atlas",
        None,
        "DeleteCollection",
        mirage_service_pb2.DeleteCollectionRequest(name="atlas"),
    ),
    (
        "K_OUT_OF_RANGE",
        "GET",
        "/v1/flags?limit=5000",
        None,
        "ListFlags",
        mirage_service_pb2.ListFlagsRequest(page_size=5000),
    ),
]


@pytest.mark.parametrize(("code", "method", "path", "body", "rpc", "message"), CASES)
async def test_bad_input_is_named_over_http_and_grpc_and_harms_nothing(
    system: Any, code: str, method: str, path: str, body: Any, rpc: str, message: Any
) -> None:
    async with httpx.AsyncClient(base_url=system.http_url, timeout=30) as http:
        assert (await http.request(method, path, json=body)).json()["code"] == code
        assert (await http.get("/v1/collections")).json()["collections"][0]["active"]
    async with grpc.aio.insecure_channel(system.grpc_address) as channel:
        stub = mirage_service_pb2_grpc.MirageServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, rpc)(message, timeout=30)
        trailers = dict(caught.value.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == code
        assert (await stub.ListCommonQueries(mirage_service_pb2.ListCommonQueriesRequest(), timeout=30)).queries
