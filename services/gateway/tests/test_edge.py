import asyncio
import json
from typing import Any

import httpx
import pytest
import structlog

from tests.support.waiting import PATIENCE_S

from .conftest import Gateway, Peer

KEYS = "class:0123456789abcdef,head:fedcba9876543210:admin"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/search/", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/page/../settings.py", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/page/settings.py", 404, "ROUTE_NOT_FOUND"),
        ("DELETE", "/v1/search", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "/", 405, "METHOD_NOT_ALLOWED"),
        ("BREW", "/v1/search", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_what_is_not_there_is_a_problem(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_wrong_method_is_told_the_right_ones(http: httpx.AsyncClient) -> None:
    assert (await http.put("/v1/search")).headers["allow"] == "POST"


async def test_a_request_id_comes_back_and_goes_on(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/records/r1", headers={"x-request-id": "lesson-3"})
    assert response.headers["x-request-id"] == "lesson-3"
    response = await http.get("/nowhere", headers={"x-request-id": "a b\x7f"})
    assert response.json()["request_id"] == response.headers["x-request-id"] != "a b\x7f"


async def test_every_answer_is_closed_to_other_pages(http: httpx.AsyncClient) -> None:
    for path in ("/", "/v1/records/r1", "/nowhere", "/v1/images/r1"):
        headers = (await http.get(path, headers={"origin": "https://elsewhere.example"})).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


async def test_an_origin_that_is_named_may_call(gateway: Gateway) -> None:
    http = await gateway(cors_origins="https://lms.example")
    for origin, allowed in (("https://lms.example", "https://lms.example"), ("https://elsewhere.example", None)):
        headers = (await http.get("/v1/records/r1", headers={"origin": origin})).headers
        assert headers.get("access-control-allow-origin") == allowed


async def test_another_name_for_this_machine_is_refused_without_keys(gateway: Gateway) -> None:
    http = await gateway()
    response = await http.get("/v1/records/r1", headers={"host": "rebound.example:8080"})
    assert (response.status_code, response.json()["metadata"]["field"]) == (400, "host")
    http = await gateway(allowed_hosts="atlas")
    assert (await http.get("/v1/records/r1", headers={"host": "Atlas:8080"})).status_code == 200
    assert (await http.get("/v1/records/r1", headers={"host": "[::1]:8080"})).status_code == 200


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "API_KEY_MISSING"),
        ({"authorization": "Basic abc"}, "API_KEY_MISSING"),
        ({"authorization": "Bearer wrong"}, "API_KEY_INVALID"),
    ],
)
async def test_with_keys_set_a_call_needs_one(gateway: Gateway, peer: Peer, header: dict[str, str], code: str) -> None:
    http = await gateway(api_keys=KEYS)
    for path in ("/v1/records/r1", "/v1/images/r1", "/metrics", "/v1/facets"):
        response = await http.get(path, headers=header)
        assert (response.status_code, response.json()["code"]) == (401, code)
        assert response.headers["www-authenticate"] == "Bearer"
    assert not peer.script.asked
    good = await http.get("/v1/records/r1", headers={"authorization": "Bearer 0123456789abcdef"})
    assert good.status_code == 200


async def test_page_probes_and_description_need_no_key(gateway: Gateway) -> None:
    http = await gateway(api_keys=KEYS)
    for path in ("/", "/page/icon.svg", "/compare", "/i/any-record", "/healthz", "/readyz", "/openapi.json"):
        assert (await http.get(path)).status_code == 200


async def test_more_requests_than_it_serves_at_once_are_told_to_come_back(gateway: Gateway, peer: Peer) -> None:
    http = await gateway(max_requests=1)
    peer.script.gate = asyncio.Event()
    first = asyncio.create_task(http.get("/v1/records/r1"))
    await asyncio.wait_for(peer.script.arrived.wait(), timeout=PATIENCE_S)
    second = await http.get("/v1/records/r1")
    assert (second.status_code, second.json()["code"]) == (429, "QUEUE_FULL")
    assert "retry-after" in second.headers
    peer.script.gate.set()
    assert (await first).status_code == 200
    assert (await http.get("/v1/records/r1")).status_code == 200


async def test_a_bug_says_nothing_of_itself(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("planted-secret")

    monkeypatch.setattr("mirage_gateway.web.records.to_model", fail)
    response = await http.get("/v1/records/r1")
    assert (response.status_code, response.json()["code"]) == (500, "INTERNAL")
    assert "planted-secret" not in response.text


async def test_the_log_names_the_route_and_never_the_query(http: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        await http.post("/v1/search", json={"text": "my private question"})
        await http.get("/v1/records/secret-id?x=y")
    text = json.dumps(lines)
    assert "/v1/records/{id}" in text
    assert "private" not in text
    assert "secret-id" not in text


async def test_metrics_are_by_route_and_not_by_address(http: httpx.AsyncClient) -> None:
    await http.get("/v1/records/some-id")
    await http.get("/nowhere-at-all")
    text = (await http.get("/metrics")).text
    assert 'route="/v1/records/{id}"' in text
    assert "some-id" not in text
    assert "nowhere-at-all" not in text
