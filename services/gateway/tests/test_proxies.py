"""Whose word is believed about a client's address, scheme and host."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mirage_gateway.settings import GatewaySettings
from mirage_gateway.web.proxies import CLIENT, FORWARDED_HOST, ForwardedClient, TrustedProxies, group_of

from .conftest import Gateway, Peer

PROXIES = "10.0.0.1, 10.1.0.0/16, fd00::/8"


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope)
    document = {
        "client": scope[CLIENT],
        "peer": list(scope["client"]),
        "scheme": request.url.scheme,
        "host": scope[FORWARDED_HOST],
    }
    await JSONResponse(document)(scope, receive, send)


async def ask(peer: str, *headers: tuple[str, str], proxies: str = PROXIES) -> dict[str, Any]:
    settings = GatewaySettings(trusted_proxies=proxies)
    app = ForwardedClient(show, TrustedProxies(settings.trusted_proxies))
    transport = httpx.ASGITransport(app, client=(peer, 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://atlas.example") as client:
        document: dict[str, Any] = (await client.get("/", headers=list(headers))).json()
    return document


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1", "10.1.2.3"], "198.51.100.1"),
        ("10.0.0.1", ["10.1.2.3, 10.1.2.4"], "10.1.2.3"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, "], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("fd00::5", ["2001:DB8::7"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
    ],
)
async def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(
    peer: str, lines: list[str], client: str
) -> None:
    document = await ask(peer, *(("x-forwarded-for", line) for line in lines))
    assert document["client"] == document["peer"][0] == client


async def test_scheme_and_host_are_believed_from_a_trusted_proxy_only() -> None:
    headers = (("x-forwarded-proto", "https"), ("x-forwarded-host", "Atlas:8443"))
    behind = await ask("10.0.0.1", *headers)
    assert (behind["scheme"], behind["host"]) == ("https", "atlas:8443")
    direct = await ask("192.0.2.7", *headers)
    assert (direct["scheme"], direct["host"]) == ("http", "")
    invented = await ask("10.0.0.1", ("x-forwarded-proto", "gopher"), ("x-forwarded-host", "evil.example, atlas"))
    assert (invented["scheme"], invented["host"]) == ("http", "atlas")


async def test_nobody_is_believed_if_no_proxy_is_named() -> None:
    assert (await ask("127.0.0.1", ("x-forwarded-for", "198.51.100.1"), proxies=""))["client"] == "127.0.0.1"


@pytest.mark.parametrize("value", ["10.0.0.1/8", "proxy.example", "10.0.0.300", "10.0.0.0/40"])
def test_a_proxy_is_named_by_address(value: str) -> None:
    with pytest.raises(ValidationError, match="expected addresses such as"):
        GatewaySettings(trusted_proxies=value)


def test_limits_count_an_ipv6_client_by_its_network() -> None:
    assert group_of("2001:db8:1:2:3::4") == group_of("2001:db8:1:2::9") != group_of("2001:db8:1:3::4")
    assert group_of("192.0.2.7") == "192.0.2.7"
    assert group_of("") == ""


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        # The proxy replaces Host and says nothing; the page's site is one that the operator names.
        ({"allowed_hosts": "atlas"}, {"origin": "https://atlas"}, 200),
        ({"allowed_hosts": "atlas:8443"}, {"origin": "https://atlas:8443"}, 200),
        ({"allowed_hosts": "atlas"}, {"origin": "https://atlas:9000"}, 400),
        ({"allowed_hosts": "atlas"}, {"origin": "https://evil.example"}, 400),
        ({}, {"origin": "https://atlas"}, 400),
        ({"allowed_hosts": "atlas"}, {"origin": "null"}, 400),
        # The proxy keeps Host.
        ({"allowed_hosts": "atlas"}, {"origin": "https://atlas:9000", "host": "atlas:9000"}, 200),
        ({"allowed_hosts": "atlas:8443"}, {"host": "atlas:8443"}, 200),
        ({"allowed_hosts": "atlas"}, {"origin": "https://evil.example", "host": "evil.example"}, 400),
        # A trusted proxy says by which name it was asked: that is the page's site, and has to be an allowed name as well.
        (
            {"allowed_hosts": "atlas", "trusted_proxies": "127.0.0.1"},
            {"origin": "https://atlas:9000", "x-forwarded-host": "atlas:9000"},
            200,
        ),
        (
            {"allowed_hosts": "atlas", "trusted_proxies": "127.0.0.1"},
            {"origin": "https://atlas", "x-forwarded-host": "atlas"},
            200,
        ),
        (
            {"trusted_proxies": "127.0.0.1"},
            {"origin": "https://rebound.example", "x-forwarded-host": "rebound.example"},
            400,
        ),
        # Anybody else may write what it likes there.
        ({"allowed_hosts": "atlas"}, {"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, 400),
        # Another program of this machine is another site.
        ({}, {"origin": "http://localhost:3000"}, 400),
        ({}, {"origin": "http://localhost"}, 200),
    ],
)
async def test_a_page_changes_things_only_under_a_name_of_this_server(
    gateway: Gateway, peer: Peer, settings: dict[str, str], headers: dict[str, str], status: int
) -> None:
    http = await gateway(**settings)
    response = await http.post("/v1/search", json={"text": "x"}, headers=headers)
    assert response.status_code == status
    assert len(peer.script.asked) == (status == 200)
