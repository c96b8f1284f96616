"""A public atlas: what anybody may do, how often, and whose jobs are whose."""

import re
from typing import Any

import grpc
import httpx
import pytest
from pydantic import ValidationError

from mirage_core.rpc_errors import from_rpc_error
from mirage_core.settings import ApiKeys
from mirage_gateway.settings import GatewaySettings
from mirage_protos.v1 import mirage_service_pb2

from .conftest import Gateway, Peer, serving_grpc
from .test_access import KEYS, answer, bearer
from .test_openapi import operations

# All else needs a key.
OPEN = {("get", "/healthz"), ("get", "/readyz"), ("get", "/openapi.json")}
KEYED = {
    ("post", "/v1/records"),
    ("delete", "/v1/records/{id}"),
    ("post", "/v1/records/{id}/flags"),
    ("get", "/v1/flags"),
    ("get", "/v1/collections"),
    ("post", "/v1/collections"),
    ("post", "/v1/collections/{name}/activate"),
    ("delete", "/v1/collections/{name}"),
    ("post", "/v1/quality"),
    ("get", "/v1/ratings"),
    ("post", "/v1/ratings"),
    ("get", "/v1/ratings/{id}"),
    ("delete", "/v1/ratings/{id}"),
    ("post", "/v1/ratings/{id}/items"),
    ("get", "/metrics"),
}
JOB = {"prompt": "axial T1"}
COOKIE = re.compile(r"mirage=[A-Za-z0-9_-]{43}; HttpOnly; Max-Age=\d+; Path=/; SameSite=lax")


@pytest.fixture(params=[KEYS, ""], ids=["with keys", "without keys"])
async def public(gateway: Gateway, request: pytest.FixtureRequest) -> httpx.AsyncClient:
    return await gateway(public_read=True, api_keys=request.param)


async def test_without_a_key_one_may_read_and_write_nothing(public: httpx.AsyncClient) -> None:
    walked = {(method, path) for method, path, _ in operations((await public.get("/openapi.json")).json())}
    assert walked > KEYED | OPEN
    for method, path in sorted(walked):
        response = await answer(public, method, path, None)
        refused = response.status_code == 401
        assert refused is ((method, path) in KEYED), (method, path, response.text)
        if refused:
            assert response.json()["code"] == "API_KEY_MISSING"


async def test_the_page_is_told_what_it_may_offer(gateway: Gateway) -> None:
    http = await gateway(public_read=True, api_keys=KEYS)
    anybody = (await http.get("/v1/access")).json()
    assert anybody["role"] == "public"
    assert {"search", "describe", "create_job"} <= set(anybody["may"])
    assert not {"flag", "write_records", "list_flags"} & set(anybody["may"])
    for role in ("read", "write", "admin"):
        found = (await http.get("/v1/access", headers=bearer(role))).json()
        assert (found["role"], "flag" in found["may"]) == (role, True)
        assert ("write_records" in found["may"]) is (role != "read")
    local = await gateway()
    assert (await local.get("/v1/access")).json()["role"] == "admin"
    closed = await gateway(api_keys=KEYS)
    assert (await closed.get("/v1/access")).status_code == 401


