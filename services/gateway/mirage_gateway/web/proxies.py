"""The client's address, and what proxies say about it: believed only from proxies that the operator names."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The key of a client's address in the ASGI scope: text such as 192.0.2.7 or 2001:db8::7, empty if not known.
CLIENT = "mirage.client"
# The name by which the client asked a trusted proxy, such as atlas.example:8443; empty if no proxy says.
FORWARDED_HOST = "mirage.forwarded_host"

# A provider gives a subscriber a whole /64, so one client can show that many addresses.
_IPV6_PREFIX = 64


class TrustedProxies:
    """The networks whose X-Forwarded-* headers are believed."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(address in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """Returns the address of the client behind `peer`, from the lines of X-Forwarded-For.

        Each proxy appends the address that it was called from, so the list is read from its end: the first address that is
        not a trusted proxy is the client. What comes before it may be invented by the client, and is not read. An entry
        that is not an address ends the search at the proxy that passed it on.
        """
        found = parse_address(peer)
        if found is None:
            return peer
        entries = [entry for line in forwarded_for for entry in line.split(",")]
        while entries and str(found) in self:
            given = parse_address(_without_port(entries.pop().strip()))
            if given is None:
                break
            found = given
        return str(found)


class ForwardedClient:
    """Wraps an application: sets the client's address, the scheme and the forwarded host in the scope."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request with its scope completed."""
        if scope["type"] == "http":
            peer, port = scope.get("client") or ("", 0)
            address = parse_address(peer)
            client = peer if address is None else str(address)
            scope[FORWARDED_HOST] = ""
            if self._proxies and client in self._proxies:
                headers = Headers(scope=scope)
                forwarded = self._proxies.client_of(client, headers.getlist("x-forwarded-for"))
                client, port = forwarded, port if forwarded == client else 0
                scheme = _last(headers.getlist("x-forwarded-proto")).lower()
                if scheme in ("http", "https"):
                    scope["scheme"] = scheme
                scope[FORWARDED_HOST] = _last(headers.getlist("x-forwarded-host")).lower()
            scope[CLIENT] = client
            scope["client"] = (client, port)
        await self._app(scope, receive, send)


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """Returns the address, an IPv4 address inside IPv6 as IPv4; None if the text is not an address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=4096)
def group_of(client: str) -> str:
    """Returns the key under which limits per client count an address: an IPv6 address counts as its /64."""
    address = parse_address(client)
    if not isinstance(address, ipaddress.IPv6Address):
        return client
    return str(ipaddress.IPv6Network((int(address) >> _IPV6_PREFIX << _IPV6_PREFIX, _IPV6_PREFIX)))


def _without_port(entry: str) -> str:
    # Some proxies write 192.0.2.7:5000 or [2001:db8::7]:5000.
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _last(lines: Sequence[str]) -> str:
    # The proxy next to this server comes last, and is the one that is trusted.
    return lines[-1].rpartition(",")[2].strip() if lines else ""
