"""What each role may do, over HTTP and gRPC: every operation and method there is."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from mirage_core.errors import MirageError
from mirage_core.methods import check_role
from mirage_core.rpc_errors import from_rpc_error
from mirage_core.settings import Identity, Role
from mirage_gateway.access import METHODS
from mirage_protos.v1 import mirage_service_pb2, record_pb2

from .conftest import Gateway, Peer, serving_grpc
from .test_openapi import operations

ROLES = ("read", "write", "admin")
KEYS = ",".join(f"{role}er:{role * 8}:{role}" for role in ROLES)
OPEN = {("get", "/healthz"), ("get", "/readyz"), ("get", "/openapi.json")}
# A token in the path takes the place of a key.
BY_TOKEN = {("get", "/v1/rate/{token}"), ("post", "/v1/rate/{token}"), ("get", "/v1/rate/{token}/images/{n}")}
# All that is not here, a reader may do.
MORE_THAN_READ = {
    ("post", "/v1/records"): "write",
    ("delete", "/v1/records/{id}"): "write",
    ("get", "/v1/flags"): "admin",
    ("post", "/v1/collections"): "admin",
    ("post", "/v1/collections/{name}/activate"): "admin",
    ("delete", "/v1/collections/{name}"): "admin",
    ("post", "/v1/quality"): "admin",
    ("get", "/v1/ratings"): "admin",
    ("post", "/v1/ratings"): "admin",
    ("get", "/v1/ratings/{id}"): "admin",
    ("delete", "/v1/ratings/{id}"): "admin",
    ("post", "/v1/ratings/{id}/items"): "admin",
    ("get", "/metrics"): "admin",
}
MORE_THAN_READ_RPC = {
    "UpsertRecords": "write",
    "DeleteRecords": "write",
    "ListFlags": "admin",
    "CreateCollection": "admin",
    "ActivateCollection": "admin",
    "DeleteCollection": "admin",
    "StoreEvaluation": "admin",
}
SERVICE = mirage_service_pb2.DESCRIPTOR.services_by_name["MirageService"]
UPLOAD = {"record": (None, '{"id": "r1"}'), "image": ("a.png", b"png")}


def may(role: str, least: str) -> bool:
    return ROLES.index(role) >= ROLES.index(least)


def bearer(role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {role * 8}"}


async def answer(http: httpx.AsyncClient, method: str, path: str, role: str | None) -> httpx.Response:
    address = path.replace("{id}", "r1").replace("{name}", "next").replace("{n}", "0").replace("{token}", "t")
    sent: dict[str, Any] = {}
    if method == "post":
        sent = {"files": UPLOAD} if path == "/v1/records" else {"json": {}}
    return await http.request(method, address, headers=bearer(role) if role else {}, **sent)


@pytest.mark.parametrize("role", ROLES)
async def test_over_http_a_role_may_do_this_and_no_more(gateway: Gateway, role: str) -> None:
    http = await gateway(api_keys=KEYS)
    walked = [(method, path) for method, path, _ in operations((await http.get("/openapi.json")).json())]
    assert set(MORE_THAN_READ) < set(walked)
    for method, path in walked:
        least = MORE_THAN_READ.get((method, path), "read")
        response = await answer(http, method, path, role)
        refused = response.status_code == 403 and response.json()["code"] == "ROLE_REQUIRED"
        assert refused is not may(role, least), (method, path, response.text)
        assert response.status_code != 401, (method, path)
        if refused:
            assert response.json()["metadata"] == {"role": least, "given": role}


async def test_over_http_nobody_without_a_key_gets_past_what_is_open(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(api_keys=KEYS)
    walked = [(method, path) for method, path, _ in operations((await http.get("/openapi.json")).json())]
    assert set(walked) > OPEN | BY_TOKEN
    for method, path in set(walked) - BY_TOKEN:
        response = await answer(http, method, path, None)
        assert (response.status_code == 401) is ((method, path) not in OPEN), (method, path)
    assert not peer.script.asked


async def test_a_rater_needs_a_token_and_no_key_and_is_limited_by_address(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(api_keys=KEYS, public_requests_per_minute=4)
    answers = [await http.get(f"/v1/rate/guess-{number}") for number in range(3)]
    assert [response.status_code for response in answers] == [404, 404, 429]
    assert answers[0].json()["code"] == "RATING_NOT_FOUND"
    assert [request.token for request in peer.script.asked] == ["guess-0", "guess-1"]
    # A token is good for nothing else, and a wrong key is not overlooked.
    assert (await http.get("/v1/records/r1")).status_code == 401
    wrong = await http.get("/v1/rate/guess", headers={"authorization": "Bearer wrong"})
    assert wrong.json()["code"] == "API_KEY_INVALID"


async def test_a_refused_upload_is_not_read(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(api_keys=KEYS)

    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body is read")
        yield b""

    headers = {**bearer("read"), "content-type": "multipart/form-data; boundary=x"}
    assert (await http.post("/v1/records", headers=headers, content=body())).status_code == 403
    assert not peer.script.asked


@pytest.fixture
async def stub(peer: Peer) -> AsyncIterator[Any]:
    async with serving_grpc(peer, api_keys=KEYS) as made:
        yield made


async def outcome(stub: Any, method: Any, role: str | None) -> str:
    """The code that a call ends with; OK where it is served."""
    request = getattr(mirage_service_pb2, method.input_type.name)()
    metadata = tuple(bearer(role).items()) if role else ()
    call = getattr(stub, method.name)(iter([request]) if method.client_streaming else request, metadata=metadata)
    try:
        await (call.read() if method.server_streaming else call)
    except grpc.aio.AioRpcError as error:
        return str(from_rpc_error(error, service="gateway").code)
    return "OK"


def test_every_method_has_its_action() -> None:
    assert set(METHODS) == {method.name for method in SERVICE.methods}


@pytest.mark.parametrize("role", ROLES)
async def test_over_grpc_a_role_may_do_the_same(stub: Any, role: str) -> None:
    assert set(MORE_THAN_READ_RPC) < {method.name for method in SERVICE.methods}
    for method in SERVICE.methods:
        refused = await outcome(stub, method, role) == "ROLE_REQUIRED"
        assert refused is not may(role, MORE_THAN_READ_RPC.get(method.name, "read")), method.name


async def test_over_grpc_nobody_without_a_key_gets_in(stub: Any, peer: Peer) -> None:
    for method in SERVICE.methods:
        assert await outcome(stub, method, None) == "API_KEY_MISSING", method.name
    assert not peer.script.asked


async def test_rubbish_in_an_upsert_ends_it_at_once(peer: Peer) -> None:
    async with serving_grpc(peer) as stub:
        head = record_pb2.RecordHead(record=record_pb2.Record(id="n1", caption="c"))
        first = mirage_service_pb2.UpsertRecordsRequest(part=record_pb2.RecordPart(record=head)).SerializeToString()
        raw = stub.channel.stream_unary("/mirage.v1.MirageService/UpsertRecords")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(iter([first, b"\x0a\xff\xff\xff\xff\x0f rubbish"]), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc_error(caught.value, service="gateway").code == "REQUEST_MALFORMED"


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        (Identity("ipv4:10.0.0.7:4000", Role.READ, keyed=False), "API_KEY_REQUIRED"),
        (Identity("teacher", Role.READ), "ROLE_REQUIRED"),
    ],
)
def test_who_may_not_write_is_told_what_it_takes(caller: Identity, code: str) -> None:
    with pytest.raises(MirageError) as caught:
        check_role(caller, Role.WRITE)
    assert caught.value.code == code


@pytest.mark.parametrize("address", ["10.0.0.7", "2001:db8::1", ""])
async def test_without_keys_another_machine_may_only_read(gateway: Gateway, address: str) -> None:
    http = await gateway(address=address)
    refused = await http.delete("/v1/records/r1")
    assert (refused.status_code, refused.json()["code"]) == (403, "API_KEY_REQUIRED")
    assert (await http.get("/v1/records/r1")).status_code == 200