async def test_a_wrong_key_is_refused_and_a_right_one_is_not_limited(gateway: Gateway) -> None:
    http = await gateway(public_read=True, api_keys=KEYS, public_requests_per_minute=2)
    wrong = await http.get("/v1/records/r1", headers={"authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "API_KEY_INVALID")
    for _ in range(5):
        assert (await http.get("/v1/records/r1", headers=bearer("read"))).status_code == 200


@pytest.mark.parametrize(
    ("setting", "method", "path", "body"),
    [
        ("public_requests_per_minute", "GET", "/v1/records/r1", None),
        ("public_searches_per_minute", "POST", "/v1/search", {"text": "x"}),
        ("public_searches_per_minute", "GET", "/v1/records/r1/similar", None),
        ("public_descriptions_per_minute", "POST", "/v1/describe", {"text": "x"}),
        ("public_jobs_per_hour", "POST", "/v1/jobs", JOB),
    ],
)
async def test_an_address_may_do_so_much_and_is_told_when_again(
    gateway: Gateway, setting: str, method: str, path: str, body: Any
) -> None:
    http = await gateway(public_read=True, **{setting: 4})
    answers = [await http.request(method, path, json=body) for _ in range(3)]
    assert [response.status_code < 300 for response in answers] == [True, True, False]
    problem = answers[2]
    assert (problem.status_code, problem.json()["code"]) == (429, "RATE_LIMITED")
    assert int(problem.headers["retry-after"]) >= 1
    # What costs nothing of that is still served.
    assert (await http.get("/healthz")).status_code == 200


async def test_an_address_is_the_one_that_a_trusted_proxy_names(gateway: Gateway) -> None:
    http = await gateway(public_read=True, trusted_proxies="127.0.0.1", public_searches_per_minute=2)

    async def search(address: str) -> int:
        response = await http.post("/v1/search", json={"text": "x"}, headers={"x-forwarded-for": address})
        return response.status_code

    assert [await search("192.0.2.7"), await search("192.0.2.7"), await search("192.0.2.8")] == [200, 429, 200]
    # One client has a whole /64.
    assert [await search("2001:db8::1"), await search("2001:db8::2"), await search("2001:db8:0:1::1")] == [
        200,
        429,
        200,
    ]


class TestJobs:
    async def test_they_belong_to_the_browser_that_made_them(self, gateway: Gateway, peer: Peer) -> None:
        http = await gateway(public_read=True, api_keys=KEYS)
        made = await http.post("/v1/jobs", json=JOB)
        cookie = made.headers["set-cookie"]
        assert COOKIE.fullmatch(cookie), cookie
        job = made.json()["id"]
        assert (await http.get(f"/v1/jobs/{job}")).status_code == 200
        assert [each["id"] for each in (await http.get("/v1/jobs")).json()["jobs"]] == [job]
        again = await http.post("/v1/jobs", json=JOB)
        assert "set-cookie" not in again.headers
        assert len((await http.get("/v1/jobs")).json()["jobs"]) == 2
        # The same address, another browser; and one that makes up a cookie.
        token = cookie.partition("=")[2].partition(";")[0]
        http.cookies.clear()
        for others in ({}, {"cookie": "mirage=" + "x" * 43}, {"cookie": "mirage=short"}):
            assert (await http.get(f"/v1/jobs/{job}", headers=others)).status_code == 404
            assert (await http.post(f"/v1/jobs/{job}/cancel", headers=others)).status_code == 404
            assert (await http.get(f"/v1/jobs/{job}/events", headers=others)).status_code == 404
            assert (await http.get(f"/v1/jobs/{job}/images/0", headers=others)).status_code == 404
            assert (await http.get("/v1/jobs", headers=others)).json()["jobs"] == []
        # Nothing that others see gives the cookie away.
        seen = (await http.get(f"/v1/jobs/{job}", headers=bearer("admin"))).json()
        assert seen["client"].startswith("visitor-")
        assert token not in str(seen)
        assert not [name for name in peer.generator.clients if name and token in name]
        assert (await http.get(f"/v1/jobs/{job}", headers=bearer("read"))).status_code == 404

    async def test_a_key_takes_the_place_of_the_cookie(self, gateway: Gateway, peer: Peer) -> None:
        http = await gateway(public_read=True, api_keys=KEYS)
        response = await http.post("/v1/jobs", json=JOB, headers={**bearer("read"), "cookie": "mirage=" + "x" * 43})
        assert "set-cookie" not in response.headers
        assert peer.generator.clients[-1] == "reader"

    async def test_over_https_the_cookie_is_for_https_alone(self, gateway: Gateway) -> None:
        http = await gateway(public_read=True, trusted_proxies="127.0.0.1")
        response = await http.post("/v1/jobs", json=JOB, headers={"x-forwarded-proto": "https"})
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("__Host-mirage=")
        assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))

    async def test_nothing_but_a_job_sets_a_cookie(self, gateway: Gateway) -> None:
        http = await gateway(public_read=True)
        for path in ("/", "/v1/records/r1", "/v1/jobs", "/v1/jobs/none", "/v1/access"):
            assert "set-cookie" not in (await http.get(path)).headers
        refused = await http.post("/v1/jobs", json={"prompt": ""})
        assert refused.status_code == 422
        assert "set-cookie" not in refused.headers

    async def test_a_visitor_makes_one_image_a_job(self, gateway: Gateway) -> None:
        http = await gateway(public_read=True, api_keys=KEYS)
        many = {**JOB, "images": 2}
        refused = await http.post("/v1/jobs", json=many)
        assert (refused.status_code, refused.json()["metadata"]["field"]) == (422, "images")
        assert (await http.post("/v1/jobs", json=many, headers=bearer("read"))).status_code == 202


@pytest.mark.parametrize("keys", [KEYS, ""])
async def test_over_grpc_nothing_is_public(peer: Peer, keys: str) -> None:
    async with serving_grpc(peer, public_read=True, api_keys=keys) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetRecord(mirage_service_pb2.GetRecordRequest(id="r1"))
    assert from_rpc_error(caught.value, service="gateway").code == "API_KEY_MISSING"


class TestStart:
    @pytest.mark.parametrize(
        "settings",
        [
            {"allowed_hosts": "atlas.example"},
            {"allowed_hosts": "gateway,atlas.example:8443"},
            {"allowed_hosts": "192.0.2.7"},
            {"allowed_hosts": "[2001:db8::7]:8080"},
            {"allowed_hosts": "*"},
            {"cors_origins": "*"},
            {"cors_origins": "https://lms.example,*"},
        ],
    )
    def test_strangers_without_keys_are_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="MIRAGE_API_KEYS"):
            GatewaySettings(**settings)
        GatewaySettings(**settings, api_keys=ApiKeys.parse("a:0123456789abcdef"))
        GatewaySettings(**settings, public_read=True)

    @pytest.mark.parametrize(
        "settings",
        [
            {"allowed_hosts": "gateway"},
            {"allowed_hosts": "localhost:9192,127.0.0.1,[::1]:80,atlas.localhost"},
            {"cors_origins": "https://lms.example"},
        ],
    )
    def test_names_of_this_machine_and_its_network_need_none(self, settings: dict[str, Any]) -> None:
        assert GatewaySettings(**settings)

    @pytest.mark.parametrize("place", [{"host": "0.0.0.0"}, {"host": "0.0.0.0", "published": "192.0.2.7"}])
    def test_the_public_is_served_over_tls_or_behind_a_named_proxy(self, place: dict[str, Any], tmp_path: Any) -> None:
        with pytest.raises(ValidationError, match="MIRAGE_GATEWAY_TRUSTED_PROXIES"):
            GatewaySettings(public_read=True, **place)
        assert GatewaySettings(public_read=True, trusted_proxies="192.0.2.1", **place)
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        certificate.touch()
        key.touch()
        assert GatewaySettings(public_read=True, tls_certificate=certificate, tls_key=key, **place)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_on_this_machine_it_needs_neither(self, host: str) -> None:
        assert GatewaySettings(public_read=True, host=host).asks_for_keys

    def test_it_has_a_variable_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MIRAGE_PUBLIC_READ", "true")
        assert GatewaySettings().public_read
